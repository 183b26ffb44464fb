//! The second reader: what must never be, whatever was decided. Written apart from `decide`; empty means sound.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::Ipv6Addr;

use crate::event::{Entry, Event};
use crate::ids::*;
use crate::index::Index;
use crate::phase::{Desired, InstancePhase, NodePhase, VolumePhase};
use crate::state::{Footprint, Instance, Role, State, Volume};
use crate::units::Mebibytes;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    AddressUsedTwice {
        address: Ipv6Addr,
        by: [InstanceId; 2],
    },
    EntryUsedTwice {
        entry: Entry,
        by: [RouteId; 2],
    },
    NodeNumberUsedTwice {
        number: u16,
        by: [NodeId; 2],
    },
    JoinTokenUsedTwice {
        node: NodeId,
        by: [JoinTokenId; 2],
    },
    MemoryOvercommitted {
        node: NodeId,
        held: Mebibytes,
        capacity: Mebibytes,
    },
    DiskOvercommitted {
        node: NodeId,
        held: Mebibytes,
        capacity: Mebibytes,
    },
    Dangling {
        from: String,
        to: String,
    },
    ForeignOrg {
        what: String,
    },
    TwoDeploysUnfinished {
        env: EnvId,
    },
    LeftOnDecommissioned {
        node: NodeId,
        instance: InstanceId,
    },
    NodeNameUsedTwice {
        name: String,
        by: [NodeId; 2],
    },
    /// Who has no weight is never served.
    NoWeight {
        what: String,
    },
    PhaseWithoutCause {
        instance: InstanceId,
        phase: InstancePhase,
    },
    ForeignNode {
        instance: InstanceId,
        told_by: NodeId,
    },
    ImpossibleChange {
        what: String,
        from: String,
        to: String,
    },
    /// An instance with a volume where the volume is not.
    AwayFromVolume {
        instance: InstanceId,
        volume: String,
    },
    VolumeNameUsedTwice {
        name: String,
        by: [VolumeId; 2],
    },
    VolumeUsedTwice {
        volume: String,
        by: [InstanceId; 2],
    },
    UnlabelledNode {
        instance: InstanceId,
        node: NodeId,
    },
    /// New work where there is trouble that no operator tolerates.
    DegradedNode {
        instance: InstanceId,
        node: NodeId,
    },
    /// What is looked up is not what a search would find.
    IndexAstray {
        what: String,
    },
}

pub fn check(state: &State) -> Vec<Violation> {
    let mut violations = Vec::new();
    addresses(state, &mut violations);
    routes(state, &mut violations);
    nodes(state, &mut violations);
    memory(state, &mut violations);
    ownership(state, &mut violations);
    instances(state, &mut violations);
    volumes(state, &mut violations);
    deploys(state, &mut violations);
    weights(state, &mut violations);
    index(state, &mut violations);
    violations
}

/// Whether an event is a step that its life cycle knows.
pub fn check_step(before: &State, event: &Event) -> Option<Violation> {
    match event {
        Event::InstanceDesiredChanged { instance, desired, .. } => {
            let it = before.instances.get(instance)?;
            let runs = it.snapshot().is_some() && *desired != Desired::Stopped;
            let may = !runs && (it.sandbox().is_some() || *desired != Desired::Paused);
            impossible(instance, it.desired, *desired, it.desired.may_become(*desired) && may)
        }
        Event::InstanceStatusChanged { instance, node, status } => {
            let known = before.instances.get(instance)?;
            let (now, next) = (&known.status, status.phase);
            let told_by =
                (known.node != *node).then_some(Violation::ForeignNode { instance: *instance, told_by: *node });
            let allowed = now.phase == next || now.phase.may_become(next, now.boot != status.boot);
            let is_other = known.served && now.boot != status.boot && next == InstancePhase::Ready;
            let reborn = known.sandbox().is_some() && is_other;
            told_by.or_else(|| impossible(instance, now.phase, next, allowed && !reborn))
        }
        Event::InstanceAllocated(it) => unlabelled(before, it.instance, it.node, it.org, Some(it.env))
            .or_else(|| degraded(before, it.instance, it.node)),
        Event::SandboxCreated(it) => {
            unlabelled(before, it.instance, it.node, it.org, None).or_else(|| degraded(before, it.instance, it.node))
        }
        Event::DeployStatusChanged { deploy, status, .. } => {
            let now = before.deploys.get(deploy)?.status;
            impossible(deploy, now, *status, now.may_become(*status))
        }
        Event::NodePhaseChanged { node, phase } => {
            let known = before.nodes.get(node)?;
            let back =
                known.phase != NodePhase::Offline || [known.returns_to, NodePhase::Decommissioned].contains(phase);
            impossible(node, known.phase, *phase, known.phase.may_become(*phase) && back)
        }
        Event::VolumePhaseChanged { volume, node, phase, .. } => {
            let known = before.volumes.get(volume)?;
            let at_home = known.home.is_none_or(|home| home == *node);
            impossible(volume, known.phase, *phase, known.phase.may_become(*phase) && at_home)
        }
        _ => None,
    }
}

