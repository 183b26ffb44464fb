//! What the platform itself wants next, and when it must look again. Pure, idempotent: with nothing to do it says nothing.
//!
//! It speaks in rounds: whoever carries the commands out asks again until there are none. It looks only at envs where something may
//! be left to do, as the state's index says, and at those with work on a node that is to be empty.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::command::Command;
use crate::event::{DesiredChange, Isolation, Waiting};
use crate::facts::{Facts, INELIGIBLE_AFTER};
use crate::ids::*;
use crate::phase::{Desired, NodePhase};
use crate::place::{Placement, Wanted, place};
use crate::quota::Dimension;
use crate::state::{Env, Instance, STARTS_WINDOW, State};
use crate::units::Timestamp;

use self::agenda::Agenda;

mod agenda;
mod deploys;
pub(crate) mod nodes;
mod rollout;
pub(crate) mod sandboxes;

/// A record that ended stays visible this long.
pub const FORGET_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
/// The node's own time beside the grace that a process gets to end (P-SCH-34); then it is stopped outright.
pub const DRAIN_MARGIN: Duration = Duration::from_secs(5);
/// Machines that are emulated get so many times longer.
const EMULATED_PATIENCE: u32 = 10;

/// The next moment at which `reconcile` may have something new to say although nothing happened.
pub type NextRun = Option<Timestamp>;

pub fn reconcile(state: &State, facts: &Facts) -> (Vec<Command>, NextRun) {
    let (mut commands, mut agenda) = (Vec::new(), Agenda::new(facts.now));
    if state.cluster.is_none() {
        return (commands, None);
    }
    nodes::watch(state, facts, &mut agenda, &mut commands);
    nodes::lost(state, &mut commands);
    nodes::disabled(state, &mut agenda, &mut commands);
    // Who is lost comes first, and alone: nothing else may count on it in the same round.
    if !commands.is_empty() {
        return (commands, agenda.next());
    }
    sandboxes::end(state, &mut agenda, &mut commands);
    let fleet = Fleet::new(state);
    let wanted = groups(state, facts, &fleet, &mut agenda, &mut commands);
    let placement = place(state, facts, &wanted);
    waiting(state, &fleet, &placement.waiting, &mut commands);
    make_room(state, &fleet, &placement, &mut commands);
    eligibility(state, facts, &placement, &mut agenda);
    starts(state, &placement, &mut agenda);
    commands.extend(placement.choices.into_iter().map(|choice| Command::Allocate {
        env: choice.env,
        process: choice.process,
        release: choice.release,
        node: choice.node,
        class: choice.class,
    }));
    drained(state, &fleet, &mut agenda, &mut commands);
    deploys::settle(state, &fleet, &mut agenda, &mut commands);
    forget(state, &mut agenda, &mut commands);
    (commands, agenda.next())
}

/// Every instance that holds resources, by its group, of the envs where something may be left to do.
pub(crate) struct Fleet<'a> {
    envs: BTreeSet<EnvId>,
    groups: BTreeMap<(EnvId, &'a str), Vec<Member<'a>>>,
    /// Of a node that is to be empty, and next to go.
    leaving: BTreeSet<InstanceId>,
}

pub(crate) type Member<'a> = (InstanceId, &'a Instance);

impl<'a> Fleet<'a> {
    fn new(state: &'a State) -> Self {
        let leaving = nodes::leaving(state);
        let of_leaving = leaving.iter().filter_map(|id| Some(state.instances.get(id)?.replica()?.env));
        let envs: BTreeSet<_> = state.index().unsettled().chain(of_leaving).collect();
        let mut groups = BTreeMap::<_, Vec<_>>::new();
        for (id, instance) in envs.iter().flat_map(|env| state.live_in(*env)) {
            let group = instance.replica().map(|it| (it.env, it.process.as_str()));
            group.into_iter().for_each(|group| groups.entry(group).or_default().push((id, instance)));
        }
        Self { envs, groups, leaving }
    }

    pub(crate) fn live<'f>(&'f self, env: EnvId, process: &'f str) -> impl Iterator<Item = Member<'a>> + use<'a, 'f> {
        self.groups.get(&(env, process)).map(Vec::as_slice).unwrap_or_default().iter().copied()
    }

    fn envs<'f>(&'f self, state: &'a State) -> impl Iterator<Item = (EnvId, &'a Env)> + use<'a, 'f> {
        self.envs.iter().filter_map(|id| Some((*id, state.envs.get(id)?)))
    }

    pub(crate) fn is_leaving(&self, instance: InstanceId) -> bool {
        self.leaving.contains(&instance)
    }
}

fn groups(
    state: &State,
    facts: &Facts,
    fleet: &Fleet<'_>,
    agenda: &mut Agenda,
    commands: &mut Vec<Command>,
) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for (id, env) in fleet.envs(state) {
        for (process, group) in &env.groups {
            let step = rollout::Step { state, facts, fleet, env: id, process, group };
            wanted.extend(step.take(agenda, commands));
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

/// What waits may wait for another reason when a node has been silent for too long to count on.
fn eligibility(state: &State, facts: &Facts, placement: &Placement, agenda: &mut Agenda) {
    if !placement.waiting.is_empty() {
        let active = state.nodes.iter().filter(|(_, node)| node.phase == NodePhase::Active);
        active.for_each(|(id, _)| agenda.note(facts.heard_at(*id) + INELIGIBLE_AFTER));
    }
}

/// An org that started too much within a minute may start again when the oldest start is a minute ago.
fn starts(state: &State, placement: &Placement, agenda: &mut Agenda) {
    let too_often = |waiting: &Waiting| matches!(waiting, Waiting::OrgQuotaExceeded(it) if it.dimension == Dimension::StartsPerMinute);
    for (env, _, _) in placement.waiting.iter().filter(|(_, _, waiting)| too_often(waiting)) {
        let oldest = state.envs.get(env).and_then(|env| state.starts(env.org, agenda.now).next());
        oldest.into_iter().for_each(|at| agenda.note(at + STARTS_WINDOW));
    }
}

/// Who takes leave for too long is stopped.
fn drained(state: &State, fleet: &Fleet<'_>, agenda: &mut Agenda, commands: &mut Vec<Command>) {
    let members = fleet.groups.values().flatten().filter(|(_, it)| it.desired == Desired::Draining);
    for (id, it) in members {
        if agenda.is_due(drain_deadline(state, it)) {
            commands.push(set_desired(*id, Desired::Stopped, DesiredChange::DrainDeadline));
        }
    }
}

/// By when an instance that takes leave has left: its process gets its grace, its node some time of its own.
pub fn drain_deadline(state: &State, it: &Instance) -> Timestamp {
    let emulated = state.nodes.get(&it.node).is_some_and(|node| node.capacity.isolation == Isolation::Emulated);
    let patience = state.grace(it) + DRAIN_MARGIN;
    it.desired_at + if emulated { patience * EMULATED_PATIENCE } else { patience }
}

fn forget(state: &State, agenda: &mut Agenda, commands: &mut Vec<Command>) {
    let old = state.index().ended().take_while(|(ended, _)| agenda.is_due(*ended + FORGET_AFTER));
    commands.extend(old.map(|(_, instance)| Command::Forget { instance }));
}

pub(crate) fn set_desired(instance: InstanceId, desired: Desired, why: DesiredChange) -> Command {
    Command::SetDesired { instance, desired, why }
}
