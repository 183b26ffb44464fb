//! Reads every event as it becomes durable and knows what must never be: the invariants, the life cycles, a rollout's promise.

use std::collections::BTreeMap;

use plfm_core::check::{check, check_step};
use plfm_core::decide::OFFLINE_AFTER;
use plfm_core::event::{DesiredChange, Envelope, Event, Waiting};
use plfm_core::evolve::evolve;
use plfm_core::ids::{EnvId, InstanceId, NodeId, RequestId};
use plfm_core::phase::{Desired, NodePhase};
use plfm_core::state::{Instance, State};
use plfm_core::units::{Seq, Timestamp};

use crate::ctx::Ctx;
use crate::trace::Note;

/// A second fold of the same log, through its JSON.
#[derive(Default)]
pub struct Judge {
    pub state: State,
    /// Of every instance there ever was.
    pub apps: BTreeMap<InstanceId, String>,
    requests: BTreeMap<RequestId, Seq>,
}

impl Judge {
    /// `since` is when its writer began to listen.
    pub fn read(&mut self, ctx: &mut Ctx, envelope: &Envelope, since: Timestamp) {
        ctx.coverage.event(&envelope.event);
        ctx.note(Note::Event(Box::new(envelope.clone())));
        let before = self.state.clone();
        let json = serde_json::to_vec(envelope).expect("an event has string keys and finite numbers");
        let read: Envelope = serde_json::from_slice(&json).expect("what was written can be read");
        ctx.expect(read == *envelope, || format!("event {} changes on its way through JSON", envelope.seq));
        evolve(&mut self.state, &read);
        note_desired(ctx, &read.event);
        self.notes(&read);
        let mut violations = check(&self.state);
        violations.extend(check_step(&before, &read.event));
        ctx.expect(violations.is_empty(), || format!("after event {}: {violations:#?}", envelope.seq));
        if let Some(complaint) = self.complaint(&before, envelope, since) {
            ctx.violate(|| complaint);
        }
    }

    fn notes(&mut self, envelope: &Envelope) {
        self.requests.entry(envelope.request).or_insert(envelope.seq);
        let Event::InstanceAllocated(it) = &envelope.event else { return };
        self.apps.extend(self.state.apps.get(&it.app).map(|app| (it.instance, app.name.clone())));
    }

    /// What a client was told has to be there, now and for ever.
    pub fn acknowledges(&self, ctx: &mut Ctx, request: RequestId, seq: Seq) {
        let holds = self.requests.get(&request).is_some_and(|first| *first <= seq);
        ctx.expect(holds, || format!("{request} was acknowledged as {seq} and is not in the log"));
    }

    /// The log is another one from here: what is in the backup, and no more.
    pub fn restores(&mut self, ctx: &mut Ctx, log: &[Envelope]) {
        self.state = State::default();
        log.iter().for_each(|envelope| evolve(&mut self.state, envelope));
        let kept = self.state.seq;
        ctx.lost = self.state.log.map(|log| (log, kept));
        self.requests.retain(|_, seq| *seq <= kept);
        ctx.desired = self.state.instances.iter().map(|(id, it)| (*id, it.desired)).collect();
    }

    fn complaint(&self, before: &State, envelope: &Envelope, since: Timestamp) -> Option<String> {
        match &envelope.event {
            Event::InstanceDesiredChanged { instance, why: DesiredChange::Unused, .. } => {
                let goes_on = |it: &&Instance| {
                    let from = it.sandbox().and_then(|it| it.from);
                    it.holds_resources()
                        && it.desired != Desired::Stopped
                        && from.is_some_and(|from| from.snapshot == *instance)
                };
                let mut forks = before.instances.iter().filter(|(_, it)| goes_on(it));
                forks.next().map(|(fork, _)| format!("{instance} is removed, and {fork} goes on from it"))
            }
            Event::InstanceDesiredChanged { instance, desired, why } => {
                self.too_few_ready(before, *instance, *desired, *why)
            }
            Event::NodePhaseChanged { node, phase: NodePhase::Offline } => {
                let waited = envelope.at.since(since);
                (waited < OFFLINE_AFTER).then(|| format!("{node} is judged lost {waited:?} after the writer began"))
            }
            Event::WriterStarted { term } if *term <= before.term => Some(format!("{term} follows {}", before.term)),
            Event::LogStarted { log } if before.log == Some(*log) => Some(format!("{log} starts twice")),
            _ => None,
        }
    }

    /// A rollout or a scale-down never takes a ready instance when fewer would be left than are wanted, unless it has said that there
    /// is no room, or the one that comes needs a volume that it has.
    fn too_few_ready(&self, before: &State, id: InstanceId, desired: Desired, why: DesiredChange) -> Option<String> {
        let instance = before.instances.get(&id)?;
        let by_choice = matches!(why, DesiredChange::RolloutReplace | DesiredChange::ScaleDown);
        if !by_choice || desired == Desired::Running || !instance.is_ready() {
            return None;
        }
        let replica = instance.replica()?;
        let group = self.state.envs.get(&replica.env)?.groups.get(&replica.process)?;
        if group.waiting.as_ref().is_some_and(Waiting::is_for_room) {
            return None;
        }
        let process = self.state.process(group.release, &replica.process)?;
        if process.mounts.iter().any(|mount| before.mounts(instance).contains(mount)) {
            return None;
        }
        let wanted = process.scaling.min as usize;
        let ready = ready(&self.state, replica.env, &replica.process);
        (ready < wanted).then(|| format!("{why:?} of {id} leaves {ready} ready of {wanted} wanted"))
    }
}

fn note_desired(ctx: &mut Ctx, event: &Event) {
    match event {
        Event::InstanceAllocated(it) => drop(ctx.desired.insert(it.instance, Desired::Running)),
        Event::SandboxCreated(it) => drop(ctx.desired.insert(it.instance, Desired::Running)),
        Event::SnapshotCreated(it) => drop(ctx.desired.insert(it.snapshot, Desired::Paused)),
        Event::VolumeDeleted { volume, .. } => drop(ctx.unwanted.insert(*volume)),
        Event::InstanceDesiredChanged { instance, desired, .. } => drop(ctx.desired.insert(*instance, *desired)),
        _ => {}
    }
}

fn ready(state: &State, env: EnvId, process: &str) -> usize {
    let reachable = |node: NodeId| state.nodes.get(&node).is_some_and(|node| node.phase != NodePhase::Offline);
    let members = state.instances.values().filter(|it| it.is_of(env, process));
    members.filter(|it| it.is_ready() && reachable(it.node)).count()
}
