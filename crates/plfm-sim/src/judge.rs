//! Reads every event as it becomes durable and knows what must never be: the invariants, the life cycles, a rollout's promise.

use plfm_core::check::check;
use plfm_core::decide::OFFLINE_AFTER;
use plfm_core::event::{DesiredChange, Envelope, Event, InstanceStatus};
use plfm_core::evolve::evolve;
use plfm_core::ids::{DeployId, EnvId, InstanceId, NodeId};
use plfm_core::phase::{DeployStatus, Desired, NodePhase};
use plfm_core::state::State;
use plfm_core::units::Timestamp;

use crate::ctx::Ctx;
use crate::trace::Note;

/// A second fold of the same log, through its JSON.
#[derive(Default)]
pub struct Judge {
    pub state: State,
    /// Since when the writer of the newest term listens.
    pub writer_since: Timestamp,
}

impl Judge {
    pub fn read(&mut self, ctx: &mut Ctx, envelope: &Envelope) {
        ctx.coverage.event(&envelope.event);
        ctx.note(Note::Event(Box::new(envelope.clone())));
        let before = self.state.clone();
        let json = serde_json::to_vec(envelope).expect("an event has string keys and finite numbers");
        let read: Envelope = serde_json::from_slice(&json).expect("what was written can be read");
        ctx.expect(read == *envelope, || format!("event {} changes on its way through JSON", envelope.seq));
        evolve(&mut self.state, &read);
        note_desired(ctx, &read.event);
        let violations = check(&self.state);
        ctx.expect(violations.is_empty(), || format!("after event {}: {violations:#?}", envelope.seq));
        if let Some(complaint) = self.complaint(&before, envelope) {
            ctx.violate(|| complaint);
        }
    }

    fn complaint(&self, before: &State, envelope: &Envelope) -> Option<String> {
        match &envelope.event {
            Event::InstanceDesiredChanged { instance, desired, why } => desired_changed(before, *instance, *desired)
                .or_else(|| self.too_few_ready(before, *instance, *desired, *why)),
            Event::InstanceStatusChanged { instance, node, status } => status_changed(before, *instance, *node, status),
            Event::DeployStatusChanged { deploy, status, .. } => deploy_changed(before, *deploy, *status),
            Event::NodePhaseChanged { node, phase: NodePhase::Offline } => {
                let waited = envelope.at.since(self.writer_since);
                (waited < OFFLINE_AFTER).then(|| format!("{node} is judged lost {waited:?} after the writer began"))
            }
            _ => None,
        }
    }

    /// A rollout or a scale-down never takes a ready instance when fewer would be left than are wanted.
    fn too_few_ready(&self, before: &State, id: InstanceId, desired: Desired, why: DesiredChange) -> Option<String> {
        let instance = before.instances.get(&id)?;
        let by_choice = matches!(why, DesiredChange::RolloutReplace | DesiredChange::ScaleDown);
        if !by_choice || desired == Desired::Running || !instance.is_ready() {
            return None;
        }
        let group = self.state.envs.get(&instance.env)?.groups.get(&instance.process)?;
        let wanted = self.state.process(group.release, &instance.process)?.scaling.min as usize;
        let ready = ready(&self.state, instance.env, &instance.process);
        (ready < wanted).then(|| format!("{why:?} of {id} leaves {ready} ready of {wanted} wanted"))
    }
}

fn note_desired(ctx: &mut Ctx, event: &Event) {
    match event {
        Event::InstanceAllocated(it) => drop(ctx.desired.insert(it.instance, Desired::Running)),
        Event::InstanceDesiredChanged { instance, desired, .. } => drop(ctx.desired.insert(*instance, *desired)),
        _ => {}
    }
}

fn ready(state: &State, env: EnvId, process: &str) -> usize {
    let reachable = |node: NodeId| state.nodes.get(&node).is_some_and(|node| node.phase == NodePhase::Active);
    let members = state.instances.values().filter(|it| it.env == env && it.process == process);
    members.filter(|it| it.is_ready() && reachable(it.node)).count()
}

fn desired_changed(before: &State, id: InstanceId, next: Desired) -> Option<String> {
    let now = before.instances.get(&id)?.desired;
    (!now.may_become(next)).then(|| format!("{id} was to be {now} and is to be {next}"))
}

fn status_changed(before: &State, id: InstanceId, node: NodeId, next: &InstanceStatus) -> Option<String> {
    let instance = before.instances.get(&id)?;
    let now = &instance.status;
    let allowed = now.phase == next.phase || now.phase.may_become(next.phase, now.boot != next.boot);
    let own = instance.node == node;
    (!allowed || !own).then(|| format!("{id} of {} became {next:?} on {node} after {now:?}", instance.node))
}

fn deploy_changed(before: &State, id: DeployId, next: DeployStatus) -> Option<String> {
    let now = before.deploys.get(&id)?.status;
    (!now.may_become(next)).then(|| format!("{id} was {now} and became {next}"))
}
