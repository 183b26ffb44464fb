//! Snapshots of sandboxes, and sandboxes that go on from one: forks of one that runs, and those made of a snapshot that is kept.
//!
//! A snapshot is an instance that never runs. It is on the node of the sandbox that it is of, and so is whoever goes on from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::command::ForkSandbox;
use crate::digest::Digest;
use crate::event::{Event, OnTimeout, Origin, SandboxCreated, SnapshotCreated};
use crate::facts::Facts;
use crate::fair::Class;
use crate::ids::*;
use crate::phase::{Desired, InstancePhase};
use crate::place;
use crate::refusal::Refusal;
use crate::state::{Committed, Instance, Sandbox, Snapshot, State};
use crate::units::{Mebibytes, MilliCpu};
use ulid::Ulid;

use super::deploy::check_name;
use super::quotas;
use super::sandboxes::{check_timeout, living, refused_there};

/// As E2B has it (`spec/e2b-compat.md`, W-SNAP-4).
pub const FORKS_MAX: usize = 100;

/// What a sandbox that goes on from a snapshot has of its own.
pub struct Own {
    pub vars: Option<Digest>,
    pub metadata: BTreeMap<String, String>,
    pub timeout: Duration,
    pub on_timeout: OnTimeout,
    pub class: Class,
}

pub fn take(
    state: &State,
    snapshot: InstanceId,
    of: InstanceId,
    name: Option<String>,
    facts: &Facts,
) -> Result<Vec<Event>, Refusal> {
    name.iter().try_for_each(|name| check_name(name))?;
    // What looks like one is one.
    if let Some(name) = name.as_ref().filter(|name| Ulid::from_string(name).is_ok()) {
        return Err(Refusal::InvalidSandbox(format!(
            "`{name}` looks like the id of a snapshot, and cannot be the name of one"
        )));
    }
    let org = state.instances.get(&of).map(|it| it.org);
    let is_template = |name: &String| org.is_some_and(|org| state.template_named(org, name).is_some());
    if let Some(name) = name.as_ref().filter(|name| is_template(name)) {
        return Err(Refusal::NameTaken { name: name.clone(), by: "template" });
    }
    let (created, _) = taken(state, snapshot, of, name, true, facts)?;
    Ok(vec![created])
}

pub fn release(state: &State, id: InstanceId) -> Result<Vec<Event>, Refusal> {
    let kept = state.instances.get(&id).and_then(Instance::snapshot).is_some_and(|it| it.kept);
    if kept {
        Ok(vec![Event::SnapshotReleased { snapshot: id }])
    } else {
        Err(Refusal::SnapshotNotFound(id.to_string()))
    }
}

/// As many as there is room for; none at all is refused.
pub fn fork(state: &State, wanted: ForkSandbox, facts: &Facts) -> Result<Vec<Event>, Refusal> {
    let ForkSandbox { of, snapshot, forks, timeout } = wanted;
    check_timeout(timeout)?;
    if timeout.is_zero() {
        return Err(Refusal::InvalidSandbox("a fork runs for a second at least".to_owned()));
    }
    if !(1..=FORKS_MAX).contains(&forks.len()) {
        return Err(Refusal::InvalidSandbox(format!("a sandbox is forked 1 to {FORKS_MAX} times at once")));
    }
    let (created, mut more) = taken(state, snapshot, of, None, false, facts)?;
    let (source, was) = living(state, of)?;
    let (mut events, mut known) = (vec![created], BTreeSet::from([snapshot]));
    for fork in forks {
        if state.instances.contains_key(&fork) || !known.insert(fork) {
            return Err(Refusal::SandboxExists(fork));
        }
        let own = Own {
            vars: was.vars,
            metadata: was.metadata.clone(),
            timeout,
            on_timeout: was.on_timeout,
            class: Class::Normal,
        };
        match goes_on(state, fork, (snapshot, source, was), own, more, facts) {
            Ok(created) => events.push(created),
            Err(refusal) if events.len() == 1 => return Err(refusal),
            Err(_) => break,
        }
        more = more.plus(Committed::from(&source.resources));
    }
    Ok(events)
}

/// One that goes on from a snapshot that is kept.
pub fn go_on(
    state: &State,
    instance: InstanceId,
    (snapshot, it, kept): (InstanceId, &Instance, &Snapshot),
    own: Own,
    facts: &Facts,
) -> Result<Vec<Event>, Refusal> {
    if !it.is_taken() {
        return Err(Refusal::SandboxBusy { instance: snapshot, phase: it.status.phase });
    }
    let own = Own { vars: own.vars.or(kept.was.vars), ..own };
    Ok(vec![goes_on(state, instance, (snapshot, it, &kept.was), own, Committed::default(), facts)?])
}

