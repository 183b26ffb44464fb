//! What an event changes. Total: what was decided can be applied, and nothing here can refuse.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::Duration;

use imbl::{OrdMap, Vector};

use crate::event::{
    DesiredChange, Envelope, Event, InstanceAllocated, InstanceStatus, ReleaseCreated, Resources, SandboxCreated,
    SnapshotCreated, Waiting,
};
use crate::fair::{Class, Turns};
use crate::ids::*;
use crate::index::{asked, settle};
use crate::labels::Labels;
use crate::phase::{DeployStatus, Desired, InstancePhase, NodePhase, VolumePhase};
use crate::place::score::TROUBLE_FAILURES;
use crate::quota::Limits;
use crate::reason::Remedy;
use crate::state::*;
use crate::units::{Seq, Timestamp};

pub fn evolve(state: &mut State, envelope: &Envelope) {
    assert_eq!(envelope.seq, state.seq.next(), "the log has no gaps");
    state.seq = envelope.seq;
    let (seq, at) = (envelope.seq, envelope.at);
    match &envelope.event {
        Event::LogStarted { log } => log_started(state, *log),
        Event::WriterStarted { term } => state.term = *term,
        Event::ClusterCreated { domain, prefix } => {
            state.cluster = Some(Cluster { domain: domain.clone(), prefix: *prefix });
        }
        Event::OrgCreated { org, name } => {
            let (name, limits, starts) = (name.clone(), Limits::default(), Vector::new());
            let constraints = Labels::default();
            state.orgs.insert(*org, Org { name, weight: 1, limits, constraints, starts, version: seq });
        }
        Event::ProjectCreated { project, org, name } => {
            let (org, name, turns) = (*org, name.clone(), Turns::default());
            state.projects.insert(*project, Project { org, name, weight: 1, turns, version: seq });
            state.index.own(org, |usage| usage.projects += 1);
        }
        Event::OrgLimitsSet { org, limits } => update(&mut state.orgs, org, |org| {
            (org.limits, org.version) = (limits.clone(), seq);
        }),
        Event::OrgWeightSet { org, weight } => update(&mut state.orgs, org, |org| {
            (org.weight, org.version) = (*weight, seq);
        }),
        Event::OrgConstraintsSet { org, constraints } => update(&mut state.orgs, org, |org| {
            (org.constraints, org.version) = (constraints.clone(), seq);
        }),
        Event::EnvConstraintsSet { env, constraints, .. } => update(&mut state.envs, env, |env| {
            (env.constraints, env.version) = (constraints.clone(), seq);
        }),
        Event::EnvClassSet { env, class, .. } => update(&mut state.envs, env, |env| {
            (env.class, env.version) = (*class, seq);
        }),
        Event::ProjectWeightSet { project, weight } => update(&mut state.projects, project, |project| {
            (project.weight, project.version) = (*weight, seq);
        }),
        Event::TokenCreated { token, org, hash, scopes } => {
            state.tokens.insert(*token, Token { org: *org, hash: *hash, scopes: scopes.clone() });
        }
        Event::TokenRevoked { token, .. } => drop(state.tokens.remove(token)),
        Event::AppCreated { app, org, project, name } => {
            state.apps.insert(*app, App { org: *org, project: *project, name: name.clone(), version: seq });
            state.index.own(*org, |usage| usage.apps += 1);
        }
        Event::EnvCreated { env, org, app, name } => {
            let (name, groups, constraints) = (name.clone(), OrdMap::new(), Labels::default());
            let (org, app, class) = (*org, *app, Class::default());
            state.envs.insert(*env, Env { org, app, name, groups, constraints, class, version: seq });
            state.index.own(org, |usage| usage.envs += 1);
        }
        Event::ReleaseCreated(created) => release_created(state, created, at),
        Event::DeployCreated { deploy, org, app, env, release, processes } => {
            let (status, failure, created_at) = (DeployStatus::Queued, None, at);
            let (id, processes) = (*deploy, processes.clone());
            let (org, app, env, release) = (*org, *app, *env, *release);
            aim(state, env, id, release, &processes, seq);
            let record = Deploy { org, app, env, release, processes, status, failure, created_at, version: seq };
            state.index.deploys(id, &record);
            state.deploys.insert(id, record);
            settle(state, env);
        }
        Event::DeployStatusChanged { deploy, status, failure } => {
            let Some(record) = state.deploys.get_mut(deploy) else { return };
            (record.status, record.failure, record.version) = (*status, failure.clone(), seq);
            state.index.deploys(*deploy, record);
            let env = record.env;
            if *status == DeployStatus::Failed {
                groups_of(state, env, *deploy, |group| group.failed_at = Some(at));
            }
            settle(state, env);
        }
        Event::RouteCreated { route, org, app, env, entry } => {
            let (entry, targets) = (entry.clone(), Vec::new());
            let record = Route { org: *org, app: *app, env: *env, entry, targets, version: seq };
            state.routes.insert(*route, record);
            state.index.own(*org, |usage| usage.routes += 1);
        }
        Event::RouteTargetSet { route, env, target, .. } => {
            let runs: BTreeSet<_> = state.live_in(*env).filter_map(|(_, it)| it.release()).collect();
            update(&mut state.routes, route, |route| {
                route.targets.retain(|it| it.release != target.release && runs.contains(&it.release));
                route.targets.push(target.clone());
                route.version = seq;
            });
        }
        Event::RouteDeleted { route, .. } => {
            let gone = state.routes.remove(route);
            gone.iter().for_each(|route| state.index.own(route.org, |usage| usage.routes -= 1));
        }
        Event::VolumeCreated { volume, org, env, name, size, backup_enabled } => {
            let (org, env, name, size, backup_enabled) = (*org, *env, name.clone(), *size, *backup_enabled);
            let (home, phase) = (None, VolumePhase::Creating);
            let record = Volume { org, env, name, size, backup_enabled, home, phase, created_at: at, version: seq };
            state.index.keep(*volume, &record);
            state.volumes.insert(*volume, record);
        }
        Event::VolumePhaseChanged { volume, node, phase, .. } => change_volume(state, *volume, |volume| {
            (volume.phase, volume.version) = (*phase, seq);
            volume.home.get_or_insert(*node);
        }),
        Event::VolumeDeleted { volume, .. } => change_volume(state, *volume, |volume| {
            // What is nowhere need not be removed.
            let phase = if volume.home.is_some() { VolumePhase::Deleting } else { VolumePhase::Deleted };
            (volume.phase, volume.version) = (phase, seq);
        }),
        Event::GroupWaiting { env, process, waiting } => {
            update(&mut state.envs, env, |env| {
                update(&mut env.groups, process, |group| waits(group, waiting, at));
            });
            settle(state, *env);
        }
        Event::InstanceAllocated(allocated) => instance_allocated(state, allocated, seq, at),
        Event::TemplateCreated { template, org, name, image, size, startup } => {
            let before = state.template_named(*org, name).map(|(id, _)| id);
            before.iter().for_each(|id| drop(state.templates.remove(id)));
            let (org, name, image, size, startup) = (*org, name.clone(), image.clone(), *size, startup.clone());
            let record = Template { org, name, image, size, startup, created_at: at, version: seq };
            state.templates.insert(*template, record);
        }
        Event::SandboxCreated(created) => sandbox_created(state, created, seq, at),
        Event::SnapshotCreated(created) => snapshot_created(state, created, seq, at),
        Event::SnapshotReleased { snapshot } => release(state, *snapshot),
        Event::SandboxTimeoutSet { instance, ends_at } => change(state, *instance, |instance| {
            instance.version = seq;
            if let Role::Sandbox(sandbox) = &mut instance.role {
                sandbox.ends_at = Some(*ends_at);
            }
        }),
        Event::InstanceDesiredChanged { instance, desired, why } => {
            given_up(state, *instance, *why, at);
            change(state, *instance, |instance| {
                (instance.desired, instance.desired_at, instance.version) = (*desired, at, seq);
                instance.failures += u32::from(*why == DesiredChange::PauseFailed);
                if *desired == Desired::Paused || *desired == Desired::Running {
                    instance.footprint = Footprint::AwakeAndKept;
                }
            });
        }
        Event::InstanceStatusChanged { instance, status, .. } => {
            boot_failed(state, *instance, status, at);
            change(state, *instance, |instance| instance_seen(instance, status, seq, at));
        }
        Event::InstanceForgotten { instance } => {
            let gone = state.instances.remove(instance);
            gone.iter().for_each(|it| state.index.leave(*instance, it));
        }
        Event::JoinTokenCreated { token, hash, expires_at } => {
            let record = JoinToken { hash: *hash, expires_at: *expires_at, used_by: None };
            state.join_tokens.insert(*token, record);
        }
        Event::NodeJoined { node, token, name, number, capacity } => {
            update(&mut state.join_tokens, token, |token| token.used_by = Some(*node));
            let record = Node {
                name: name.clone(),
                number: *number,
                capacity: capacity.clone(),
                phase: NodePhase::Active,
                returns_to: NodePhase::Active,
                phase_at: at,
                next_host: 1,
                failed_boots: Vec::new(),
                tolerated: BTreeSet::new(),
                version: seq,
            };
            state.nodes.insert(*node, record);
        }
        Event::NodePhaseChanged { node, phase } => update(&mut state.nodes, node, |node| {
            (node.phase, node.phase_at, node.version) = (*phase, at, seq);
            node.returns_to = if *phase == NodePhase::Offline { node.returns_to } else { *phase };
        }),
        Event::ReschedulingFrozen { .. } => state.rescheduling.frozen_since = Some(at),
        Event::ReschedulingResumed { forced } => {
            let forced_at = if *forced { Some(at) } else { state.rescheduling.forced_at };
            state.rescheduling = Rescheduling { frozen_since: None, forced_at };
        }
        Event::NodeCapacityChanged { node, capacity } => update(&mut state.nodes, node, |node| {
            (node.capacity, node.version) = (capacity.clone(), seq);
            node.tolerated.retain(|it| capacity.degraded.contains(it));
        }),
        Event::NodeDegradationTolerated { node, degraded } => update(&mut state.nodes, node, |node| {
            (node.tolerated, node.version) = (degraded.clone(), seq);
        }),
    }
}

