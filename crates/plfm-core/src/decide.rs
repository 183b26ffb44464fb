//! Whether a command is accepted, and what happens then. Pure: the same state, command and facts give the same events.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::command::Command;
use crate::digest::Digest;
use crate::event::{Capacity, Event, InstanceAllocated, InstanceStatus, Isolation, Resources, Waiting};
use crate::facts::Facts;
use crate::ids::*;
use crate::phase::{DeployStatus, InstancePhase, NodePhase};
use crate::reason::Failure;
use crate::refusal::Refusal;
use crate::state::{Node, State};
use crate::units::Timestamp;

mod bootstrap;
mod deploy;

/// A silent node gets no new work after this (P-SCH-40).
pub const INELIGIBLE_AFTER: Duration = Duration::from_secs(30);
/// A silent node is judged lost after this (P-SCH-40).
pub const OFFLINE_AFTER: Duration = Duration::from_secs(60);

pub fn decide(state: &State, command: Command, facts: &Facts) -> Result<Vec<Event>, Refusal> {
    if state.cluster.is_none() && !matches!(command, Command::Bootstrap { .. }) {
        return Err(Refusal::NotBootstrapped);
    }
    match command {
        Command::Bootstrap { domain, prefix, admin } => bootstrap::bootstrap(state, domain, prefix, admin, facts),
        Command::StartLog => Ok(vec![Event::LogStarted { log: facts.ids().fresh() }]),
        Command::StartWriter => Ok(vec![Event::WriterStarted { term: state.term + crate::units::Term(1) }]),
        Command::CreateToken { hash, scopes } => {
            Ok(vec![Event::TokenCreated { token: facts.ids().fresh(), org: None, hash, scopes }])
        }
        Command::CreateJoinToken { hash, expires_at } => {
            Ok(vec![Event::JoinTokenCreated { token: facts.ids().fresh(), hash, expires_at }])
        }
        Command::JoinNode { token, name, capacity } => join_node(state, token, name, capacity, facts),
        Command::Deploy(wanted) => deploy::deploy(state, *wanted, facts),
        Command::Observe { node, capacity, instances } => observe(state, node, capacity, instances),
        Command::SetNodePhase { node, phase } => set_node_phase(state, node, phase, facts),
        Command::Allocate { env, process, release, node } => allocate(state, env, process, release, node, facts),
        Command::NoteWaiting { env, process, waiting } => note_waiting(state, env, process, waiting),
        Command::SetDesired { instance, desired, why } => {
            let current = state.instances.get(&instance).ok_or(Refusal::InstanceNotFound(instance))?;
            fresh(current.desired.may_become(desired), instance)?;
            Ok(vec![Event::InstanceDesiredChanged { instance, desired, why }])
        }
        Command::SetDeployStatus { deploy, status, failure } => set_deploy_status(state, deploy, status, failure),
        Command::Forget { instance } => {
            let current = state.instances.get(&instance).ok_or(Refusal::InstanceNotFound(instance))?;
            fresh(!current.holds_resources(), instance)?;
            Ok(vec![Event::InstanceForgotten { instance }])
        }
    }
}

/// The command still fits what it was made from.
fn fresh(holds: bool, what: impl std::fmt::Display) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::Stale { what: what.to_string() }) }
}

fn join_node(
    state: &State,
    token: Digest,
    name: String,
    capacity: Capacity,
    facts: &Facts,
) -> Result<Vec<Event>, Refusal> {
    deploy::check_name(&name)?;
    let (token, record) =
        state.join_tokens.iter().find(|(_, record)| record.hash == token).ok_or(Refusal::JoinTokenInvalid)?;
    if let Some(node) = record.used_by {
        return Err(Refusal::JoinTokenUsed(node));
    }
    if facts.now >= record.expires_at {
        return Err(Refusal::JoinTokenExpired(record.expires_at));
    }
    if state.node_named(&name).is_some() {
        return Err(Refusal::NodeNameExists(name));
    }
    // Number 0 stays free: the cluster's own services may want addresses.
    let highest = state.nodes.values().map(|node| node.number).max().unwrap_or(0);
    let number = highest.checked_add(1).ok_or(Refusal::NodesExhausted)?;
    Ok(vec![Event::NodeJoined { node: facts.ids().fresh(), token: *token, name, number, capacity }])
}

