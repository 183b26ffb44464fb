//! What an event changes. Total: what was decided can be applied, and nothing here can refuse.

use imbl::OrdMap;

use crate::event::{Envelope, Event, InstanceAllocated, InstanceStatus, ReleaseCreated};
use crate::ids::*;
use crate::phase::{DeployStatus, Desired, InstancePhase, NodePhase};
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
            state.orgs.insert(*org, Org { name: name.clone(), version: seq });
        }
        Event::ProjectCreated { project, org, name } => {
            state.projects.insert(*project, Project { org: *org, name: name.clone(), version: seq });
        }
        Event::TokenCreated { token, org, hash, scopes } => {
            state.tokens.insert(*token, Token { org: *org, hash: *hash, scopes: scopes.clone() });
        }
        Event::AppCreated { app, org, project, name } => {
            state.apps.insert(*app, App { org: *org, project: *project, name: name.clone(), version: seq });
        }
        Event::EnvCreated { env, org, app, name } => {
            let groups = OrdMap::new();
            state.envs.insert(*env, Env { org: *org, app: *app, name: name.clone(), groups, version: seq });
        }
        Event::ReleaseCreated(created) => release_created(state, created, at),
        Event::DeployCreated { deploy, org, app, env, release, processes } => {
            aim(state, *env, *deploy, *release, processes, seq);
            let (processes, status, failure) = (processes.clone(), DeployStatus::Queued, None);
            let (org, app, env, release) = (*org, *app, *env, *release);
            let record = Deploy { org, app, env, release, processes, status, failure, created_at: at, version: seq };
            state.deploys.insert(*deploy, record);
        }
        Event::DeployStatusChanged { deploy, status, failure } => update(&mut state.deploys, deploy, |deploy| {
            (deploy.status, deploy.failure, deploy.version) = (*status, failure.clone(), seq);
        }),
        Event::RouteCreated { route, org, app, env, entry, process, port } => {
            let (entry, process) = (entry.clone(), process.clone());
            let record = Route { org: *org, app: *app, env: *env, entry, process, port: *port, version: seq };
            state.routes.insert(*route, record);
        }
        Event::RouteDeleted { route, .. } => {
            state.routes.remove(route);
        }
        Event::GroupWaiting { env, process, waiting } => update(&mut state.envs, env, |env| {
            update(&mut env.groups, process, |group| group.waiting = waiting.clone());
        }),
        Event::InstanceAllocated(allocated) => instance_allocated(state, allocated, seq, at),
        Event::InstanceDesiredChanged { instance, desired, .. } => update(&mut state.instances, instance, |instance| {
            (instance.desired, instance.version) = (*desired, seq);
        }),
        Event::InstanceStatusChanged { instance, status, .. } => update(&mut state.instances, instance, |instance| {
            instance_seen(instance, status, seq, at);
        }),
        Event::InstanceForgotten { instance } => {
            state.instances.remove(instance);
        }
        Event::JoinTokenCreated { token, hash, expires_at } => {
            let record = JoinToken { hash: *hash, expires_at: *expires_at, used_by: None };
            state.join_tokens.insert(*token, record);
        }
        Event::NodeJoined { node, token, name, number, capacity } => {
            update(&mut state.join_tokens, token, |token| token.used_by = Some(*node));
            let (name, capacity, phase) = (name.clone(), capacity.clone(), NodePhase::Active);
            let record = Node { name, number: *number, capacity, phase, next_host: 1, version: seq };
            state.nodes.insert(*node, record);
        }
        Event::NodePhaseChanged { node, phase } => update(&mut state.nodes, node, |node| {
            (node.phase, node.version) = (*phase, seq);
        }),
        Event::NodeCapacityChanged { node, capacity } => update(&mut state.nodes, node, |node| {
            (node.capacity, node.version) = (capacity.clone(), seq);
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

fn release_created(state: &mut State, created: &ReleaseCreated, at: Timestamp) {
    let ReleaseCreated { release, org, app, image, manifest_hash, manifest, vars } = created.clone();
    state.releases.insert(release, Release { org, app, image, manifest_hash, manifest, vars, created_at: at });
}

/// From now on the env's process types are those of this release.
fn aim(state: &mut State, env: EnvId, deploy: DeployId, release: ReleaseId, processes: &[String], seq: Seq) {
    update(&mut state.envs, &env, |env| {
        let group = |process: &String| (process.clone(), Group { release, deploy, waiting: None });
        env.groups = processes.iter().map(group).collect();
        env.version = seq;
    });
}

fn instance_allocated(state: &mut State, allocated: &InstanceAllocated, seq: Seq, at: Timestamp) {
    let InstanceAllocated { instance, org, app, env, process, node, release, deploy, address, resources } =
        allocated.clone();
    update(&mut state.nodes, &node, |node| node.next_host += 1);
    let status = InstanceStatus {
        phase: InstancePhase::Allocated,
        boot: None,
        failure: None,
        exit_code: None,
        restarts: 0,
        hello_ms: None,
    };
    let record = Instance {
        org,
        app,
        env,
        process,
        node,
        release,
        deploy,
        address,
        resources,
        desired: Desired::Running,
        status,
        failures: 0,
        created_at: at,
        changed_at: at,
        version: seq,
    };
    state.instances.insert(instance, record);
}

fn instance_seen(instance: &mut Instance, status: &InstanceStatus, seq: Seq, at: Timestamp) {
    let fails_anew = status.phase == InstancePhase::Failed && instance.status.phase != InstancePhase::Failed;
    instance.failures += u32::from(fails_anew);
    (instance.status, instance.changed_at, instance.version) = (status.clone(), at, seq);
}