/// Far more instances than one node is given between two backups.
const LOST_HOSTS_MAX: u64 = 1 << 32;

/// After a restore: addresses that the lost end of the log before gave out still lead somewhere.
fn log_started(state: &mut State, log: LogId) {
    state.log = Some(log);
    let nodes: Vec<_> = state.nodes.keys().copied().collect();
    nodes.iter().for_each(|id| update(&mut state.nodes, id, |node| node.next_host += LOST_HOSTS_MAX));
}

fn update<K: Ord + Clone, V: Clone>(map: &mut OrdMap<K, V>, key: &K, change: impl FnOnce(&mut V)) {
    if let Some(value) = map.get_mut(key) {
        change(value);
    }
}

/// Changes an instance and what follows from it.
fn change(state: &mut State, id: InstanceId, change: impl FnOnce(&mut Instance)) {
    let Some(it) = state.instances.get_mut(&id) else { return };
    let mut changed = it.clone();
    change(&mut changed);
    if it.counts_as(&changed) {
        // What happens most: an instance that is there is ready, or no longer.
        state.index.turn(it, &changed);
    } else {
        state.index.leave(id, it);
        state.index.enter(id, &changed);
    }
    let env = changed.replica().map(|replica| replica.env);
    *it = changed;
    env.into_iter().for_each(|env| settle(state, env));
}

