//! Who is silent, who is back, and what becomes of the work of a node that is lost or leaves (P-SCH-40 to -46).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::command::Command;
use crate::decide::{mass, offline_at};
use crate::event::DesiredChange;
use crate::facts::Facts;
use crate::ids::*;
use crate::phase::{Desired, NodePhase};
use crate::state::{Instance, Node, State};

use super::agenda::Agenda;
use super::set_desired;

/// Instances of one node that are on their way out at once.
const MOTION_MAX: usize = 5;
/// A disabled node waits this long for replacements.
pub const DISABLE_AFTER: Duration = Duration::from_secs(60);

pub fn watch(state: &State, facts: &Facts, agenda: &mut Agenda, commands: &mut Vec<Command>) {
    let phases: Vec<_> = state.nodes.iter().filter_map(|(id, node)| seen(*id, node, facts, agenda)).collect();
    let dark = mass::dark(state, facts);
    let is_news = phases.iter().any(|(_, phase)| *phase == NodePhase::Offline) && !mass::is_forced(state, facts);
    match state.rescheduling.frozen_since {
        None if is_news && dark.is_mass() => commands.push(Command::SetRescheduling { frozen: true }),
        Some(_) if !dark.is_mass() => commands.push(Command::SetRescheduling { frozen: false }),
        _ => {}
    }
    commands.extend(phases.into_iter().map(|(node, phase)| Command::SetNodePhase { node, phase }));
}

/// What silence or a word of it makes of a node.
fn seen(id: NodeId, node: &Node, facts: &Facts, agenda: &mut Agenda) -> Option<(NodeId, NodePhase)> {
    match node.phase {
        NodePhase::Decommissioned => None,
        // A node that was lost is back only when it has been heard, not when a new writer has just begun to listen.
        NodePhase::Offline => {
            let back = facts.is_back(id) && agenda.now < offline_at(facts, id);
            back.then_some((id, node.returns_to))
        }
        _ => agenda.is_due(offline_at(facts, id)).then_some((id, NodePhase::Offline)),
    }
}

/// Work of a lost node is wanted elsewhere, and what comes back late is stopped; but nothing that has volumes, for they are there.
pub fn lost(state: &State, commands: &mut Vec<Command>) {
    if state.rescheduling.frozen_since.is_some() {
        return;
    }
    let offline = state.nodes.iter().filter(|(_, node)| node.phase == NodePhase::Offline);
    let held = offline.flat_map(|(node, _)| state.live_on(*node));
    let wanted = held.filter(|(_, it)| it.desired != Desired::Stopped && !state.is_stateful(it));
    commands.extend(wanted.map(|(id, _)| set_desired(id, Desired::Stopped, DesiredChange::NodeLost)));
}

/// A disabled node has waited long enough.
pub fn disabled(state: &State, agenda: &mut Agenda, commands: &mut Vec<Command>) {
    for (id, node) in state.nodes.iter().filter(|(_, node)| node.phase == NodePhase::Disabled) {
        let left = state.live_on(*id).filter(|(_, it)| it.desired != Desired::Stopped && !state.is_stateful(it));
        let left: Vec<_> = left.collect();
        if !left.is_empty() && agenda.is_due(node.phase_at + DISABLE_AFTER) {
            let stop = |(id, _): (InstanceId, _)| set_desired(id, Desired::Stopped, DesiredChange::NodeDraining);
            commands.extend(left.into_iter().map(stop));
        }
    }
}

/// What has to go from nodes that are to be empty: of each node a few at a time, the smallest ids first.
pub fn leaving(state: &State) -> BTreeSet<InstanceId> {
    let mut leaving = BTreeSet::new();
    for (node, _) in state.nodes.iter().filter(|(_, node)| node.phase.is_leaving()) {
        let on_its_way = state.live_on(*node).filter(|(_, it)| it.desired == Desired::Draining).count();
        let stay = state.live_on(*node).filter(|(_, it)| it.desired == Desired::Running && moves(state, it));
        leaving.extend(stay.map(|(id, _)| id).take(MOTION_MAX.saturating_sub(on_its_way)));
    }
    leaving
}

/// Whether it can be replaced elsewhere: volumes stay where they are, and a sandbox is only itself.
fn moves(state: &State, it: &Instance) -> bool {
    it.replica().is_some() && !state.is_stateful(it)
}