/// By its id or its name.
pub fn named<'a>(state: &'a State, org: OrgId, text: &str) -> Option<(InstanceId, &'a Instance, &'a Snapshot)> {
    let by_id = || text.parse::<InstanceId>().ok().and_then(|id| Some((id, state.instances.get(&id)?)));
    let (id, it) = state.snapshot_named(org, text).or_else(by_id)?;
    let snapshot = it.snapshot().filter(|snapshot| snapshot.kept && it.org == org && it.holds_resources())?;
    Some((id, it, snapshot))
}

/// The snapshot of this sandbox that its node has not taken yet.
pub fn pending(state: &State, of: InstanceId) -> Option<InstanceId> {
    let is_pending = |id: &InstanceId| {
        let it = state.instances.get(id);
        it.is_some_and(|it| {
            let waits = it.desired == Desired::Paused
                && matches!(it.status.phase, InstancePhase::Allocated | InstancePhase::Pausing);
            waits && it.snapshot().is_some_and(|it| it.of == of)
        })
    };
    state.index().snapshots().find(is_pending)
}

/// The snapshot, and what it takes of its node.
fn taken(
    state: &State,
    snapshot: InstanceId,
    of: InstanceId,
    name: Option<String>,
    kept: bool,
    facts: &Facts,
) -> Result<(Event, Committed), Refusal> {
    let cluster = state.cluster.as_ref().ok_or(Refusal::NotBootstrapped)?;
    let (source, _) = living(state, of)?;
    match (source.desired, source.status.phase) {
        (Desired::Paused, _) => return Err(Refusal::SandboxPaused(of)),
        (_, InstancePhase::Ready | InstancePhase::Unready) => {}
        (_, phase) => return Err(Refusal::SandboxBusy { instance: of, phase }),
    }
    if state.instances.contains_key(&snapshot) {
        return Err(Refusal::SandboxExists(snapshot));
    }
    quotas::snapshot(state, source.org)?;
    let all = Committed::from(&source.resources);
    let needs = Committed { memory: Mebibytes(0), cpu: MilliCpu(0), disk: all.disk + source.resources.memory, ..all };
    if let Some(waiting) = place::no_room_there(state, facts, source.node, Committed::default(), needs) {
        return Err(refused_there(state, source, waiting));
    }
    let node = state.nodes.get(&source.node).ok_or(Refusal::NodeNotFound(source.node))?;
    let address = node.address(cluster, node.next_host);
    let (org, node) = (source.org, source.node);
    Ok((Event::SnapshotCreated(Box::new(SnapshotCreated { snapshot, org, of, name, kept, node, address })), needs))
}

/// `more` is what is decided in the same moment: the addresses after those are its.
fn goes_on(
    state: &State,
    instance: InstanceId,
    (snapshot, it, was): (InstanceId, &Instance, &Sandbox),
    own: Own,
    more: Committed,
    facts: &Facts,
) -> Result<Event, Refusal> {
    let cluster = state.cluster.as_ref().ok_or(Refusal::NotBootstrapped)?;
    let beside = Committed { instances: more.instances.saturating_sub(1), ..more };
    quotas::fork(state, it.org, &it.resources, beside, facts.now).map_err(Refusal::QuotaExceeded)?;
    if let Some(waiting) = place::no_room_beside(state, facts, it, more) {
        return Err(refused_there(state, it, waiting));
    }
    let node = state.nodes.get(&it.node).ok_or(Refusal::NodeNotFound(it.node))?;
    let generation = was.from.map_or(0, |from| from.generation) + 1;
    Ok(Event::SandboxCreated(Box::new(SandboxCreated {
        instance,
        org: it.org,
        project: it.project,
        template: was.template,
        template_name: was.template_name.clone(),
        image: was.image.clone(),
        startup: was.startup.clone(),
        vars: own.vars,
        metadata: own.metadata,
        timeout_seconds: own.timeout.as_secs(),
        on_timeout: own.on_timeout,
        node: it.node,
        address: node.address(cluster, node.next_host + u64::from(more.instances)),
        resources: it.resources,
        class: own.class,
        from: Some(Origin { snapshot, generation }),
    })))
}