fn release_created(state: &mut State, created: &ReleaseCreated, at: Timestamp) {
    let ReleaseCreated { release, org, app, image, manifest_hash, manifest, vars } = created.clone();
    state.releases.insert(release, Release { org, app, image, manifest_hash, manifest, vars, created_at: at });
}

fn fresh_group(release: ReleaseId, deploy: DeployId) -> Group {
    Group { release, deploy, waiting: None, waiting_since: None, given_up: 0, failed_at: None }
}

fn waits(group: &mut Group, waiting: &Option<Waiting>, at: Timestamp) {
    group.waiting_since = waiting.as_ref().map(|_| group.waiting_since.unwrap_or(at));
    group.waiting = waiting.clone();
}

/// A start counts against its org's limit for a minute, and as the turn of its class.
fn started(state: &mut State, org: OrgId, project: ProjectId, class: Class, at: Timestamp) {
    update(&mut state.orgs, &org, |org| {
        while org.starts.front().is_some_and(|oldest| at >= *oldest + STARTS_WINDOW) {
            org.starts.pop_front();
        }
        org.starts.push_back(at);
    });
    update(&mut state.projects, &project, |project| project.turns.take(class));
}

fn groups_of(state: &mut State, env: EnvId, deploy: DeployId, change: impl Fn(&mut Group)) {
    update(&mut state.envs, &env, |env| {
        let names: Vec<_> =
            env.groups.iter().filter(|(_, it)| it.deploy == deploy).map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| update(&mut env.groups, name, &change));
    });
}

