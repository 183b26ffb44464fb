//! Whether a command is accepted, and what happens then. Pure: the same state, command and facts give the same events.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::command::Command;
use crate::event::{
    Capacity, DesiredChange, Event, InstanceAllocated, InstanceStatus, Isolation, Resources, Scope, Waiting,
};
use crate::facts::Facts;
use crate::ids::*;
use crate::manifest::Resources as Size;
use crate::phase::{DeployStatus, Desired, InstancePhase, NodePhase};
use crate::place::{self, Choice, Kind};
use crate::reason::Failure;
use crate::refusal::Refusal;
use crate::state::{Instance, Node, State, Token};
use crate::units::{Mebibytes, Timestamp};

mod bootstrap;
mod constraints;
mod deploy;
pub mod mass;
mod nodes;
mod quotas;
mod rollback;
pub mod sandboxes;
pub mod snapshots;
mod volumes;

/// A silent node is judged lost after this (P-SCH-40).
pub const OFFLINE_AFTER: Duration = Duration::from_secs(60);

/// Nodes say themselves what a machine needs beside its guest; a TiB is nonsense, and sums stay far from the end of numbers.
const OVERHEAD_MAX: Mebibytes = Mebibytes(1 << 20);

pub fn decide(state: &State, command: Command, facts: &Facts) -> Result<Vec<Event>, Refusal> {
    if state.cluster.is_none() && !matches!(command, Command::Bootstrap { .. }) {
        return Err(Refusal::NotBootstrapped);
    }
    match command {
        Command::Bootstrap { domain, prefix, admin } => bootstrap::bootstrap(state, domain, prefix, admin, facts),
        Command::StartLog => Ok(vec![Event::LogStarted { log: facts.ids().fresh() }]),
        Command::StartWriter => Ok(vec![Event::WriterStarted { term: state.term + crate::units::Term(1) }]),
        Command::CreateToken { org, hash, scopes } => {
            let unknown = org.filter(|org| !state.orgs.contains_key(org));
            let created = Event::TokenCreated { token: facts.ids().fresh(), org, hash, scopes };
            unknown.map_or(Ok(vec![created]), |org| Err(Refusal::OrgUnknown(org)))
        }
        Command::RevokeToken { token } => revoke_token(state, token),
        Command::CreateJoinToken { hash, expires_at } => {
            Ok(vec![Event::JoinTokenCreated { token: facts.ids().fresh(), hash, expires_at }])
        }
        Command::JoinNode { token, name, capacity } => nodes::join(state, token, name, capacity, facts),
        Command::Deploy(wanted) => deploy::deploy(state, *wanted, facts),
        Command::Rollback { env, release } => rollback::rollback(state, env, release, facts),
        Command::DeleteRoute { route } => {
            let known = state.routes.get(&route).ok_or(Refusal::RouteNotFound(route))?;
            Ok(vec![Event::RouteDeleted { route, org: known.org, env: known.env }])
        }
        Command::Observe { node, capacity, instances, volumes } => {
            let disk = capacity.as_ref().map(|capacity| capacity.disk);
            let mut events = observe(state, node, capacity, instances)?;
            events.extend(volumes.iter().flat_map(|there| volumes::seen(state, node, disk, there)));
            Ok(events)
        }
        Command::DeleteVolume { volume } => volumes::delete(state, volume),
        Command::OrderNode { node, order } => nodes::order(state, node, order),
        Command::ForceReschedule => nodes::force_reschedule(state),
        Command::SetNodePhase { node, phase } => nodes::set_phase(state, node, phase, facts),
        Command::SetRescheduling { frozen } => nodes::set_rescheduling(state, frozen, facts),
        Command::Allocate { env, process, release, node, class } => {
            allocate(state, Choice { env, process, release, node, class }, facts)
        }
        Command::CreateTemplate(wanted) => sandboxes::create_template(state, *wanted, facts),
        Command::CreateSandbox(wanted) => sandboxes::create(state, *wanted, facts),
        Command::SetSandboxTimeout { instance, ends_at, at_least } => {
            sandboxes::set_timeout(state, instance, ends_at, at_least, facts)
        }
        Command::KillSandbox { instance } => sandboxes::kill(state, instance),
        Command::PauseSandbox { instance, why } => sandboxes::pause(state, instance, why),
        Command::ResumeSandbox { instance, timeout } => sandboxes::resume(state, instance, timeout, facts),
        Command::SnapshotSandbox { snapshot, of, name } => snapshots::take(state, snapshot, of, name, facts),
        Command::ReleaseSnapshot { snapshot } => snapshots::release(state, snapshot),
        Command::ForkSandbox(wanted) => snapshots::fork(state, wanted, facts),
        Command::SetLimits { org, limits } => quotas::set_limits(state, org, &limits),
        Command::SetOrgWeight { org, weight } => quotas::set_org_weight(state, org, weight),
        Command::SetProjectWeight { project, weight } => quotas::set_project_weight(state, project, weight),
        Command::SetOrgConstraints { org, constraints } => constraints::set_of_org(state, org, constraints),
        Command::SetEnvConstraints { env, constraints } => constraints::set_of_env(state, env, constraints),
        Command::SetEnvClass { env, class } => quotas::set_env_class(state, env, class),
        Command::NoteWaiting { env, process, waiting } => note_waiting(state, env, process, waiting),
        Command::SetDesired { instance, desired, why } => {
            let current = state.instances.get(&instance).ok_or(Refusal::InstanceNotFound(instance))?;
            // To pause and to go on are asked for by their own commands, which see that there is room.
            let ends = matches!(desired, Desired::Draining | Desired::Stopped);
            fresh(ends && current.desired.may_become(desired), instance)?;
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

/// Nobody locks everybody out.
fn revoke_token(state: &State, id: TokenId) -> Result<Vec<Event>, Refusal> {
    let known = state.tokens.get(&id).ok_or(Refusal::TokenNotFound(id))?;
    let may_all = |token: &Token| token.org.is_none() && Scope::ALL.iter().all(|scope| token.scopes.contains(scope));
    let mut others = state.tokens.iter().filter(|(other, _)| **other != id);
    if may_all(known) && !others.any(|(_, token)| may_all(token)) {
        return Err(Refusal::LastAdmin(id));
    }
    Ok(vec![Event::TokenRevoked { token: id, org: known.org }])
}

/// The command still fits what it was made from.
fn fresh(holds: bool, what: impl std::fmt::Display) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::Stale { what: what.to_string() }) }
}