/// New work on a node that its org or env does not want.
fn unlabelled(before: &State, instance: InstanceId, node: NodeId, org: OrgId, env: Option<EnvId>) -> Option<Violation> {
    let labels = &before.nodes.get(&node)?.capacity.labels.0;
    let of_org = before.orgs.get(&org).map(|org| &org.constraints);
    let of_env = env.and_then(|env| before.envs.get(&env)).map(|env| &env.constraints);
    let mut asked = of_org.into_iter().chain(of_env).flat_map(|asked| &asked.0);
    let lacks = asked.any(|(key, value)| labels.get(key) != Some(value));
    lacks.then_some(Violation::UnlabelledNode { instance, node })
}

fn degraded(before: &State, instance: InstanceId, node: NodeId) -> Option<Violation> {
    let it = before.nodes.get(&node)?;
    let tolerated = it.capacity.degraded.iter().all(|what| it.tolerated.contains(what));
    (!tolerated).then_some(Violation::DegradedNode { instance, node })
}

fn impossible(what: &dyn Display, from: impl Display, to: impl Display, allowed: bool) -> Option<Violation> {
    let change = || Violation::ImpossibleChange { what: what.to_string(), from: from.to_string(), to: to.to_string() };
    (!allowed).then(change)
}

/// Reports each key that a second owner has.
fn unique<K: Ord + Clone, I: Copy>(owners: impl Iterator<Item = (K, I)>, mut twice: impl FnMut(K, [I; 2])) {
    let mut seen = BTreeMap::new();
    for (key, owner) in owners {
        if let Some(first) = seen.insert(key.clone(), owner) {
            twice(key, [first, owner]);
        }
    }
}

fn addresses(state: &State, violations: &mut Vec<Violation>) {
    let owners = state.instances.iter().map(|(id, instance)| (instance.address, *id));
    unique(owners, |address, by| violations.push(Violation::AddressUsedTwice { address, by }));
}

fn routes(state: &State, violations: &mut Vec<Violation>) {
    let owners = state.routes.iter().map(|(id, route)| (route.entry.clone(), *id));
    unique(owners, |entry, by| violations.push(Violation::EntryUsedTwice { entry, by }));
}

fn nodes(state: &State, violations: &mut Vec<Violation>) {
    let numbers = state.nodes.iter().map(|(id, node)| (node.number, *id));
    unique(numbers, |number, by| violations.push(Violation::NodeNumberUsedTwice { number, by }));
    let there = || state.nodes.iter().filter(|(_, node)| node.phase != NodePhase::Decommissioned);
    let names = there().map(|(id, node)| (node.name.clone(), *id));
    unique(names, |name, by| violations.push(Violation::NodeNameUsedTwice { name, by }));
    for (instance, it) in state.instances.iter().filter(|(_, it)| !has_ended(it)) {
        if state.nodes.contains_key(&it.node) && there().all(|(id, _)| *id != it.node) {
            violations.push(Violation::LeftOnDecommissioned { node: it.node, instance: *instance });
        }
    }
    let users = state.join_tokens.iter().filter_map(|(id, token)| Some((token.used_by?, *id)));
    unique(users, |node, by| violations.push(Violation::JoinTokenUsedTwice { node, by }));
}

