//! The node's mind: from what is planned, remembered and seen to what has to be done. Pure.
//!
//! What the server says goes in through [`Local::hear`]. [`step`] only looks. Whoever carries an action out calls [`Local::begin`]
//! before and [`Local::absorb`] with what came of it; then `step` looks again. It may be asked at any time, twice, or after a restart:
//! an action that is under way is not given again, and nothing is done that the plan and the memory do not call for.
//!
//! ```text
//!            ┌──────────── failed, by the restart policy ◀─────────────┐
//!            ▼                                                         │
//! (plan) ─▶ Prepare ─▶ Boot ─▶ Probe, Probe, … ── ended or sick ─▶ Stop ┤
//!                                                                      └─ no longer wanted ─▶ Destroy ─▶ Forget
//!                    │ ▲
//!              Pause ▼ │ Resume
//!                   (kept)
//!
//! (plan of a snapshot) ─▶ Take, of a machine that goes on ─▶ Destroy ─▶ Forget
//! ```
//!
//! What goes on from a snapshot is booted like all others; it waits until the snapshot has been taken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use plfm_api::documents::{Assignment, PlanChange, PlanMessage, Purpose, VolumeOrders};
use plfm_core::ids::{BootId, InstanceId};
use plfm_core::phase::{Desired, InstancePhase};
use plfm_core::state::Position;
use plfm_core::units::Timestamp;

pub use local::{Limits, Local};
pub use slot::{Outcome, Slot};

mod local;
mod probe;
mod restart;
mod slot;
pub mod volumes;

/// What should be here, as last heard.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// None until the first full snapshot of this run of the node: before that nothing is known to be unwanted.
    pub position: Option<Position>,
    pub assignments: BTreeMap<InstanceId, Assignment>,
    pub volumes: VolumeOrders,
}

/// What a message of the server was to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearing {
    News,
    Old,
    /// Changes to a plan of another log than the one that is known: the stream has to begin anew.
    Astray,
}

impl Plan {
    /// Takes a message in. Only a full snapshot can begin a plan or change over to another log; of one log an older message is none.
    fn apply(&mut self, message: PlanMessage) -> Hearing {
        let Position { log, seq, .. } = message.position;
        let known = self.position.filter(|known| known.log == log);
        if known.is_some_and(|known| known.seq > seq) {
            return Hearing::Old;
        }
        match message.change {
            PlanChange::Full { assignments } => {
                self.volumes.clear();
                self.assignments = assignments.into_iter().map(|it| (it.instance, it)).collect();
            }
            // Before the first snapshot a change is but a sign of life.
            PlanChange::Delta { .. } if self.position.is_none() => return Hearing::Old,
            PlanChange::Delta { .. } if known.is_none() => return Hearing::Astray,
            PlanChange::Delta { upserts, drops } => {
                self.assignments.extend(upserts.into_iter().map(|it| (it.instance, it)));
                drops.iter().for_each(|id| drop(self.assignments.remove(id)));
            }
        }
        self.position = Some(message.position);
        self.volumes = message.volumes.unwrap_or(std::mem::take(&mut self.volumes));
        Hearing::News
    }
}

/// What the runtime found: machines that exist.
pub type Observed = BTreeMap<InstanceId, Found>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Ended,
    Runs(BootId),
    /// Paused: it does not run, and can go on.
    Rests(BootId),
    /// A snapshot, whole.
    Taken,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Image, disks, network.
    Prepare(InstanceId),
    /// Start the machine and hand it its configuration.
    Boot(InstanceId),
    /// Speak again to a machine that an earlier run of the node started.
    Adopt(InstanceId, BootId),
    Probe(InstanceId),
    /// Keep all that it is on disk, and end the machine.
    Pause(InstanceId, BootId),
    /// Let it go on from there.
    Resume(InstanceId, BootId),
    /// Keep what another is that runs, and goes on.
    Take {
        snapshot: InstanceId,
        of: InstanceId,
        /// None if nothing of it runs; then there is nothing to take.
        boot: Option<BootId>,
    },
    /// Ask the workload to end, then end the machine.
    Stop {
        instance: InstanceId,
        grace: Duration,
    },
    /// Leave nothing of it here.
    Destroy(InstanceId),
    /// The server knows that it is gone: so may we.
    Forget(InstanceId),
}