/// A report may come late, twice or not at all: it changes only what is new in it.
fn observe(
    state: &State,
    id: NodeId,
    capacity: Option<Capacity>,
    instances: Vec<(InstanceId, InstanceStatus)>,
) -> Result<Vec<Event>, Refusal> {
    let node = state.nodes.get(&id).ok_or(Refusal::NodeNotFound(id))?;
    if node.phase == NodePhase::Decommissioned {
        return Err(Refusal::NodeDecommissioned(id));
    }
    let mut events = Vec::new();
    let capacity = capacity.map(|told| at_least_held(state, id, told));
    if let Some(capacity) = capacity.filter(|capacity| *capacity != node.capacity) {
        events.push(Event::NodeCapacityChanged { node: id, capacity });
    }
    // Each instance once: two lines about one would both be held against the same past.
    for (instance, status) in instances.into_iter().collect::<BTreeMap<_, _>>() {
        let Some(known) = state.instances.get(&instance) else { continue };
        if known.node != id {
            return Err(Refusal::NotYourInstance(instance));
        }
        let status = sandboxes::seen(known, status);
        if !is_explained(&status) {
            return Err(Refusal::StatusUnexplained { instance, phase: status.phase });
        }
        if is_news(known, &status) {
            let runs_on = sandboxes::could_not_pause(known, &status);
            events.push(Event::InstanceStatusChanged { instance, node: id, status });
            let (desired, why) = (Desired::Running, DesiredChange::PauseFailed);
            events.extend(runs_on.then_some(Event::InstanceDesiredChanged { instance, desired, why }));
        }
    }
    Ok(events)
}

/// A node shrinks as what was promised on it leaves; where it is reached is news at once.
fn at_least_held(state: &State, node: NodeId, told: Capacity) -> Capacity {
    let held = state.index.held(node);
    let labels = told.labels.bounded();
    Capacity { memory: told.memory.max(held.memory), disk: told.disk.max(held.disk), labels, ..told }
}

fn is_news(instance: &Instance, told: &InstanceStatus) -> bool {
    let known = &instance.status;
    let other_boot = known.boot != told.boot;
    // A sandbox that has failed is over.
    let is_over = instance.sandbox().is_some() && known.phase == InstancePhase::Failed && told.phase.is_live();
    known != told && !is_over && (known.phase == told.phase || known.phase.may_become(told.phase, other_boot))
}

fn is_explained(status: &InstanceStatus) -> bool {
    match status.phase {
        InstancePhase::Failed | InstancePhase::Unready => status.failure.is_some(),
        InstancePhase::Ready => status.boot.is_some(),
        _ => true,
    }
}

/// Checks once more what `place` chose from: between choice and decision another command may have taken the room.
fn allocate(state: &State, choice: Choice, facts: &Facts) -> Result<Vec<Event>, Refusal> {
    let Choice { env, process, release, node, class } = choice;
    let stale = || Refusal::Stale { what: format!("{process} of {env}") };
    let cluster = state.cluster.as_ref().ok_or(Refusal::NotBootstrapped)?;
    let (owner, host) = state.envs.get(&env).zip(state.nodes.get(&node)).ok_or_else(stale)?;
    let group = owner.groups.get(&process).filter(|group| group.release == release).ok_or_else(stale)?;
    let kind = Kind::of_process(state, env, release, &process).ok_or_else(stale)?;
    let resources = kind.needs_on(host);
    fresh(host.takes_work() && kind.suits(node, host), node)?;
    fresh(place::has_room(host, state.index.held(node), kind.takes_on(host)), node)?;
    quotas::start(state, owner.org, &resources, facts.now)?;
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
        class,
    }))])
}

/// What one of this size takes on a node.
pub(crate) fn resources_on(size: &Size, node: &Node) -> Resources {
    let bare = node.capacity.isolation == Isolation::Process;
    let overhead = if bare { Mebibytes(0) } else { node.capacity.overhead.min(OVERHEAD_MAX) };
    Resources { cpu: size.cpu, memory: size.memory, overhead, disk: size.disk }
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
    facts.heard_at(node) + OFFLINE_AFTER
}
