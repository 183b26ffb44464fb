//! Whether all is as it should be: what is wanted is ready, and nothing else is anywhere.

use std::collections::BTreeSet;

use plfm_api::views::route_table;
use plfm_core::ids::{EnvId, InstanceId};
use plfm_core::phase::{DeployStatus, Desired, InstancePhase, NodePhase};
use plfm_core::state::{Instance, State};
use plfm_core::units::Timestamp;
use plfm_node::mind::Slot;

use crate::edge::Edge;
use crate::node::{Mind, Node};

/// The first thing that is not as it should be.
pub fn unsettled(state: &State, nodes: &[Node], edges: &[Edge]) -> Option<String> {
    let lost = state.nodes.iter().find(|(_, node)| node.phase != NodePhase::Active);
    lost.map(|(id, _)| format!("{id} takes no work"))
        .or_else(|| deploys(state))
        .or_else(|| groups(state))
        .or_else(|| live(state))
        .or_else(|| nodes.iter().find_map(|node| left_over(state, node)))
        .or_else(|| edges.iter().find_map(|edge| lags(state, edge)))
}

/// A sandbox whose time is over by then.
pub fn ends_by(state: &State, at: Timestamp) -> Option<String> {
    let ends = |it: &Instance| {
        let runs = it.holds_resources() && it.desired == Desired::Running;
        let ends_at = it.sandbox().and_then(|it| it.ends_at).filter(|_| runs);
        ends_at.is_some_and(|ends| ends <= at)
    };
    let ending = state.instances.iter().find(|(_, it)| ends(it));
    ending.map(|(id, _)| format!("the time of {id} is about to be over"))
}

fn deploys(state: &State) -> Option<String> {
    let newest = |env: &EnvId| state.deploys.iter().rfind(|(_, deploy)| deploy.env == *env);
    let newest = state.envs.keys().filter_map(newest);
    let mut open = newest.filter(|(_, deploy)| deploy.status != DeployStatus::Succeeded);
    open.next().map(|(id, deploy)| format!("deploy {id} is {}: {:?}", deploy.status, deploy.failure))
}

fn groups(state: &State) -> Option<String> {
    let groups = state.envs.iter().flat_map(|(id, env)| env.groups.iter().map(move |(name, group)| (*id, name, group)));
    for (env, name, group) in groups {
        let wanted = state.process(group.release, name)?.scaling.min as usize;
        let members = state.instances.values().filter(|it| it.is_of(env, name) && it.is_ready());
        let ready = members.filter(|it| it.release() == Some(group.release)).count();
        if ready != wanted || group.waiting.is_some() {
            return Some(format!("{ready} of {wanted} of {name} in {env} are ready, waiting: {:?}", group.waiting));
        }
    }
    None
}

fn live(state: &State) -> Option<String> {
    let mut live = state.instances.iter().filter(|(_, it)| it.holds_resources());
    let rests = |it: &Instance| it.desired == Desired::Paused && it.status.phase == InstancePhase::Paused;
    let is_there = |id: &InstanceId| state.instances.get(id).is_some_and(Instance::is_taken);
    let is_orphan = |it: &Instance| it.sandbox().and_then(|it| it.from).is_some_and(|from| !is_there(&from.snapshot));
    let odd = live.find(|(_, it)| !it.is_ready() && !rests(it) || is_orphan(it));
    let odd = odd.map(|(id, it)| format!("{id} is {} and should be {}", it.status.phase, it.desired));
    odd.or_else(|| useless(state))
}

/// A snapshot that was taken for others, when none of them is left.
fn useless(state: &State) -> Option<String> {
    let used = state.instances.values().filter(|it| it.holds_resources()).filter_map(Instance::sandbox);
    let used: BTreeSet<_> = used.filter_map(|it| it.from).map(|from| from.snapshot).collect();
    let loose = |it: &Instance| it.holds_resources() && it.snapshot().is_some_and(|it| !it.kept);
    let mut loose = state.instances.iter().filter(|(_, it)| loose(it));
    loose.find(|(id, _)| !used.contains(id)).map(|(id, _)| format!("nobody needs the snapshot {id}"))
}

fn left_over(state: &State, node: &Node) -> Option<String> {
    let Some(mind) = &node.mind else { return Some(format!("node {} is down", node.index)) };
    let here = state.instances.iter().filter(|(_, it)| it.node == node.id && it.holds_resources());
    let here: BTreeSet<_> = here.map(|(id, _)| *id).collect();
    let machines = node.host.machines.keys().chain(node.host.paused.keys());
    let places: [(&str, BTreeSet<InstanceId>); 4] = [
        ("the plan", mind.plan.assignments.keys().copied().collect()),
        ("the memory", mind.local.slots.keys().copied().collect()),
        ("the machines", machines.chain(&node.host.snapshots).copied().collect()),
        ("the directories", node.host.directories.union(&node.host.snapshots).copied().collect()),
    ];
    let differs = places.into_iter().find(|(_, place)| *place != here);
    let differs = differs.map(|(place, found)| format!("{place} of node {}: {found:?}, not {here:?}", node.index));
    differs.or_else(|| busy(node.index, mind))
}

fn lags(state: &State, edge: &Edge) -> Option<String> {
    let table = route_table(state);
    (edge.table.routes() != table.routes()).then(|| format!("edge {} has an old table", edge.index))
}

fn busy(index: usize, mind: &Mind) -> Option<String> {
    let rests = |slot: &Slot| slot.status.phase == InstancePhase::Paused;
    let mut detached = mind.local.slots.iter().filter(|(_, slot)| !slot.attached && !rests(slot));
    let detached = detached.next().map(|(id, _)| format!("node {index} does not speak with {id}"));
    detached.or_else(|| (!mind.local.strays.is_empty()).then(|| format!("node {index} still sweeps")))
}

/// A machine lives there, and its node does nothing to hear from it.
pub fn does_not_speak(node: &Node) -> Option<String> {
    use InstancePhase::{Booting, Ready, Unready};
    let lives = |slot: &Slot| matches!(slot.status.phase, Booting | Ready | Unready) && slot.doing.is_none();
    let mut slots = node.mind.as_ref()?.local.slots.iter();
    let (id, _) = slots.find(|(_, slot)| lives(slot) && !slot.attached)?;
    Some(format!("node {} does not speak with {id}", node.index))
}