fn memory(state: &State, violations: &mut Vec<Violation>) {
    for (id, node) in &state.nodes {
        let here = || state.instances.values().filter(|it| it.node == *id && !has_ended(it));
        let awake = here().filter(|it| it.footprint != Footprint::Kept);
        let held = awake.map(|it| it.resources.memory + it.resources.overhead).sum::<Mebibytes>();
        if held > node.capacity.memory {
            violations.push(Violation::MemoryOvercommitted { node: *id, held, capacity: node.capacity.memory });
        }
        let pictures = here().filter(|it| it.footprint != Footprint::Awake);
        let pictures = pictures.map(|it| it.resources.memory).sum::<Mebibytes>();
        let volumes = state.volumes.values().filter(|it| it.home == Some(*id)).map(|it| it.size).sum::<Mebibytes>();
        let held = here().map(|it| it.resources.disk).sum::<Mebibytes>() + pictures + volumes;
        if held > node.capacity.disk {
            violations.push(Violation::DiskOvercommitted { node: *id, held, capacity: node.capacity.disk });
        }
    }
}

fn has_ended(instance: &Instance) -> bool {
    matches!(instance.status.phase, InstancePhase::Stopped | InstancePhase::Gone)
}

/// Everything belongs to something that exists, of the same org.
fn ownership(state: &State, violations: &mut Vec<Violation>) {
    let mut owned = |from: &dyn Display, org: OrgId, to: &dyn Display, owner: Option<OrgId>| match owner {
        None => violations.push(Violation::Dangling { from: from.to_string(), to: to.to_string() }),
        Some(owner) if owner != org => violations.push(Violation::ForeignOrg { what: from.to_string() }),
        Some(_) => {}
    };
    for (id, app) in &state.apps {
        let project = state.projects.get(&app.project).map(|project| project.org);
        owned(id, app.org, &app.project, project);
    }
    for (id, env) in &state.envs {
        owned(id, env.org, &env.app, state.apps.get(&env.app).map(|app| app.org));
        for group in env.groups.values() {
            let release = state.releases.get(&group.release).filter(|release| release.app == env.app);
            owned(id, env.org, &group.release, release.map(|release| release.org));
            let deploy = state.deploys.get(&group.deploy).map(|deploy| deploy.org);
            owned(id, env.org, &group.deploy, deploy);
        }
    }
    for (id, template) in &state.templates {
        let org = state.orgs.get(&template.org).map(|_| template.org);
        owned(id, template.org, &template.org, org);
    }
    for (id, route) in &state.routes {
        owned(id, route.org, &route.env, state.envs.get(&route.env).map(|env| env.org));
        for target in &route.targets {
            let release = state.releases.get(&target.release).filter(|release| release.app == route.app);
            owned(id, route.org, &target.release, release.map(|release| release.org));
        }
    }
    for (id, instance) in &state.instances {
        let project = state.projects.get(&instance.project).map(|project| project.org);
        owned(id, instance.org, &instance.project, project);
        if let Role::Replica(replica) = &instance.role {
            let env = state.envs.get(&replica.env).map(|env| env.org);
            owned(id, instance.org, &replica.env, env);
            let release = state.releases.get(&replica.release).map(|release| release.org);
            owned(id, instance.org, &replica.release, release);
        }
        let from = instance.sandbox().and_then(|it| it.from).map(|from| from.snapshot);
        // A snapshot that failed may be gone before those that were to go on from it.
        if let Some((from, snapshot)) = from.and_then(|from| Some((from, state.instances.get(&from)?))) {
            let here = Some(snapshot).filter(|it| it.node == instance.node && it.snapshot().is_some());
            owned(id, instance.org, &from, here.map(|it| it.org));
        }
        let node = state.nodes.get(&instance.node).map(|_| instance.org);
        owned(id, instance.org, &instance.node, node);
    }
}