/// A report may come late, twice or not at all: it changes only what is new in it.
fn observe(
    state: &State,
    id: NodeId,
    capacity: Option<Capacity>,
    instances: Vec<(InstanceId, InstanceStatus)>,
) -> Result<Vec<Event>, Refusal> {
    let node = state.nodes.get(&id).ok_or(Refusal::NodeNotFound(id))?;
    let mut events = Vec::new();
    if let Some(capacity) = capacity.filter(|capacity| *capacity != node.capacity && fits(state, id, capacity)) {
        events.push(Event::NodeCapacityChanged { node: id, capacity });
    }
    // Each instance once: two lines about one would both be held against the same past.
    for (instance, status) in instances.into_iter().collect::<BTreeMap<_, _>>() {
        let Some(known) = state.instances.get(&instance) else { continue };
        if known.node != id {
            return Err(Refusal::NotYourInstance(instance));
        }
        if !is_explained(&status) {
            return Err(Refusal::StatusUnexplained { instance, phase: status.phase });
        }
        if is_news(&known.status, &status) {
            events.push(Event::InstanceStatusChanged { instance, node: id, status });
        }
    }
    Ok(events)
}

/// A node shrinks once what was promised on it has left.
fn fits(state: &State, node: NodeId, capacity: &Capacity) -> bool {
    state.committed().get(&node).is_none_or(|held| held.memory <= capacity.memory && held.disk <= capacity.disk)
}

fn is_news(known: &InstanceStatus, told: &InstanceStatus) -> bool {
    known != told && (known.phase == told.phase || known.phase.may_become(told.phase, known.boot != told.boot))
}

fn is_explained(status: &InstanceStatus) -> bool {
    match status.phase {
        InstancePhase::Failed | InstancePhase::Unready => status.failure.is_some(),
        InstancePhase::Ready => status.boot.is_some(),
        _ => true,
    }
}

fn set_node_phase(state: &State, id: NodeId, phase: NodePhase, facts: &Facts) -> Result<Vec<Event>, Refusal> {
    let node = state.nodes.get(&id).ok_or(Refusal::NodeNotFound(id))?;
    let silent = facts.silent(id) >= OFFLINE_AFTER;
    fresh(node.phase.may_become(phase) && silent == (phase == NodePhase::Offline), id)?;
    Ok(vec![Event::NodePhaseChanged { node: id, phase }])
}

/// Checks once more what `place` chose from: between choice and decision another command may have taken the room.
fn allocate(
    state: &State,
    env: EnvId,
    process: String,
    release: ReleaseId,
    node: NodeId,
    facts: &Facts,
) -> Result<Vec<Event>, Refusal> {
    let stale = || Refusal::Stale { what: format!("{process} of {env}") };
    let cluster = state.cluster.as_ref().ok_or(Refusal::NotBootstrapped)?;
    let (owner, host) = state.envs.get(&env).zip(state.nodes.get(&node)).ok_or_else(stale)?;
    let group = owner.groups.get(&process).filter(|group| group.release == release).ok_or_else(stale)?;
    let resources = resources(state, release, &process, host).ok_or_else(stale)?;
    let held = state.committed().get(&node).copied().unwrap_or_default();
    let room = host.phase == NodePhase::Active
        && held.memory + resources.memory + resources.overhead <= host.capacity.memory
        && held.disk + resources.disk <= host.capacity.disk;
    fresh(room, node)?;
    Ok(vec![Event::InstanceAllocated(Box::new(InstanceAllocated {
        instance: facts.ids().fresh(),
        org: owner.org,
        app: owner.app,
        env,
        process,
        node,
        release,
        deploy: group.deploy,
        address: host.address(cluster, host.next_host),
        resources,
    }))])
}

/// What one instance of a process type takes on a node.
pub fn resources(state: &State, release: ReleaseId, process: &str, node: &Node) -> Option<Resources> {
    let wanted = &state.process(release, process)?.resources;
    Some(Resources {
        cpu: wanted.cpu,
        memory: wanted.memory,
        overhead: if node.capacity.isolation == Isolation::Process {
            Default::default()
        } else {
            node.capacity.overhead
        },
        disk: wanted.disk,
    })
}

fn note_waiting(state: &State, env: EnvId, process: String, waiting: Option<Waiting>) -> Result<Vec<Event>, Refusal> {
    let group = state.envs.get(&env).and_then(|owner| owner.groups.get(&process));
    fresh(group.is_some_and(|group| group.waiting != waiting), env)?;
    Ok(vec![Event::GroupWaiting { env, process, waiting }])
}

fn set_deploy_status(
    state: &State,
    id: DeployId,
    status: DeployStatus,
    failure: Option<Failure>,
) -> Result<Vec<Event>, Refusal> {
    let deploy = state.deploys.get(&id).ok_or(Refusal::DeployNotFound(id))?;
    fresh(deploy.status.may_become(status), id)?;
    Ok(vec![Event::DeployStatusChanged { deploy: id, status, failure }])
}

/// The moment a silent node will be judged lost.
pub fn offline_at(facts: &Facts, node: NodeId) -> Timestamp {
    facts.heard.get(&node).copied().unwrap_or_default().max(facts.writer_since) + OFFLINE_AFTER
}
