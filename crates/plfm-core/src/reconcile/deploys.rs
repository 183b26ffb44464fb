//! How a deploy ends: all its process types ready on the release, or a failure that trying again will not mend.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::command::Command;
use crate::event::Waiting;
use crate::ids::*;
use crate::phase::{DeployStatus, Desired, NodePhase};
use crate::reason::{Failure, Reason, Remedy};
use crate::state::{Deploy, Instance, State};

use super::Fleet;
use super::agenda::Agenda;

/// A rollout that is not done by then has failed (P-SCH-35).
pub const ROLLOUT_MAX: Duration = Duration::from_secs(600);
/// Tries of one new instance before its deploy fails (P-SCH-36).
pub(super) const FAILURES_MAX: u32 = 3;

pub fn settle(state: &State, fleet: &Fleet<'_>, agenda: &mut Agenda, commands: &mut Vec<Command>) {
    for (id, deploy) in unfinished(state) {
        let (status, failure) = match verdict(state, fleet, agenda, id, deploy) {
            Some((status, failure)) => (status, failure),
            None if deploy.status == DeployStatus::Queued => (DeployStatus::Rolling, None),
            None => continue,
        };
        commands.push(Command::SetDeployStatus { deploy: id, status, failure });
    }
}

fn unfinished(state: &State) -> impl Iterator<Item = (DeployId, &Deploy)> {
    state.index().deploying().filter_map(|id| Some((id, state.deploys.get(&id)?)))
}

fn verdict(
    state: &State,
    fleet: &Fleet<'_>,
    agenda: &mut Agenda,
    id: DeployId,
    deploy: &Deploy,
) -> Option<(DeployStatus, Option<Failure>)> {
    let all = deploy.processes.iter().flat_map(|process| fleet.live(deploy.env, process));
    if let Some(failure) = all.filter(|(_, it)| it.deploy() == Some(id)).find_map(|(_, it)| hopeless(state, it)) {
        return Some((DeployStatus::Failed, Some(failure)));
    }
    if deploy.processes.iter().all(|process| is_done(state, fleet, deploy, process)) {
        return Some((DeployStatus::Succeeded, None));
    }
    if let Some(failure) = wrong_platform(state, deploy) {
        return Some((DeployStatus::Failed, Some(failure)));
    }
    agenda
        .is_due(deploy.created_at + ROLLOUT_MAX)
        .then(|| (DeployStatus::Failed, Some(too_late(state, fleet, id, deploy))))
}

/// The user has to mend it, or it failed too often, here or where it was tried before.
fn hopeless(state: &State, instance: &Instance) -> Option<Failure> {
    let failure = instance.status.failure.clone()?;
    let replica = instance.replica()?;
    let group = state.envs.get(&replica.env).and_then(|env| env.groups.get(&replica.process));
    let before = group.filter(|group| group.deploy == replica.deploy).map_or(0, |group| group.given_up);
    let user = failure.reason.remedy() == Remedy::User && !instance.is_ready();
    (user || instance.failures + before >= FAILURES_MAX).then_some(failure)
}

/// A node that is away for a while may come back; one of another kind than all that ever joined is not waited for.
fn wrong_platform(state: &State, deploy: &Deploy) -> Option<Failure> {
    let platforms = &state.releases.get(&deploy.release)?.image.platforms;
    let there = state.nodes.values().filter(|node| node.phase != NodePhase::Decommissioned);
    let nodes: BTreeSet<String> = there.map(|node| node.capacity.arch.clone()).collect();
    if nodes.is_empty() || nodes.iter().any(|arch| platforms.contains_key(arch)) {
        return None;
    }
    let why = Waiting::ImagePlatformUnavailable {
        offered: platforms.keys().cloned().collect(),
        nodes: Vec::from_iter(nodes),
    };
    Some(Failure::new(Reason::ImagePlatformUnavailable, why.to_string()))
}

fn is_done(state: &State, fleet: &Fleet<'_>, deploy: &Deploy, process: &str) -> bool {
    let count = state.process(deploy.release, process).map_or(0, |process| process.scaling.min as usize);
    let ready =
        fleet.live(deploy.env, process).filter(|(_, it)| it.release() == Some(deploy.release) && it.is_ready()).count();
    // What is stopped outright serves nobody; it may stand on a lost node that never says so.
    let mut old = fleet.live(deploy.env, process).filter(|(_, it)| it.release() != Some(deploy.release));
    ready >= count && old.all(|(_, it)| it.desired == Desired::Stopped)
}

/// With what it waits for, or with what the last of its instances says.
fn too_late(state: &State, fleet: &Fleet<'_>, id: DeployId, deploy: &Deploy) -> Failure {
    let groups = state.envs.get(&deploy.env).map(|env| &env.groups);
    let waiting = groups.and_then(|groups| groups.values().find_map(|group| group.waiting.clone()));
    let mut members = deploy.processes.iter().flat_map(|process| fleet.live(deploy.env, process));
    let mut ails = || members.find_map(|(_, it)| it.status.failure.clone().filter(|_| it.deploy() == Some(id)));
    let why = waiting.map(|waiting| waiting.to_string()).or_else(|| Some(ails()?.to_string()));
    let minutes = ROLLOUT_MAX.as_secs() / 60;
    let detail = format!("not ready in {minutes} minutes");
    Failure::new(Reason::StartupTimeout, why.map_or(detail.clone(), |why| format!("{detail}: {why}")))
}