/// A try that failed counts against its deploy.
fn given_up(state: &mut State, id: InstanceId, why: DesiredChange, at: Timestamp) {
    let Some(it) = state.instances.get(&id).filter(|_| why == DesiredChange::StartupFailed) else { return };
    let Some(Replica { env, process, deploy, .. }) = it.replica().cloned() else { return };
    update(&mut state.envs, &env, |env| {
        update(&mut env.groups, &process, |group| {
            if group.deploy == deploy {
                group.given_up += 1;
                group.failed_at = group.failed_at.map(|_| at);
            }
        });
    });
}

/// From now on the env's process types are those of this release.
fn aim(state: &mut State, env: EnvId, deploy: DeployId, release: ReleaseId, processes: &[String], seq: Seq) {
    update(&mut state.envs, &env, |env| {
        let group = |process: &String| (process.clone(), fresh_group(release, deploy));
        env.groups = processes.iter().map(group).collect();
        env.version = seq;
    });
    if let Some(env_now) = state.envs.get(&env) {
        let asked = asked(state, env_now);
        state.index.ask(env, env_now, asked);
    }
}

fn instance_allocated(state: &mut State, allocated: &InstanceAllocated, seq: Seq, at: Timestamp) {
    let InstanceAllocated { instance, org, app, env, process, node, release, deploy, address, resources, class } =
        allocated.clone();
    let Some(project) = state.apps.get(&app).map(|app| app.project) else { return };
    settle_volumes(state, env, release, &process, node, seq);
    let role = Role::Replica(Replica { app, env, process, release, deploy });
    let seed = Seed { org, project, role, node, address, resources, class };
    enters(state, instance, seed, seq, at);
    settle(state, env);
}

/// A volume is where the first instance that has it is placed.
fn settle_volumes(state: &mut State, env: EnvId, release: ReleaseId, process: &str, node: NodeId, seq: Seq) {
    let mounts = state.process(release, process).map(|process| process.mounts.as_slice()).unwrap_or_default();
    let named = mounts.iter().filter_map(|mount| state.volume_named(env, &mount.volume));
    let unsettled: Vec<_> = named.filter(|(_, volume)| volume.home.is_none()).map(|(id, _)| id).collect();
    for volume in unsettled {
        change_volume(state, volume, |volume| (volume.home, volume.version) = (Some(node), seq));
    }
}

/// What is deleted leaves the state; the log keeps that it was there.
fn change_volume(state: &mut State, id: VolumeId, change: impl FnOnce(&mut Volume)) {
    let Some(mut volume) = state.volumes.remove(&id) else { return };
    state.index.discard(&volume);
    change(&mut volume);
    if volume.phase != VolumePhase::Deleted {
        state.index.keep(id, &volume);
        state.volumes.insert(id, volume);
    }
}

fn sandbox_created(state: &mut State, created: &SandboxCreated, seq: Seq, at: Timestamp) {
    let SandboxCreated {
        instance,
        org,
        project,
        template,
        template_name,
        image,
        startup,
        vars,
        metadata,
        timeout_seconds,
        on_timeout,
        node,
        address,
        resources,
        class,
        from,
    } = created.clone();
    let ends_at = None;
    let sandbox =
        Sandbox { template, template_name, image, startup, vars, metadata, timeout_seconds, on_timeout, ends_at, from };
    let role = Role::Sandbox(Box::new(sandbox));
    enters(state, instance, Seed { org, project, role, node, address, resources, class }, seq, at);
}

