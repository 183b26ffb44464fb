//! All that one writer knows and wants between two appends: the sequencer, who was heard when, what was asked in this batch.
//!
//! No storage and no waiting: the server and the simulator bring those. Things are asked with [`Desk::ask`], the platform's own
//! wishes with [`Desk::reconcile`], round after round. What [`Desk::launch`] gives is stored, and the desk is told what came of it:
//! [`stored`](Desk::stored), [`failed`](Desk::failed), or [`overtaken`](Desk::overtaken) by another writer. An append that failed may be
//! in the log all the same: before anything else is decided the log has to be read, and [`found`](Desk::found) says which it is. What is
//! asked meanwhile is decided on top of what is in flight, and shares its fate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::command::Command;
use crate::decide::decide;
use crate::digest::Digest;
use crate::event::{Actor, Envelope, Event};
use crate::facts::{Contact, Facts};
use crate::ids::{NodeId, RequestId};
use crate::reconcile::{NextRun, reconcile};
use crate::refusal::Refusal;
use crate::state::State;
use crate::units::{Seq, Timestamp};

use super::{Decide, Origin, Sequencer};

/// More rounds than this after one batch, and `reconcile` does not come to rest; a rollout step needs two or three.
pub const ROUNDS_MAX: usize = 16;

/// A writer that looks later than this after it had to has not been there to hear anyone.
pub const LATE_MAX: Duration = Duration::from_secs(1);

pub type Reconcile = fn(&State, &Facts) -> (Vec<Command>, NextRun);

/// What decides and what wishes: the real ones, unless someone tests those who watch them.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub decide: Decide,
    pub reconcile: Reconcile,
}

impl Default for Rules {
    fn default() -> Self {
        Self { decide, reconcile }
    }
}

/// Since when this writer listens, and when it last heard each node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    pub since: Timestamp,
    pub nodes: BTreeMap<NodeId, Contact>,
}

impl Heard {
    pub fn facts(&self, now: Timestamp, entropy: u128) -> Facts {
        Facts { now, entropy, writer_since: self.since, heard: self.nodes.clone() }
    }
}

#[derive(Debug)]
pub struct Desk {
    reconcile: Reconcile,
    sequencer: Sequencer,
    /// As of the newest decision.
    facts: Facts,
    /// In flight first.
    asked: Vec<Ask>,
    /// Of those, so many are in flight.
    launched: usize,
    next_run: NextRun,
}

/// What the log has where a batch was to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// All of it.
    Stored,
    Nothing,
    /// What another writer wrote.
    Others,
}

/// A command with the seq of its last event, or why it was refused.
pub type Decided = (Command, Result<Seq, Refusal>);

/// Something asked of the writer, as it came.
#[derive(Debug, Clone)]
pub struct Ask {
    pub command: Command,
    pub actor: Actor,
    pub request: RequestId,
}

impl Desk {
    pub fn new(state: State, since: Timestamp, rules: Rules) -> Self {
        let sequencer = Sequencer::deciding(state, rules.decide);
        let facts = Facts { writer_since: since, ..Facts::default() };
        Self { reconcile: rules.reconcile, sequencer, facts, asked: Vec::new(), launched: 0, next_run: None }
    }

    /// What is durable.
    pub fn state(&self) -> &Arc<State> {
        self.sequencer.state()
    }

    /// What has to be stored next.
    pub fn batch(&self) -> &[Envelope] {
        self.sequencer.batch()
    }

    pub fn in_flight(&self) -> Option<&Arc<Vec<Envelope>>> {
        self.sequencer.in_flight()
    }

    /// What has to be stored now, all of it in one append; nothing while an earlier batch still is.
    pub fn launch(&mut self) -> Option<Arc<Vec<Envelope>>> {
        let events = self.sequencer.launch()?;
        self.launched = self.asked.len();
        Some(events)
    }

    /// Since when it listens to nodes.
    pub fn since(&self) -> Timestamp {
        self.facts.writer_since
    }

    pub fn heard(&self) -> Heard {
        Heard { since: self.facts.writer_since, nodes: self.facts.heard.clone() }
    }

