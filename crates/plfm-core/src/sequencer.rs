//! One writer: commands are decided one after another against the tentative state and leave as one batch, in one append.
//!
//! No storage and no waiting in here; the server and the simulator bring those. Usage: [`submit`](Sequencer::submit) as often as
//! wanted, store [`batch`](Sequencer::batch), then [`commit`](Sequencer::commit), or [`abandon`](Sequencer::abandon) if the append
//! failed. A whole writer around it is the [`Desk`](desk::Desk).

use std::sync::Arc;

use crate::command::Command;
use crate::decide::decide;
use crate::event::{Actor, Envelope, Event};
use crate::evolve::evolve;
use crate::facts::Facts;
use crate::ids::{OrgId, RequestId};
use crate::refusal::Refusal;
use crate::state::State;
use crate::units::Seq;

pub mod desk;

/// What decides: [`decide`], unless someone tests those who watch it.
pub type Decide = fn(&State, Command, &Facts) -> Result<Vec<Event>, Refusal>;

#[derive(Debug, Clone)]
pub struct Sequencer {
    decide: Decide,
    published: Arc<State>,
    tentative: State,
    batch: Vec<Envelope>,
}

/// Who asks, in which request, and what made the platform ask.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    pub actor: Actor,
    pub request: RequestId,
    pub cause: Option<Seq>,
}

impl Sequencer {
    pub fn new(state: State) -> Self {
        Self::deciding(state, decide)
    }

    pub fn deciding(state: State, decide: Decide) -> Self {
        Self { decide, published: Arc::new(state.clone()), tentative: state, batch: Vec::new() }
    }

    /// What is durable.
    pub fn state(&self) -> &Arc<State> {
        &self.published
    }

    /// What will be, if the batch gets stored.
    pub fn tentative(&self) -> &State {
        &self.tentative
    }

    /// The seq of the command's last event; of the state it was decided on if it changed nothing.
    pub fn submit(&mut self, command: Command, origin: Origin, facts: &Facts) -> Result<Seq, Refusal> {
        for event in (self.decide)(&self.tentative, command, facts)? {
            let Origin { actor, request, cause } = origin;
            let mut envelope =
                Envelope { seq: self.tentative.seq.next(), at: facts.now, org: None, actor, request, cause, event };
            evolve(&mut self.tentative, &envelope);
            envelope.org = org_of(&self.tentative, &envelope.event);
            self.batch.push(envelope);
        }
        Ok(self.tentative.seq)
    }

    pub fn batch(&self) -> &[Envelope] {
        &self.batch
    }

    /// The batch is durable: publish what it leads to.
    pub fn commit(&mut self) -> Arc<State> {
        self.batch.clear();
        self.published = Arc::new(self.tentative.clone());
        self.published.clone()
    }

    /// The batch was not stored: as if it had not been submitted.
    pub fn abandon(&mut self) {
        self.batch.clear();
        self.tentative = State::clone(&self.published);
    }

    /// Someone else has written on: what was decided meanwhile is void, and the next is decided on what is true now.
    pub fn follow(&mut self, tail: &[Envelope]) {
        self.abandon();
        tail.iter().for_each(|envelope| evolve(&mut self.tentative, envelope));
        self.published = Arc::new(self.tentative.clone());
    }
}

/// The tenant an event belongs to.
fn org_of(state: &State, event: &Event) -> Option<OrgId> {
    match event {
        Event::OrgCreated { org, .. }
        | Event::OrgLimitsSet { org, .. }
        | Event::OrgWeightSet { org, .. }
        | Event::ProjectCreated { org, .. }
        | Event::AppCreated { org, .. }
        | Event::EnvCreated { org, .. }
        | Event::DeployCreated { org, .. }
        | Event::RouteCreated { org, .. }
        | Event::RouteDeleted { org, .. } => Some(*org),
        Event::TokenCreated { org, .. } => *org,
        Event::ReleaseCreated(created) => Some(created.org),
        Event::InstanceAllocated(allocated) => Some(allocated.org),
        Event::TemplateCreated { org, .. } => Some(*org),
        Event::SandboxCreated(created) => Some(created.org),
        Event::ProjectWeightSet { project, .. } => Some(state.projects.get(project)?.org),
        Event::DeployStatusChanged { deploy, .. } => Some(state.deploys.get(deploy)?.org),
        Event::GroupWaiting { env, .. } => Some(state.envs.get(env)?.org),
        Event::InstanceDesiredChanged { instance, .. }
        | Event::InstanceStatusChanged { instance, .. }
        | Event::SandboxTimeoutSet { instance, .. } => Some(state.instances.get(instance)?.org),
        Event::LogStarted { .. }
        | Event::WriterStarted { .. }
        | Event::ClusterCreated { .. }
        | Event::InstanceForgotten { .. }
        | Event::JoinTokenCreated { .. }
        | Event::NodeJoined { .. }
        | Event::NodePhaseChanged { .. }
        | Event::NodeCapacityChanged { .. }
        | Event::ReschedulingFrozen { .. }
        | Event::ReschedulingResumed { .. } => None,
    }
}