fn snapshot_created(state: &mut State, created: &SnapshotCreated, seq: Seq, at: Timestamp) {
    let SnapshotCreated { snapshot, org, of, name, kept, node, address } = created.clone();
    let Some(source) = state.instances.get(&of) else { return };
    let Some(was) = source.sandbox().cloned() else { return };
    let (project, resources, class) = (source.project, source.resources, Class::Normal);
    let role = Role::Snapshot(Box::new(Snapshot { of, name, kept, was }));
    enters(state, snapshot, Seed { org, project, role, node, address, resources, class }, seq, at);
}

fn release(state: &mut State, id: InstanceId) {
    change(state, id, |instance| {
        if let Role::Snapshot(snapshot) = &mut instance.role {
            snapshot.kept = false;
        }
    });
}

/// What is decided of an instance before anything is seen of it.
struct Seed {
    org: OrgId,
    project: ProjectId,
    role: Role,
    node: NodeId,
    address: Ipv6Addr,
    resources: Resources,
    class: Class,
}

fn enters(state: &mut State, id: InstanceId, seed: Seed, seq: Seq, at: Timestamp) {
    let Seed { org, project, role, node, address, resources, class } = seed;
    update(&mut state.nodes, &node, |node| node.next_host += 1);
    let status = InstanceStatus {
        phase: InstancePhase::Allocated,
        boot: None,
        failure: None,
        exit_code: None,
        restarts: 0,
        hello_ms: None,
        start: None,
    };
    let rests = matches!(role, Role::Snapshot(_));
    let record = Instance {
        org,
        project,
        role,
        node,
        address,
        resources,
        desired: if rests { Desired::Paused } else { Desired::Running },
        desired_at: at,
        status,
        footprint: if rests { Footprint::Kept } else { Footprint::Awake },
        failures: 0,
        served: false,
        created_at: at,
        changed_at: at,
        version: seq,
    };
    if !rests {
        started(state, org, project, class, at);
    }
    state.index.enter(id, &record);
    state.instances.insert(id, record);
}

/// A node where boots fail again and again is a worse place for a while.
fn boot_failed(state: &mut State, id: InstanceId, status: &InstanceStatus, at: Timestamp) {
    let Some(it) = state.instances.get(&id) else { return };
    // That of a snapshot may be its sandbox's doing.
    let is_boot = it.snapshot().is_none() && it.sandbox().is_none_or(|it| it.from.is_none());
    let blame = is_boot && status.failure.as_ref().is_some_and(|failure| failure.reason.remedy() != Remedy::User);
    if blame && status.phase == InstancePhase::Failed && it.status.phase < InstancePhase::Ready {
        update(&mut state.nodes, &it.node, |node| {
            node.failed_boots.push(at);
            let surplus = node.failed_boots.len().saturating_sub(TROUBLE_FAILURES);
            node.failed_boots.drain(..surplus);
        });
    }
}

/// The time that it was given begins when it runs again.
fn goes_on(instance: &mut Instance, status: &InstanceStatus, at: Timestamp) {
    let is_up = instance.status.phase.is_at_rest() && !status.phase.is_at_rest();
    let waited = at.since(instance.desired_at);
    if let Role::Sandbox(sandbox) = &mut instance.role
        && is_up
        && instance.desired == Desired::Running
    {
        sandbox.ends_at = sandbox.ends_at.map(|ends_at| ends_at + waited);
    }
}

fn instance_seen(instance: &mut Instance, status: &InstanceStatus, seq: Seq, at: Timestamp) {
    let fails_anew = status.phase == InstancePhase::Failed && instance.status.phase != InstancePhase::Failed;
    instance.failures += u32::from(fails_anew);
    instance.served |= status.phase == InstancePhase::Ready;
    goes_on(instance, status, at);
    (instance.status, instance.changed_at, instance.version) = (status.clone(), at, seq);
    if (instance.desired, status.phase) == (Desired::Paused, InstancePhase::Paused) {
        instance.footprint = Footprint::Kept;
    }
    let Role::Sandbox(sandbox) = &mut instance.role else { return };
    if instance.served {
        sandbox.ends_at.get_or_insert(at + Duration::from_secs(sandbox.timeout_seconds));
    }
    if !status.phase.is_live() {
        // The log has it; the record stays for days.
        sandbox.metadata.clear();
    }
}