/// A machine that ran has a boot, one that failed has a reason.
fn instances(state: &State, violations: &mut Vec<Violation>) {
    for (id, instance) in &state.instances {
        let status = &instance.status;
        let unexplained = match status.phase {
            InstancePhase::Failed | InstancePhase::Unready => status.failure.is_none(),
            InstancePhase::Ready => status.boot.is_none(),
            _ => false,
        };
        if unexplained {
            violations.push(Violation::PhaseWithoutCause { instance: *id, phase: status.phase });
        }
    }
}

/// A volume is in one place, and has one user; none is of a name that another has, or is kept after its end.
fn volumes(state: &State, violations: &mut Vec<Violation>) {
    let wanted = state.volumes.iter().filter(|(_, it)| it.phase.is_wanted());
    let names = wanted.map(|(id, it)| ((it.env, it.name.clone()), *id));
    unique(names, |(_, name), by| violations.push(Violation::VolumeNameUsedTwice { name, by }));
    let ended = state.volumes.iter().filter(|(_, it)| it.phase == VolumePhase::Deleted);
    violations.extend(ended.map(|(id, _)| Violation::IndexAstray { what: id.to_string() }));
    let mut users = BTreeMap::new();
    for (id, it) in state.instances.iter().filter(|(_, it)| !has_ended(it)) {
        let Role::Replica(replica) = &it.role else { continue };
        let Some(release) = state.releases.get(&replica.release) else { continue };
        let Some(process) = release.manifest.processes.get(&replica.process) else { continue };
        for mount in &process.mounts {
            let volume = mount.volume.clone();
            let named = |it: &&Volume| it.env == replica.env && it.name == volume && it.phase.is_wanted();
            let home = state.volumes.values().find(named).and_then(|volume| volume.home);
            if home != Some(it.node) {
                violations.push(Violation::AwayFromVolume { instance: *id, volume: volume.clone() });
            }
            if let Some(other) = users.insert((replica.env, volume.clone()), *id) {
                violations.push(Violation::VolumeUsedTwice { volume, by: [other, *id] });
            }
        }
    }
}

fn deploys(state: &State, violations: &mut Vec<Violation>) {
    let mut unfinished = BTreeMap::<EnvId, u32>::new();
    for deploy in state.deploys.values().filter(|deploy| !deploy.status.is_final()) {
        *unfinished.entry(deploy.env).or_default() += 1;
    }
    let twice = unfinished.into_iter().filter(|(_, count)| *count > 1);
    violations.extend(twice.map(|(env, _)| Violation::TwoDeploysUnfinished { env }));
}

fn weights(state: &State, violations: &mut Vec<Violation>) {
    let orgs = state.orgs.iter().map(|(id, org)| (id.to_string(), org.weight));
    let projects = state.projects.iter().map(|(id, project)| (id.to_string(), project.weight));
    let without = orgs.chain(projects).filter(|(_, weight)| *weight == 0);
    violations.extend(without.map(|(what, _)| Violation::NoWeight { what }));
}

/// Nothing is kept twice and differs.
fn index(state: &State, violations: &mut Vec<Violation>) {
    if *state.index() != Index::of(state) {
        violations.push(Violation::IndexAstray { what: "the whole".to_owned() });
    }
    let of = |it: &Instance| match &it.role {
        Role::Replica(replica) => Some(replica.env),
        Role::Sandbox(_) | Role::Snapshot(_) => None,
    };
    for (id, env) in &state.envs {
        let live: BTreeSet<_> =
            state.instances.iter().filter(|(_, it)| of(it) == Some(*id) && !has_ended(it)).map(|it| *it.0).collect();
        let all_ready = live.iter().all(|it| state.instances[it].status.phase == InstancePhase::Ready);
        let waits = env.groups.values().any(|group| group.waiting.is_some());
        let unsettled = state.index().unsettled().any(|it| it == *id);
        if state.index().in_env(*id).collect::<BTreeSet<_>>() != live || !unsettled && (waits || !all_ready) {
            violations.push(Violation::IndexAstray { what: id.to_string() });
        }
    }
}
