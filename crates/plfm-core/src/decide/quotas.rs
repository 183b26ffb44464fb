//! What an org may have, and its part when there is not enough (P-QUO-1 to -4).

use std::collections::BTreeMap;

use crate::event::{Event, Resources};
use crate::fair::Class;
use crate::ids::*;
use crate::index::Usage;
use crate::manifest::{Manifest, Resources as Size};
use crate::quota::{Dimension, Excess, Limits};
use crate::refusal::Refusal;
use crate::state::{Committed, Instance, State};
use crate::units::{Mebibytes, Timestamp};

/// Beyond this a weight is no longer a part but all of it.
pub const WEIGHT_MAX: u32 = 1_000;

pub fn set_limits(state: &State, org: OrgId, said: &BTreeMap<Dimension, Option<u64>>) -> Result<Vec<Event>, Refusal> {
    let known = state.orgs.get(&org).ok_or(Refusal::OrgUnknown(org))?;
    let mut limits = known.limits.clone();
    for (dimension, limit) in said {
        limits.0.remove(dimension);
        limits.0.extend(limit.map(|limit| (*dimension, limit)));
    }
    Ok(if known.limits == limits { Vec::new() } else { vec![Event::OrgLimitsSet { org, limits }] })
}

pub fn set_org_weight(state: &State, org: OrgId, weight: u32) -> Result<Vec<Event>, Refusal> {
    let known = state.orgs.get(&org).ok_or(Refusal::OrgUnknown(org))?;
    check_weight(weight)?;
    Ok(if known.weight == weight { Vec::new() } else { vec![Event::OrgWeightSet { org, weight }] })
}

pub fn set_project_weight(state: &State, project: ProjectId, weight: u32) -> Result<Vec<Event>, Refusal> {
    let known = state.projects.get(&project).ok_or(Refusal::ProjectNotFound(project))?;
    check_weight(weight)?;
    Ok(if known.weight == weight { Vec::new() } else { vec![Event::ProjectWeightSet { project, weight }] })
}

pub fn set_env_class(state: &State, env: EnvId, class: Class) -> Result<Vec<Event>, Refusal> {
    let known = state.envs.get(&env).ok_or(Refusal::EnvNotFound(env))?;
    let is_so = known.class == class;
    Ok(if is_so { Vec::new() } else { vec![Event::EnvClassSet { env, org: known.org, class }] })
}

fn check_weight(weight: u32) -> Result<(), Refusal> {
    let sound = (1..=WEIGHT_MAX).contains(&weight);
    if sound { Ok(()) } else { Err(Refusal::InvalidWeight { weight, most: WEIGHT_MAX }) }
}

/// A deploy may make its app, its env and its routes, and ask for all that its manifest asks for. What other deploys ask for counts
/// before it is placed, so that two of one moment cannot both have the last of it.
///
/// What runs under a limit that was lowered goes on; but a release that would have to be started could not be, so it is denied before
/// anything gives way to it.
pub fn deploy(
    state: &State,
    org: OrgId,
    env: EnvId,
    release: ReleaseId,
    manifest: &Manifest,
    events: &[Event],
) -> Result<(), Refusal> {
    let Some(limits) = state.orgs.get(&org).map(|org| &org.limits) else { return Ok(()) };
    let usage = state.index().usage(org);
    limits.check_owned(&usage, &made(events)).map_err(Refusal::QuotaExceeded)?;
    let asked = manifest.processes.values().map(Committed::asked_by).fold(Committed::default(), Committed::plus);
    // With what each costs its node at the least, as it will be counted when it is started.
    let overhead = state.nodes.values().map(|node| node.capacity.overhead.0).min().unwrap_or(0);
    let overhead = Mebibytes(overhead.saturating_mul(asked.instances.into()));
    let asked = Committed { memory: asked.memory + overhead, ..asked };
    let (now, then) = state.index().promise(env, asked);
    limits.check_held(usage.promised, then.less(now)).map_err(Refusal::QuotaExceeded)?;
    let others = usage.promised.less(now);
    let fits = if starts(state, env, release, manifest) { limits.check_held(others, asked) } else { Ok(()) };
    fits.map_err(Refusal::QuotaExceeded)
}

