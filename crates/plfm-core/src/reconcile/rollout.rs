//! One step of one group towards its release: start what is missing, drain what is too much (P-SCH-30, -31, -33).

use crate::command::Command;
use crate::decide::resources;
use crate::event::{DesiredChange, Waiting};
use crate::ids::*;
use crate::phase::{DeployStatus, Desired, InstancePhase, NodePhase};
use crate::place::{Wanted, has_room};
use crate::state::{Group, Instance, State};

use super::{Fleet, Member, set_desired};

/// New instances beyond the wanted count while old ones still serve.
const SURGE_MAX: usize = 1;

pub fn step(
    state: &State,
    fleet: &Fleet<'_>,
    env: EnvId,
    process: &str,
    group: &Group,
    commands: &mut Vec<Command>,
) -> Option<Wanted> {
    let count = state.process(group.release, process)?.scaling.min as usize;
    let wanted = fleet.live(env, process).filter(|(_, instance)| instance.desired == Desired::Running);
    let (new, old): (Vec<Member<'_>>, Vec<_>) = wanted.partition(|(_, instance)| is_new(instance, group));
    let failed = state.deploys.get(&group.deploy).is_some_and(|deploy| deploy.status == DeployStatus::Failed);
    if failed {
        let hopeless = new.iter().filter(|(_, instance)| instance.deploy == group.deploy && !has_served(instance));
        commands.extend(hopeless.map(|(id, _)| set_desired(*id, Desired::Stopped, DesiredChange::StartupFailed)));
        return None;
    }
    drain(count, &new, &old, commands);
    let missing = missing(count, new.len(), old.len());
    let process = process.to_owned();
    (missing > 0).then_some(Wanted { env, process, release: group.release, count: missing as u32 })
}

/// Of the release that is wanted, and not a failure that an earlier deploy left: a new deploy asks for a new try.
fn is_new(instance: &Instance, group: &Group) -> bool {
    let left_over = instance.status.phase == InstancePhase::Failed && instance.deploy != group.deploy;
    instance.release == group.release && !left_over
}

fn missing(count: usize, new: usize, old: usize) -> usize {
    let room = if old == 0 { count } else { (count + SURGE_MAX).saturating_sub(old) };
    count.min(room).saturating_sub(new)
}

/// Never fewer ready than wanted, unless fewer are ready anyway.
fn drain(count: usize, new: &[Member<'_>], old: &[Member<'_>], commands: &mut Vec<Command>) {
    let mut surplus: Vec<_> = new.to_vec();
    surplus.sort_by_key(|(id, instance)| (drain_rank(instance), instance.created_at, *id));
    surplus.truncate(new.len().saturating_sub(count));
    let mut ready = new.iter().chain(old).filter(|(_, instance)| instance.is_ready()).count();
    let mut leave = |members: &[Member<'_>], why| {
        for (id, instance) in members {
            if instance.is_ready() {
                if ready <= count {
                    continue;
                }
                ready -= 1;
            }
            commands.push(set_desired(*id, Desired::Draining, why));
        }
    };
    leave(old, DesiredChange::RolloutReplace);
    leave(&surplus, DesiredChange::ScaleDown);
}

/// Where there is no room for a surge, and the group has said so, one old instance goes first, and the next when its successor is
/// ready (P-SCH-31): one whose place a new one can take.
pub fn gives_way(state: &State, fleet: &Fleet<'_>, env: EnvId, process: &str, group: &Group) -> Option<InstanceId> {
    let said = matches!(group.waiting, Some(Waiting::NoCapacityMemory { .. } | Waiting::NoCapacityDisk { .. }));
    let leaves = fleet.live(env, process).any(|(_, instance)| instance.desired == Desired::Draining);
    if !said || leaves {
        return None;
    }
    let count = state.process(group.release, process)?.scaling.min as usize;
    let members = fleet.live(env, process).filter(|(_, instance)| instance.desired == Desired::Running);
    let members: Vec<Member<'_>> = members.collect();
    if members.len() > count || !members.iter().all(|(_, instance)| instance.is_ready()) {
        return None;
    }
    let old = members.into_iter().filter(|(_, instance)| !is_new(instance, group));
    let places = old.filter(|(_, old)| takes_place_of(state, old, process, group).unwrap_or(false));
    places.min_by_key(|(id, instance)| (instance.created_at, *id)).map(|(id, _)| id)
}

fn takes_place_of(state: &State, old: &Instance, process: &str, group: &Group) -> Option<bool> {
    let node = state.nodes.get(&old.node).filter(|node| node.phase == NodePhase::Active)?;
    state.releases.get(&group.release)?.image.platforms.get(&node.capacity.arch)?;
    let held = state.index().held(old.node).less((&old.resources).into());
    Some(has_room(node, held, &resources(state, group.release, process, node)?))
}

/// What once answered is worth its node's patience, whatever became of the deploy that brought it.
fn has_served(instance: &Instance) -> bool {
    matches!(instance.status.phase, InstancePhase::Ready | InstancePhase::Unready)
}

/// Failed first, then what is not ready, then the oldest.
fn drain_rank(instance: &Instance) -> u8 {
    match instance.status.phase {
        InstancePhase::Failed => 0,
        InstancePhase::Ready => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_rollout_starts_all_and_a_later_one_a_surge() {
        for (count, new, old, expected) in
            [(3, 0, 0, 3), (3, 3, 0, 0), (3, 0, 3, 1), (3, 1, 3, 0), (3, 1, 2, 1), (0, 0, 2, 0)]
        {
            assert_eq!(missing(count, new, old), expected, "{count} wanted, {new} new, {old} old");
        }
    }
}