impl Action {
    pub fn instance(&self) -> InstanceId {
        match self {
            Self::Prepare(id) | Self::Boot(id) | Self::Adopt(id, _) | Self::Probe(id) => *id,
            Self::Pause(id, _) | Self::Resume(id, _) => *id,
            Self::Stop { instance, .. } => *instance,
            Self::Take { snapshot, .. } => *snapshot,
            Self::Destroy(id) | Self::Forget(id) => *id,
        }
    }
}

pub fn step(local: &Local, plan: &Plan, observed: &Observed, now: Timestamp) -> Vec<Action> {
    if plan.position.is_none() {
        return Vec::new();
    }
    let everything: BTreeSet<_> = plan.assignments.keys().chain(local.slots.keys()).chain(observed.keys()).collect();
    // Whatever is being taken is left alone.
    let taken = local.slots.values().filter_map(Slot::takes).collect::<BTreeSet<_>>();
    let free = everything.into_iter().filter(|id| local.is_free(**id, now) && !taken.contains(id));
    // What was not planned leaves first: until then the room that the plan counts on may not be there.
    let crowded = !local.is_foreign(plan) && local.has_strangers(plan, observed);
    let actions = free.filter_map(|id| next(local, plan, observed, *id, now));
    let actions = actions.filter(|action| !crowded || !matches!(action, Action::Boot(_) | Action::Resume(..)));
    let actions = actions.filter(|action| !matches!(action, Action::Take { of, .. } if taken.contains(of)));
    one_at_a_time(actions.collect())
}

/// To take a machine is to act on it too.
fn one_at_a_time(actions: Vec<Action>) -> Vec<Action> {
    let mut acted = actions.iter().map(Action::instance).collect::<BTreeSet<_>>();
    let alone = |action: &Action| !matches!(action, Action::Take { of, .. } if !acted.insert(*of));
    actions.into_iter().filter(alone).collect()
}

/// The moment at which `step` may say more although nothing happened.
pub fn next_step(local: &Local, now: Timestamp) -> Option<Timestamp> {
    let slots = local.slots.values().filter_map(|slot| slot.next_look(&local.limits));
    // What is due and was not said waits for something other than time.
    slots.chain(local.strays.values().copied().flatten()).filter(|at| *at > now).min()
}

fn next(local: &Local, plan: &Plan, observed: &Observed, id: InstanceId, now: Timestamp) -> Option<Action> {
    let slot = local.slots.get(&id);
    match (plan.assignments.get(&id), slot) {
        // Under another log what is here stays as it is and keeps running, until someone says which of the two is right.
        (Some(assignment), Some(_)) if local.is_foreign(plan) && assignment.desired != Desired::Running => None,
        (_, None) | (None, _) if local.is_foreign(plan) => None,
        (_, Some(slot)) if local.is_foreign(plan) && slot.status.phase == InstancePhase::Paused => None,
        (Some(assignment), slot) if assignment.desired == Desired::Running => {
            keep_running(local, plan, slot, assignment, observed.get(&id), now)
        }
        (Some(assignment), slot) if assignment.desired == Desired::Paused => {
            keep_paused(local, plan, slot, assignment, observed.get(&id), now)
        }
        (Some(assignment), slot) => wind_down(id, slot, grace(assignment)),
        (None, Some(slot)) if slot.status.phase == InstancePhase::Gone => Some(Action::Forget(id)),
        (None, slot) => wind_down(id, slot, local.limits.drain_grace),
    }
}

fn grace(assignment: &Assignment) -> Duration {
    match assignment.desired {
        Desired::Draining => Duration::from_secs(assignment.drain_grace_seconds.into()),
        Desired::Running | Desired::Paused | Desired::Stopped => Duration::ZERO,
    }
}

