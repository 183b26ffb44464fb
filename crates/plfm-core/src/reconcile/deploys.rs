//! How a deploy ends: all its process types ready on the release, or a failure that trying again will not mend.

use std::time::Duration;

use crate::command::Command;
use crate::facts::Facts;
use crate::ids::*;
use crate::phase::{DeployStatus, Desired};
use crate::reason::{Failure, Reason, Remedy};
use crate::state::{Deploy, Instance, State};
use crate::units::Timestamp;

use super::Fleet;

/// A rollout that is not done by then has failed (P-SCH-35).
pub const ROLLOUT_MAX: Duration = Duration::from_secs(600);
/// Tries of one new instance before its deploy fails (P-SCH-36).
pub const FAILURES_MAX: u32 = 3;

pub fn settle(state: &State, fleet: &Fleet<'_>, facts: &Facts, commands: &mut Vec<Command>) {
    for (id, deploy) in unfinished(state) {
        let (status, failure) = match verdict(state, fleet, facts, id, deploy) {
            Some((status, failure)) => (status, failure),
            None if deploy.status == DeployStatus::Queued => (DeployStatus::Rolling, None),
            None => continue,
        };
        commands.push(Command::SetDeployStatus { deploy: id, status, failure });
    }
}

pub fn deadlines(state: &State) -> impl Iterator<Item = Timestamp> {
    unfinished(state).map(|(_, deploy)| deploy.created_at + ROLLOUT_MAX)
}

fn unfinished(state: &State) -> impl Iterator<Item = (DeployId, &Deploy)> {
    state.index().deploying().filter_map(|id| Some((id, state.deploys.get(&id)?)))
}

fn verdict(
    state: &State,
    fleet: &Fleet<'_>,
    facts: &Facts,
    id: DeployId,
    deploy: &Deploy,
) -> Option<(DeployStatus, Option<Failure>)> {
    let all = deploy.processes.iter().flat_map(|process| fleet.live(deploy.env, process));
    if let Some(failure) = all.filter(|(_, it)| it.deploy == id).find_map(|(_, it)| hopeless(it)) {
        return Some((DeployStatus::Failed, Some(failure)));
    }
    if deploy.processes.iter().all(|process| is_done(state, fleet, deploy, process)) {
        return Some((DeployStatus::Succeeded, None));
    }
    let late = facts.now >= deploy.created_at + ROLLOUT_MAX;
    late.then(|| (DeployStatus::Failed, Some(too_late(state, deploy))))
}

fn hopeless(instance: &Instance) -> Option<Failure> {
    let failure = instance.status.failure.clone()?;
    let user = failure.reason.remedy() == Remedy::User && !instance.is_ready();
    (user || instance.failures >= FAILURES_MAX).then_some(failure)
}

fn is_done(state: &State, fleet: &Fleet<'_>, deploy: &Deploy, process: &str) -> bool {
    let count = state.process(deploy.release, process).map_or(0, |process| process.scaling.min as usize);
    let ready = fleet.live(deploy.env, process).filter(|(_, it)| it.release == deploy.release && it.is_ready()).count();
    // What is stopped outright serves nobody; it may stand on a lost node that never says so.
    let mut old = fleet.live(deploy.env, process).filter(|(_, it)| it.release != deploy.release);
    ready >= count && old.all(|(_, it)| it.desired == Desired::Stopped)
}

fn too_late(state: &State, deploy: &Deploy) -> Failure {
    let groups = state.envs.get(&deploy.env).map(|env| &env.groups);
    let waiting = groups.and_then(|groups| groups.values().find_map(|group| group.waiting.clone()));
    let detail = waiting.map_or_else(|| "not ready in time".to_owned(), |waiting| waiting.to_string());
    Failure::new(Reason::StartupTimeout, detail)
}
