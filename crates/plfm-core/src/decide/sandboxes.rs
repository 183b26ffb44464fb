//! Sandboxes: accepted and placed in one decision, or refused in it; and the templates they are made of.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::command::{CreateSandbox, CreateTemplate};
use crate::event::{DesiredChange, Event, InstanceStatus, SandboxCreated, Startup, Waiting};
use crate::facts::Facts;
use crate::ids::*;
use crate::manifest::Resources as Size;
use crate::phase::{Desired, InstancePhase};
use crate::place::{self, NoPlace, Wish};
use crate::reason::{Failure, Reason};
use crate::refusal::Refusal;
use crate::state::{Footprint, Instance, Sandbox, State, Template};
use crate::units::{Mebibytes, MilliCpu, Timestamp};

use super::deploy::check_name;
use super::{fresh, quotas, snapshots};

/// Longer no sandbox lives without someone saying so again (A-VM-16).
pub const TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
pub const METADATA_MAX: usize = 64;
pub const METADATA_KEY_MAX: usize = 256;
pub const METADATA_VALUE_MAX: usize = 1_024;
/// All of it: it is kept in memory for every sandbox there is.
pub const METADATA_BYTES_MAX: usize = 16 << 10;
/// Of a start or ready command; what is longer belongs into the image.
const STARTUP_COMMAND_MAX: usize = 4_096;
/// Debian's kernel finds no room for itself in less; the rest as manifests have it.
const MEMORY: RangeInclusive<Mebibytes> = Mebibytes(128)..=Mebibytes(256 << 10);
const CPU: RangeInclusive<MilliCpu> = MilliCpu(100)..=MilliCpu(32_000);
const DISK: RangeInclusive<Mebibytes> = Mebibytes(256)..=Mebibytes(100 << 10);

pub fn create_template(state: &State, wanted: CreateTemplate, facts: &Facts) -> Result<Vec<Event>, Refusal> {
    let CreateTemplate { org, name, image, size, startup } = wanted;
    let org = state.org_named(&org).ok_or(Refusal::OrgNotFound(org))?;
    check_name(&name)?;
    check_size(&size)?;
    check_startup(&startup)?;
    if state.index().named(org, &name).next().is_some() {
        return Err(Refusal::NameTaken { name, by: "snapshot" });
    }
    let same = |it: &Template| it.image == image && it.size == size && it.startup == startup;
    if state.template_named(org, &name).is_some_and(|(_, known)| same(known)) {
        return Ok(Vec::new());
    }
    Ok(vec![Event::TemplateCreated { template: facts.ids().fresh(), org, name, image, size, startup }])
}

pub fn create(state: &State, wanted: CreateSandbox, facts: &Facts) -> Result<Vec<Event>, Refusal> {
    let CreateSandbox { instance, org, project, template, vars, metadata, class, timeout, on_timeout } = wanted;
    let cluster = state.cluster.as_ref().ok_or(Refusal::NotBootstrapped)?;
    let org = state.org_named(&org).ok_or_else(|| Refusal::OrgNotFound(org.clone()))?;
    let project = state.project_named(org, &project).ok_or_else(|| Refusal::ProjectUnknown(project.clone()))?;
    check_metadata(&metadata)?;
    check_timeout(timeout)?;
    if state.instances.contains_key(&instance) {
        return Err(Refusal::SandboxExists(instance));
    }
    let (template, made_of) = match (template_of(state, org, &template), snapshots::named(state, org, &template)) {
        (Ok(found), _) => found,
        (Err(unknown), None) => return Err(unknown),
        (Err(_), Some(snapshot)) => {
            let own = snapshots::Own { vars, metadata, timeout, on_timeout, class };
            return snapshots::go_on(state, instance, snapshot, own, facts);
        }
    };
    quotas::sandbox(state, org, &made_of.size, facts.now)?;
    let wish = Wish::of_template(state, org, made_of);
    let (node, resources) = place::one(state, facts, wish).map_err(|none| match none {
        NoPlace::Denied(excess) => Refusal::QuotaExceeded(excess),
        NoPlace::Waits(waiting) => Refusal::NoRoom(waiting),
    })?;
    let host = state.nodes.get(&node).ok_or(Refusal::NodeNotFound(node))?;
    Ok(vec![Event::SandboxCreated(Box::new(SandboxCreated {
        instance,
        org,
        project,
        template,
        template_name: made_of.name.clone(),
        image: made_of.image.clone(),
        startup: made_of.startup.clone(),
        vars,
        metadata,
        timeout_seconds: timeout.as_secs(),
        on_timeout,
        node,
        address: host.address(cluster, host.next_host),
        resources,
        class,
        from: None,
    }))])
}

