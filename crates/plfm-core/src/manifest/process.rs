//! The fields of one process, with their defaults and the rules that join them.

use super::mounts::{Mounted, mounts};
use super::ports::{health, ports};
use super::read::{argv, settings};
use super::readers::{flag, integer, number, table, text};
use super::rules::{self, Refusal, choice, quoted, whole};
use super::section::Section;
use super::{Code, Process, Resources, Restart, RestartPolicy, Scaling, Secrets, TERMINATION_GRACE_SECONDS, Volume};
use crate::units::{Mebibytes, MilliCpu};

/// What a process needs to know of the rest of the file.
pub(super) struct Surroundings<'a> {
    pub prestart_timeout: u32,
    /// None when they could not all be read: then nothing is said about names that are not among them.
    pub volumes: Option<&'a [Volume]>,
    pub mounted: Mounted,
}

pub(super) fn process(section: &mut Section, around: &mut Surroundings) -> Option<Process> {
    let process = section.name();
    let command = section.optional("command", argv);
    let grace = integer(whole(0..=300, Code::TimeoutRange));
    let grace = section.or("termination_grace_seconds", TERMINATION_GRACE_SECONDS, grace);
    let settings = settings(section, around.prestart_timeout);
    let resources = section.table("resources", resources);
    let restart = section.table("restart", restart);
    let ports = section.or("ports", Vec::new(), ports);
    let health = section.optional("health", table(|section| health(section, ports.as_deref())));
    let mounts = section.or("mounts", Vec::new(), |node| mounts(node, process, around));
    // Mounts that could not be read are mounts all the same.
    let owner = mounts.as_ref().is_none_or(|mounts| !mounts.is_empty()).then_some(process);
    let scaling = section.table("scaling", |section| scaling(section, owner));
    let secrets = section.table("secrets", secrets);
    Some(Process {
        command,
        termination_grace_seconds: grace?,
        settings: settings?,
        resources: resources?,
        scaling: scaling?,
        restart: restart?,
        ports: ports?,
        health,
        mounts: mounts?,
        secrets: secrets?,
    })
}

fn resources(section: &mut Section) -> Option<Resources> {
    let memory = section.required("memory", (Code::MemoryFormat, "memory = \"512Mi\""), text(rules::memory));
    let cpu = section.or("cpu", MilliCpu(1000), number(rules::cpu));
    let disk = section.or("disk", Mebibytes(4 << 10), text(rules::disk));
    Some(Resources { memory: memory?, cpu: cpu?, disk: disk? })
}

/// `owner` names the process when it mounts a volume: two replicas can't write to one (P-MAN-5).
fn scaling(section: &mut Section, owner: Option<&str>) -> Option<Scaling> {
    let replicas = || integer(whole(0..=100, Code::ScalingRange));
    let min = section.or("min", 1, replicas());
    let max = section.or("max", min.unwrap_or(1), replicas());
    let (min, max) = min.zip(max)?;
    if max < min {
        let message = format!("`max` is {max}, but `min` is {min}");
        return section.refuse("max", Refusal::new(Code::ScalingRange, message, "raise `max` or lower `min`"));
    }
    if let Some(process) = owner.filter(|_| max > 1) {
        let message = format!("process {} mounts a volume, so it can have one replica, not {max}", quoted(process));
        let hint = "set `scaling.max = 1`, or keep the data outside the process";
        return section.refuse("max", Refusal::new(Code::VolumeReplicaLimit, message, hint));
    }
    Some(Scaling { min, max })
}

const RESTART_POLICIES: &[(&str, RestartPolicy)] =
    &[("always", RestartPolicy::Always), ("on-failure", RestartPolicy::OnFailure), ("never", RestartPolicy::Never)];
const RETRIES: u32 = 3;

fn restart(section: &mut Section) -> Option<Restart> {
    let policy = section.or("policy", RestartPolicy::Always, text(choice(RESTART_POLICIES, Code::RestartPolicy)));
    let retries = section.optional("max_retries", integer(whole(0..=u32::MAX, Code::RestartRetries)));
    let backoff = section.or("backoff_seconds", 2, integer(whole(0..=300, Code::RestartRetries)));
    let (policy, backoff_seconds) = policy.zip(backoff)?;
    let counts = policy == RestartPolicy::OnFailure;
    if retries.is_some() && !counts {
        let hint = "remove it, or set `policy = \"on-failure\"`";
        let refusal = Refusal::new(Code::RestartRetries, "`max_retries` counts only with `on-failure`", hint);
        return section.refuse("max_retries", refusal);
    }
    Some(Restart { policy, max_retries: counts.then_some(retries.unwrap_or(RETRIES)), backoff_seconds })
}

fn secrets(section: &mut Section) -> Option<Secrets> {
    Some(Secrets { required: section.or("required", false, flag)? })
}
