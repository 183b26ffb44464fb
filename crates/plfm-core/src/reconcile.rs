//! What the platform itself wants next, and when it must look again. Pure, idempotent: with nothing to do it says nothing.
//!
//! It speaks in rounds: whoever carries the commands out asks again until there are none.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::command::Command;
use crate::decide::{OFFLINE_AFTER, offline_at};
use crate::event::{DesiredChange, Waiting};
use crate::facts::Facts;
use crate::ids::*;
use crate::phase::{Desired, NodePhase};
use crate::place::{Placement, Wanted, place};
use crate::state::{Env, Instance, State};
use crate::units::Timestamp;

mod deploys;
mod rollout;

/// A record that ended stays visible this long.
pub const FORGET_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);

/// The moment after which `reconcile` may have something new to say although nothing happened.
pub type NextRun = Option<Timestamp>;

pub fn reconcile(state: &State, facts: &Facts) -> (Vec<Command>, NextRun) {
    if state.cluster.is_none() {
        return (Vec::new(), None);
    }
    let mut commands = Vec::new();
    nodes(state, facts, &mut commands);
    lost(state, &mut commands);
    // Who is lost comes first, and alone: nothing else may count on it in the same round.
    if !commands.is_empty() {
        return (commands, next_run(state, facts));
    }
    let fleet = Fleet::new(state);
    let wanted = groups(state, &fleet, &mut commands);
    let placement = place(state, facts, &wanted);
    waiting(state, &fleet, &placement.waiting, &mut commands);
    make_room(state, &fleet, &placement, &mut commands);
    commands.extend(placement.choices.into_iter().map(|choice| Command::Allocate {
        env: choice.env,
        process: choice.process,
        release: choice.release,
        node: choice.node,
    }));
    deploys::settle(state, &fleet, facts, &mut commands);
    forget(state, facts, &mut commands);
    (commands, next_run(state, facts))
}

/// Every instance that holds resources, by its group, of the envs where something may be left to do.
pub(crate) struct Fleet<'a> {
    envs: BTreeSet<EnvId>,
    groups: BTreeMap<(EnvId, &'a str), Vec<Member<'a>>>,
}

pub(crate) type Member<'a> = (InstanceId, &'a Instance);

impl<'a> Fleet<'a> {
    fn new(state: &'a State) -> Self {
        let envs: BTreeSet<_> = state.index().unsettled().collect();
        let mut groups = BTreeMap::<_, Vec<_>>::new();
        for (id, instance) in envs.iter().flat_map(|env| state.live_in(*env)) {
            groups.entry((instance.env, instance.process.as_str())).or_default().push((id, instance));
        }
        Self { envs, groups }
    }

    pub(crate) fn live<'f>(&'f self, env: EnvId, process: &'f str) -> impl Iterator<Item = Member<'a>> + use<'a, 'f> {
        self.groups.get(&(env, process)).map(Vec::as_slice).unwrap_or_default().iter().copied()
    }

    fn envs<'f>(&'f self, state: &'a State) -> impl Iterator<Item = (EnvId, &'a Env)> + use<'a, 'f> {
        self.envs.iter().filter_map(|id| Some((*id, state.envs.get(id)?)))
    }
}

fn nodes(state: &State, facts: &Facts, commands: &mut Vec<Command>) {
    for (id, node) in &state.nodes {
        let phase = if facts.silent(*id) >= OFFLINE_AFTER { NodePhase::Offline } else { NodePhase::Active };
        // A node that was lost is back only when it has been heard, not when a new writer has just begun to listen.
        let known = phase == NodePhase::Offline || facts.heard.contains_key(id);
        if node.phase != phase && known {
            commands.push(Command::SetNodePhase { node: *id, phase });
        }
    }
}

/// Work of a lost node is wanted elsewhere; what comes back late is stopped.
fn lost(state: &State, commands: &mut Vec<Command>) {
    let offline = state.nodes.iter().filter(|(_, node)| node.phase == NodePhase::Offline);
    let held = offline.flat_map(|(node, _)| state.live_on(*node));
    let wanted = held.filter(|(_, instance)| instance.desired != Desired::Stopped);
    commands.extend(wanted.map(|(id, _)| set_desired(id, Desired::Stopped, DesiredChange::NodeLost)));
}

fn groups(state: &State, fleet: &Fleet<'_>, commands: &mut Vec<Command>) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for (id, env) in fleet.envs(state) {
        for (process, group) in &env.groups {
            wanted.extend(rollout::step(state, fleet, id, process, group, commands));
        }
    }
    for ((env, process), instances) in &fleet.groups {
        if !state.envs.get(env).is_some_and(|env| env.groups.contains_key(*process)) {
            let running = instances.iter().filter(|(_, instance)| instance.desired == Desired::Running);
            commands.extend(running.map(|(id, _)| set_desired(*id, Desired::Draining, DesiredChange::ScaleDown)));
        }
    }
    wanted
}

/// Say why a group waits when that changes, and that it no longer does.
fn waiting(state: &State, fleet: &Fleet<'_>, now: &[(EnvId, String, Waiting)], commands: &mut Vec<Command>) {
    let now: BTreeMap<_, _> = now.iter().map(|(env, process, waiting)| ((*env, process.as_str()), waiting)).collect();
    for (env, owner) in fleet.envs(state) {
        for (process, group) in &owner.groups {
            let waiting = now.get(&(env, process.as_str())).copied();
            if waiting != group.waiting.as_ref() {
                commands.push(Command::NoteWaiting { env, process: process.clone(), waiting: waiting.cloned() });
            }
        }
    }
}

fn make_room(state: &State, fleet: &Fleet<'_>, placement: &Placement, commands: &mut Vec<Command>) {
    let comes: BTreeSet<_> = placement.choices.iter().map(|choice| (choice.env, choice.process.as_str())).collect();
    for (env, process, _) in &placement.waiting {
        let stuck = !comes.contains(&(*env, process.as_str()));
        let group = state.envs.get(env).and_then(|owner| owner.groups.get(process)).filter(|_| stuck);
        let first = group.and_then(|group| rollout::gives_way(state, fleet, *env, process, group));
        commands.extend(first.map(|id| set_desired(id, Desired::Draining, DesiredChange::RolloutReplace)));
    }
}

fn forget(state: &State, facts: &Facts, commands: &mut Vec<Command>) {
    let old = state.index().ended().take_while(|(ended, _)| facts.now >= *ended + FORGET_AFTER);
    commands.extend(old.map(|(_, instance)| Command::Forget { instance }));
}

fn next_run(state: &State, facts: &Facts) -> NextRun {
    let lost = state.nodes.iter().filter(|(_, node)| node.phase == NodePhase::Active);
    let lost = lost.map(|(id, _)| offline_at(facts, *id));
    let late = deploys::deadlines(state);
    let old = state.index().ended().next().map(|(ended, _)| ended + FORGET_AFTER);
    lost.chain(late).chain(old).min()
}

pub(crate) fn set_desired(instance: InstanceId, desired: Desired, why: DesiredChange) -> Command {
    Command::SetDesired { instance, desired, why }
}