fn template_of<'a>(state: &'a State, org: OrgId, text: &str) -> Result<(TemplateId, &'a Template), Refusal> {
    let id = text.parse::<TemplateId>().ok();
    let by_id = id.and_then(|id| Some((id, state.templates.get(&id).filter(|it| it.org == org)?)));
    by_id
        .or_else(|| state.template_named(org, text))
        .ok_or_else(|| Refusal::TemplateNotFound(text.chars().take(80).collect()))
}

/// What a node saw of a sandbox: what it was is lost with its machine, so another boot of it is its end.
pub(super) fn seen(known: &Instance, told: InstanceStatus) -> InstanceStatus {
    let is_another = known.status.boot.is_some() && told.boot != known.status.boot;
    if known.sandbox().is_none() || !is_another || !told.phase.is_live() {
        return told;
    }
    let failure = Failure::new(Reason::WorkloadExited, "its machine was lost and made anew");
    InstanceStatus { phase: InstancePhase::Failed, boot: known.status.boot, failure: Some(failure), ..told }
}

/// What could not be paused runs on, and is to.
pub(super) fn could_not_pause(known: &Instance, told: &InstanceStatus) -> bool {
    let failed = told.phase == InstancePhase::Ready && told.failure.is_some();
    known.desired == Desired::Paused && known.footprint != Footprint::Kept && failed
}

pub fn set_timeout(
    state: &State,
    id: InstanceId,
    ends_at: Timestamp,
    at_least: bool,
    facts: &Facts,
) -> Result<Vec<Event>, Refusal> {
    let (instance, sandbox) = living(state, id)?;
    check_timeout(ends_at.since(facts.now))?;
    if instance.desired == Desired::Paused {
        return Err(Refusal::SandboxPaused(id));
    }
    fresh(instance.ends_at().is_none_or(|at| at > facts.now), id)?;
    let is_so = sandbox.ends_at.is_some_and(|known| known == ends_at || at_least && known > ends_at);
    Ok(if is_so { Vec::new() } else { vec![Event::SandboxTimeoutSet { instance: id, ends_at }] })
}

pub fn kill(state: &State, id: InstanceId) -> Result<Vec<Event>, Refusal> {
    living(state, id)?;
    Ok(vec![Event::InstanceDesiredChanged { instance: id, desired: Desired::Stopped, why: DesiredChange::Killed }])
}

/// Only what has come up: what its node says after this decision tells that its memory is free.
pub fn pause(state: &State, id: InstanceId, why: DesiredChange) -> Result<Vec<Event>, Refusal> {
    let (instance, _) = living(state, id)?;
    let phase = instance.status.phase;
    match (instance.desired, phase) {
        (Desired::Paused, _) => return Err(Refusal::SandboxPaused(id)),
        (_, InstancePhase::Ready | InstancePhase::Unready) => {}
        (_, phase) => return Err(Refusal::SandboxBusy { instance: id, phase }),
    }
    if let Some(snapshot) = snapshots::pending(state, id) {
        return Err(Refusal::SnapshotPending { of: id, snapshot });
    }
    if let Some(waiting) = place::no_room_to_pause(state, instance) {
        return Err(refused_there(state, instance, waiting));
    }
    Ok(vec![Event::InstanceDesiredChanged { instance: id, desired: Desired::Paused, why }])
}