fn keep_running(
    local: &Local,
    plan: &Plan,
    slot: Option<&Slot>,
    assignment: &Assignment,
    machine: Option<&Found>,
    now: Timestamp,
) -> Option<Action> {
    let id = assignment.instance;
    let Some(slot) = slot else {
        // A machine that nobody remembers is not known to be what was wanted.
        return Some(if machine.is_some() { Action::Destroy(id) } else { Action::Prepare(id) });
    };
    use InstancePhase::*;
    let runs = matches!(machine, Some(Found::Runs(boot)) if slot.status.boot == Some(*boot));
    match slot.status.phase {
        // Something of it is there that no answer was heard of: the node ended in the middle of starting it.
        Allocated | Preparing if slot.machine => Some(stop_now(id)),
        Allocated => Some(Action::Prepare(id)),
        Preparing if !slot.prepared => Some(Action::Prepare(id)),
        Preparing => (!awaits_snapshot(local, plan, assignment)).then_some(Action::Boot(id)),
        Booting | Ready | Unready | Resuming if !slot.attached && runs => {
            slot.status.boot.map(|boot| Action::Adopt(id, boot))
        }
        Booting | Ready | Unready if !slot.attached => Some(stop_now(id)),
        Booting | Ready | Unready if slot.is_sick(&local.limits, now) => Some(stop_now(id)),
        Booting | Ready | Unready => slot.probe_due(now).then_some(Action::Probe(id)),
        Pausing | Paused | Resuming => slot.status.boot.map(|boot| Action::Resume(id, boot)),
        Failed if slot.machine => Some(stop_now(id)),
        Failed => slot.retry_at.is_some_and(|at| now >= at).then_some(Action::Prepare(id)),
        // Once on its way out it goes all the way; the server sends another instance for it.
        Draining | Stopped | Gone => wind_down(id, Some(slot), Duration::ZERO),
    }
}

fn keep_paused(
    local: &Local,
    plan: &Plan,
    slot: Option<&Slot>,
    assignment: &Assignment,
    machine: Option<&Found>,
    now: Timestamp,
) -> Option<Action> {
    use InstancePhase::*;
    if let Purpose::Snapshot { of, .. } = assignment.workload.purpose {
        return keep_snapshot(local, slot, (assignment.instance, of), machine, now);
    }
    match slot {
        // What it was is nowhere.
        None => Some(Action::Destroy(assignment.instance)),
        Some(slot) => match slot.status.phase {
            Paused => None,
            Ready | Unready if slot.attached => slot.status.boot.map(|boot| Action::Pause(assignment.instance, boot)),
            _ => keep_running(local, plan, Some(slot), assignment, machine, now),
        },
    }
}

/// Of one that runs; of one that does not and will not, to be told that it cannot. What is there already is whole.
fn keep_snapshot(
    local: &Local,
    slot: Option<&Slot>,
    (snapshot, of): (InstanceId, InstanceId),
    machine: Option<&Found>,
    now: Timestamp,
) -> Option<Action> {
    use InstancePhase::*;
    let is_new = slot.is_none_or(|slot| slot.status.phase == Allocated);
    let source = local.slots.get(&of).filter(|_| machine != Some(&Found::Taken));
    let boot = match source.map(|source| source.status.phase) {
        Some(Ready | Unready) => source.filter(|it| it.attached && local.is_free(of, now))?.status.boot,
        Some(Pausing | Resuming) => return None,
        _ => None,
    };
    is_new.then_some(Action::Take { snapshot, of, boot })
}

/// The snapshot that it goes on from has not been taken yet. One that failed or is unknown is not waited for.
fn awaits_snapshot(local: &Local, plan: &Plan, assignment: &Assignment) -> bool {
    let Some(from) = assignment.workload.from() else { return false };
    match local.slots.get(&from.snapshot) {
        Some(slot) => matches!(slot.status.phase, InstancePhase::Allocated | InstancePhase::Pausing),
        None => plan.assignments.get(&from.snapshot).is_some_and(|it| it.desired == Desired::Paused),
    }
}

fn stop_now(instance: InstanceId) -> Action {
    Action::Stop { instance, grace: Duration::ZERO }
}

fn wind_down(id: InstanceId, slot: Option<&Slot>, grace: Duration) -> Option<Action> {
    match slot {
        Some(slot) if slot.status.phase == InstancePhase::Gone => None,
        Some(slot) if slot.machine => Some(Action::Stop { instance: id, grace }),
        _ => Some(Action::Destroy(id)),
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use tests::workload;
