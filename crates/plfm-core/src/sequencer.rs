//! One writer: commands are decided one after another against the tentative state and leave as one batch, in one append.
//!
//! No storage and no waiting in here; the server and the simulator bring those. Usage: [`submit`](Sequencer::submit) as often as
//! wanted, store what [`launch`](Sequencer::launch) gives, then [`commit`](Sequencer::commit), or [`abandon`](Sequencer::abandon) if
//! the append failed. While one batch is being stored the next is decided on top of it. A whole writer around it is the
//! [`Desk`](desk::Desk).
//!
//! ```text
//!   published ── in flight ──▶ after it ── batch ──▶ tentative
//! ```

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
    flight: Option<Flight>,
    tentative: State,
    batch: Vec<Envelope>,
}

/// Events that are being stored, and the state that they lead to.
#[derive(Debug, Clone)]
struct Flight {
    events: Arc<Vec<Envelope>>,
    after: Arc<State>,
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
        Self { decide, published: Arc::new(state.clone()), flight: None, tentative: state, batch: Vec::new() }
    }

    /// What is durable.
    pub fn state(&self) -> &Arc<State> {
        &self.published
    }

    /// What will be, if all that was decided gets stored.
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

    /// What is decided and not launched yet.
    pub fn batch(&self) -> &[Envelope] {
        &self.batch
    }

    /// What is being stored.
    pub fn in_flight(&self) -> Option<&Arc<Vec<Envelope>>> {
        self.flight.as_ref().map(|flight| &flight.events)
    }

    /// What has to be stored now; nothing while an earlier batch still is.
    pub fn launch(&mut self) -> Option<Arc<Vec<Envelope>>> {
        if self.flight.is_some() || self.batch.is_empty() {
            return None;
        }
        let room = Vec::with_capacity(self.batch.len());
        let events = Arc::new(std::mem::replace(&mut self.batch, room));
        self.flight = Some(Flight { events: events.clone(), after: Arc::new(self.tentative.clone()) });
        Some(events)
    }

    /// What was launched is durable, or what was decided if nothing was: publish what it leads to.
    pub fn commit(&mut self) -> Arc<State> {
        self.launch();
        if let Some(flight) = self.flight.take() {
            self.published = flight.after;
        }
        self.published.clone()
    }

    /// What was launched was not stored: as if neither it nor anything after it had been submitted.
    pub fn abandon(&mut self) {
        self.batch.clear();
        self.flight = None;
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
        | Event::OrgConstraintsSet { org, .. }
        | Event::EnvConstraintsSet { org, .. }
        | Event::EnvClassSet { org, .. }
        | Event::ProjectCreated { org, .. }
        | Event::AppCreated { org, .. }
        | Event::EnvCreated { org, .. }
        | Event::DeployCreated { org, .. }
        | Event::RouteCreated { org, .. }
        | Event::RouteTargetSet { org, .. }
        | Event::RouteDeleted { org, .. }
        | Event::VolumeCreated { org, .. }
        | Event::VolumePhaseChanged { org, .. }
        | Event::VolumeDeleted { org, .. } => Some(*org),
        Event::TokenCreated { org, .. } | Event::TokenRevoked { org, .. } => *org,
        Event::ReleaseCreated(created) => Some(created.org),
        Event::InstanceAllocated(allocated) => Some(allocated.org),
        Event::TemplateCreated { org, .. } => Some(*org),
        Event::SandboxCreated(created) => Some(created.org),
        Event::SnapshotCreated(created) => Some(created.org),
        Event::ProjectWeightSet { project, .. } => Some(state.projects.get(project)?.org),
        Event::DeployStatusChanged { deploy, .. } => Some(state.deploys.get(deploy)?.org),
        Event::GroupWaiting { env, .. } => Some(state.envs.get(env)?.org),
        Event::InstanceDesiredChanged { instance, .. }
        | Event::InstanceStatusChanged { instance, .. }
        | Event::SnapshotReleased { snapshot: instance }
        | Event::SandboxTimeoutSet { instance, .. } => Some(state.instances.get(instance)?.org),
        Event::LogStarted { .. }
        | Event::WriterStarted { .. }
        | Event::ClusterCreated { .. }
        | Event::InstanceForgotten { .. }
        | Event::JoinTokenCreated { .. }
        | Event::NodeJoined { .. }
        | Event::NodePhaseChanged { .. }
        | Event::NodeDegradationTolerated { .. }
        | Event::NodeCapacityChanged { .. }
        | Event::ReschedulingFrozen { .. }
        | Event::ReschedulingResumed { .. } => None,
    }
}