/// Of one that goes on already, it may have more time.
pub fn resume(state: &State, id: InstanceId, timeout: Duration, facts: &Facts) -> Result<Vec<Event>, Refusal> {
    let (instance, sandbox) = living(state, id)?;
    check_timeout(timeout)?;
    if timeout.is_zero() {
        return Err(Refusal::InvalidSandbox("a sandbox goes on for a second at least".to_owned()));
    }
    let ends = |ends_at| Event::SandboxTimeoutSet { instance: id, ends_at };
    match (instance.desired, instance.status.phase) {
        (Desired::Paused, InstancePhase::Paused) => {}
        (Desired::Paused, phase) => return Err(Refusal::SandboxBusy { instance: id, phase }),
        (_, phase) if phase.is_at_rest() => {
            // From when it was asked for first: all of it begins when it runs.
            let ends_at = instance.desired_at + timeout;
            let is_more = sandbox.ends_at.is_none_or(|known| known < ends_at);
            return Ok(is_more.then(|| ends(ends_at)).into_iter().collect());
        }
        _ => return Err(Refusal::SandboxNotPaused(id)),
    }
    quotas::resume(state, instance)?;
    if let Some(waiting) = place::no_room_to_resume(state, facts, instance) {
        return Err(refused_there(state, instance, waiting));
    }
    let runs = Event::InstanceDesiredChanged { instance: id, desired: Desired::Running, why: DesiredChange::Resumed };
    Ok(vec![runs, ends(facts.now + timeout)])
}

pub(super) fn refused_there(state: &State, it: &Instance, waiting: Waiting) -> Refusal {
    let node = state.nodes.get(&it.node).map_or_else(|| it.node.to_string(), |node| node.name.clone());
    Refusal::NoRoomThere { node, waiting }
}

fn check_size(size: &Size) -> Result<(), Refusal> {
    let Size { cpu, memory, disk } = size;
    let wrong = match () {
        () if !MEMORY.contains(memory) => format!("memory is {} to {}, not {memory}", MEMORY.start(), MEMORY.end()),
        () if !CPU.contains(cpu) => format!("processors are {} to {}, not {cpu}", CPU.start(), CPU.end()),
        () if !DISK.contains(disk) => format!("the disk is {} to {}, not {disk}", DISK.start(), DISK.end()),
        () => return Ok(()),
    };
    Err(Refusal::InvalidSandbox(wrong))
}

fn check_startup(startup: &Startup) -> Result<(), Refusal> {
    for (name, command) in [("start", &startup.start), ("ready", &startup.ready)] {
        let command = command.as_deref().unwrap_or("-");
        if command.trim().is_empty() || command.len() > STARTUP_COMMAND_MAX || command.contains('\0') {
            let wrong = format!("the {name} command is 1 to {STARTUP_COMMAND_MAX} bytes without NUL");
            return Err(Refusal::InvalidSandbox(wrong));
        }
    }
    Ok(())
}

/// One that is there and is not to be stopped.
pub(super) fn living(state: &State, id: InstanceId) -> Result<(&Instance, &Sandbox), Refusal> {
    let instance = state.instances.get(&id).filter(|it| it.holds_resources() && it.desired != Desired::Stopped);
    instance.and_then(|it| Some((it, it.sandbox()?))).ok_or(Refusal::SandboxNotFound(id))
}

pub(super) fn check_timeout(timeout: Duration) -> Result<(), Refusal> {
    if timeout <= TIMEOUT_MAX {
        return Ok(());
    }
    let days = TIMEOUT_MAX.as_secs() / 86_400;
    Err(Refusal::InvalidSandbox(format!("a sandbox is given {days} days at most at a time")))
}

fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let long = metadata.iter().any(|(key, value)| key.len() > METADATA_KEY_MAX || value.len() > METADATA_VALUE_MAX);
    let bytes: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if metadata.len() <= METADATA_MAX && bytes <= METADATA_BYTES_MAX && !long {
        return Ok(());
    }
    let bounds = format!(
        "{METADATA_MAX} pairs, keys of {METADATA_KEY_MAX}, values of {METADATA_VALUE_MAX} and {METADATA_BYTES_MAX} bytes in all"
    );
    Err(Refusal::InvalidSandbox(format!("metadata has {bounds} at most")))
}