/// Whether it is another release than what is wanted now, of any process type that has instances.
fn starts(state: &State, env: EnvId, release: ReleaseId, manifest: &Manifest) -> bool {
    let groups = state.envs.get(&env).map(|env| &env.groups);
    let runs = |name: &str| groups.and_then(|groups| groups.get(name)).is_some_and(|group| group.release == release);
    manifest.processes.iter().any(|(name, process)| process.scaling.min > 0 && !runs(name))
}

fn made(events: &[Event]) -> Usage {
    let count = |is: fn(&Event) -> bool| events.iter().filter(|event| is(event)).count() as u64;
    Usage {
        apps: count(|event| matches!(event, Event::AppCreated { .. })),
        envs: count(|event| matches!(event, Event::EnvCreated { .. })),
        routes: count(|event| matches!(event, Event::RouteCreated { .. })),
        volumes: count(|event| matches!(event, Event::VolumeCreated { .. })),
        volume_size: events.iter().filter_map(size_of_volume).sum(),
        ..Usage::default()
    }
}

fn size_of_volume(event: &Event) -> Option<Mebibytes> {
    match event {
        Event::VolumeCreated { size, .. } => Some(*size),
        _ => None,
    }
}

/// A sandbox may have what no deploy has been promised, wherever it would go: a denial is said before a lack of room.
pub fn sandbox(state: &State, org: OrgId, size: &Size, now: Timestamp) -> Result<(), Refusal> {
    let Some(limits) = state.orgs.get(&org).map(|org| &org.limits) else { return Ok(()) };
    let held = limits.check_held(state.index().usage(org).promised, Committed::of(1, size));
    held.and_then(|()| check_starts(state, org, limits, now)).map_err(Refusal::QuotaExceeded)
}

/// One more, beside `more` that is decided in the same moment.
pub fn fork(state: &State, org: OrgId, needs: &Resources, more: Committed, now: Timestamp) -> Result<(), Excess> {
    let Some(limits) = state.orgs.get(&org).map(|org| &org.limits) else { return Ok(()) };
    limits.check_held(state.index().usage(org).promised.plus(more), needs.into())?;
    let starts = state.starts(org, now).count() as u64 + u64::from(more.instances);
    limits.check(Dimension::StartsPerMinute, starts, 1)
}

pub fn snapshot(state: &State, org: OrgId) -> Result<(), Refusal> {
    let Some(limits) = state.orgs.get(&org).map(|org| &org.limits) else { return Ok(()) };
    let checked = limits.check(Dimension::Snapshots, state.index().usage(org).snapshots, 1);
    checked.map_err(Refusal::QuotaExceeded)
}

/// What it gave back while it was paused, it asks for again.
pub fn resume(state: &State, it: &Instance) -> Result<(), Refusal> {
    let Some(limits) = state.orgs.get(&it.org).map(|org| &org.limits) else { return Ok(()) };
    let more = Committed::from(&it.resources).less(it.held());
    limits.check_held(state.index().usage(it.org).promised, more).map_err(Refusal::QuotaExceeded)
}

/// Checked again for each instance, surge included, and with the overhead of its node.
pub fn start(state: &State, org: OrgId, needs: &Resources, now: Timestamp) -> Result<(), Refusal> {
    let Some(limits) = state.orgs.get(&org).map(|org| &org.limits) else { return Ok(()) };
    let held = limits.check_held(state.index().usage(org).counted, needs.into());
    held.and_then(|()| check_starts(state, org, limits, now)).map_err(Refusal::QuotaExceeded)
}

fn check_starts(state: &State, org: OrgId, limits: &Limits, now: Timestamp) -> Result<(), Excess> {
    limits.check(Dimension::StartsPerMinute, state.starts(org, now).count() as u64, 1)
}