    /// When there may be something to say although nothing happened.
    pub fn next_run(&self) -> NextRun {
        self.next_run
    }

    /// A node gave a sign of life.
    pub fn hears(&mut self, node: NodeId, images: BTreeSet<Digest>, now: Timestamp) {
        self.refresh(now, self.facts.entropy);
        self.facts.hear(node, Arc::new(images));
    }

    /// Decides what someone asks, and keeps it until it is durable: if another writer overtakes, it is decided again.
    pub fn ask(&mut self, ask: Ask, now: Timestamp, entropy: u128) -> Result<Seq, Refusal> {
        self.asked.push(ask.clone());
        self.decide(ask, now, entropy)
    }

    fn decide(&mut self, ask: Ask, now: Timestamp, entropy: u128) -> Result<Seq, Refusal> {
        let Ask { command, actor, request } = ask;
        self.refresh(now, entropy);
        self.sequencer.submit(command, Origin { actor, request, cause: None }, &self.facts)
    }

    /// Another decision: it is later, and its ids are others. Where it is earlier, the clock was set, and when a node was heard says
    /// nothing any more.
    fn refresh(&mut self, now: Timestamp, entropy: u128) {
        if now < self.facts.now {
            self.listen_anew(now);
        }
        (self.facts.now, self.facts.entropy) = (now, entropy);
    }

    /// Whoever was silent until now could not have been heard here.
    fn listen_anew(&mut self, now: Timestamp) {
        self.facts.writer_since = now;
        self.facts.heard.clear();
    }

    /// One round of what the platform itself wants, each with what became of it: an earlier command of the round may have overtaken a
    /// later one, which is refused then.
    pub fn reconcile(&mut self, now: Timestamp, entropy: &mut dyn FnMut() -> u128) -> Vec<Decided> {
        if self.next_run.is_some_and(|at| now.since(at) > LATE_MAX) {
            // It slept or its clock was set: what nodes said meanwhile may still wait to be read.
            self.listen_anew(now);
        }
        self.refresh(now, entropy());
        let (commands, next_run) = (self.reconcile)(self.sequencer.tentative(), &self.facts);
        self.next_run = next_run;
        let decide = |command: Command| {
            let entropy = entropy();
            self.refresh(now, entropy);
            let request = self.facts.ids().fresh();
            let ask = Ask { command: command.clone(), actor: Actor::System, request };
            (command, self.decide(ask, now, entropy))
        };
        commands.into_iter().map(decide).collect()
    }

    /// What was launched is durable, or all that was asked if nothing was.
    pub fn stored(&mut self) -> Arc<State> {
        if self.in_flight().is_none() {
            self.launched = self.asked.len();
        }
        self.asked.drain(..std::mem::take(&mut self.launched));
        self.sequencer.commit()
    }

    /// What `tail`, the log after what is durable here, has of the batch in flight. Events of two writers differ in their requests at
    /// least.
    pub fn found(&self, tail: &[Envelope]) -> Found {
        match self.in_flight() {
            _ if tail.is_empty() => Found::Nothing,
            Some(batch) if tail.starts_with(batch) => Found::Stored,
            _ => Found::Others,
        }
    }

    /// What was launched was not stored: as if nothing of it, or after it, had been asked.
    pub fn failed(&mut self) {
        self.asked.clear();
        self.launched = 0;
        self.sequencer.abandon();
    }

    /// Another writer wrote `tail`: what was asked is decided again on the truth, in the order in which it was asked. The platform's
    /// own wishes are void; the next round finds what is still wanted.
    pub fn overtaken(
        &mut self,
        tail: &[Envelope],
        now: Timestamp,
        entropy: &mut dyn FnMut() -> u128,
    ) -> Vec<Result<Seq, Refusal>> {
        self.sequencer.follow(tail);
        self.launched = 0;
        if tail.iter().any(|envelope| matches!(envelope.event, Event::WriterStarted { .. })) {
            // Nodes report to that one since; that they are silent here says nothing.
            self.listen_anew(now);
        }
        self.asked.clone().into_iter().map(|ask| self.decide(ask, now, entropy())).collect()
    }
}

#[cfg(test)]
mod tests;
