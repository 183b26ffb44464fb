//! When a sandbox is over: its time is up, it has failed, or its node is to be empty.

use std::time::Duration;

use crate::command::Command;
use crate::decide::snapshots;
use crate::event::{DesiredChange, OnTimeout};
use crate::ids::InstanceId;
use crate::phase::{Desired, InstancePhase, NodePhase};
use crate::place::no_room_to_pause;
use crate::state::{Instance, State};

use super::agenda::Agenda;
use super::set_desired;

/// Nothing replaces a sandbox elsewhere, so a node that is to be empty leaves it this long to come to its end (A-VM-14).
pub const SANDBOX_DRAIN_MAX: Duration = Duration::from_secs(600);

/// So often it is tried.
const PAUSES_MAX: u32 = 3;

pub fn end(state: &State, agenda: &mut Agenda, commands: &mut Vec<Command>) {
    let over = state.index().ending().take_while(|(at, _)| agenda.is_due(*at));
    let over: Vec<_> = over.filter_map(|(_, id)| Some((id, state.instances.get(&id)?))).collect();
    let useless = state.index().useless().filter(|id| over.iter().all(|(it, _)| it != id));
    commands.extend(useless.map(|id| set_desired(id, Desired::Stopped, DesiredChange::Unused)));
    commands.extend(over.into_iter().filter_map(|(id, it)| over_is(state, id, it)));
    commands.extend(state.index().outdated(state).map(|snapshot| Command::ReleaseSnapshot { snapshot }));
    for (node, it) in state.nodes.iter().filter(|(_, it)| it.phase == NodePhase::Draining) {
        let now = agenda.now;
        let mut left = state.live_on(*node).filter(|(_, it)| it.ends_at().is_some_and(|at| at > now)).peekable();
        if left.peek().is_some() && agenda.is_due(it.phase_at + SANDBOX_DRAIN_MAX) {
            commands.extend(left.map(|(id, _)| set_desired(id, Desired::Stopped, DesiredChange::NodeDraining)));
        }
    }
}

/// It is paused if that was asked for, there is room for it, and it was not tried in vain too often; else stopped. What is about to be
/// kept as a snapshot is paused after that.
fn over_is(state: &State, instance: InstanceId, it: &Instance) -> Option<Command> {
    let pauses = it.sandbox().is_some_and(|sandbox| sandbox.on_timeout == OnTimeout::Pause);
    let runs = matches!(it.status.phase, InstancePhase::Ready | InstancePhase::Unready);
    if pauses && runs && it.failures < PAUSES_MAX && no_room_to_pause(state, it).is_none() {
        let pause = Command::PauseSandbox { instance, why: DesiredChange::TimedOut };
        return snapshots::pending(state, instance).is_none().then_some(pause);
    }
    Some(set_desired(instance, Desired::Stopped, why(it)))
}

fn why(it: &Instance) -> DesiredChange {
    if it.status.phase == InstancePhase::Failed || !it.served { DesiredChange::Failed } else { DesiredChange::TimedOut }
}
