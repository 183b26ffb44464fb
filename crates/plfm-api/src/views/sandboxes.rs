//! Sandboxes and templates, as asked for and as shown.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use plfm_core::event::{OnTimeout, Origin, Resources, Start, Startup};
use plfm_core::fair::Class;
use plfm_core::ids::*;
use plfm_core::manifest::Resources as Size;
use plfm_core::phase::{Desired, InstancePhase};
use plfm_core::reason::Failure;
use plfm_core::state::{Instance, State, Template};
use plfm_core::units::{Mebibytes, MilliCpu, Timestamp};
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// `POST /v1/orgs/{org}/templates`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateRequest {
    pub name: String,
    pub image: String,
    pub size: Size,
    #[serde(default)]
    pub startup: Startup,
}

/// `POST /v1/orgs/{org}/sandboxes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxRequest {
    /// A name or an id.
    pub template: String,
    pub timeout_seconds: u64,
    #[serde(default)]
    pub on_timeout: OnTimeout,
    #[serde(default)]
    pub vars: BTreeMap<String, String>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// As which it is served, in its project.
    #[serde(default)]
    pub class: Class,
}

/// Shown once.
#[derive(Clone, Serialize, Deserialize)]
pub struct NewApiKeyView {
    pub id: TokenId,
    pub key: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyView {
    pub id: TokenId,
    pub created_at: Timestamp,
}

/// `POST …/sandboxes/{sandbox}/timeout`: from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeoutRequest {
    pub timeout_seconds: u64,
}

/// `POST …/sandboxes/{sandbox}/snapshots`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRequest {
    #[serde(default)]
    pub name: Option<String>,
}

/// `POST …/sandboxes/{sandbox}/fork`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForkRequest {
    pub count: u32,
    pub timeout_seconds: u64,
}

/// Those that run, and why not all do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForksView {
    pub items: Vec<SandboxView>,
    pub problem: Option<Problem>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotView {
    /// As it was called; else its id, as sandboxes have theirs.
    pub name: String,
    pub id: InstanceId,
    /// The sandbox that it was taken of, which may have ended.
    pub of: String,
    pub template: String,
    pub state: SnapshotState,
    pub node: String,
    pub failure: Option<Failure>,
    pub memory: Mebibytes,
    pub disk: Mebibytes,
    /// Sandboxes that go on from it.
    pub forks: u32,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotState {
    Creating,
    Ready,
    Failed,
    Gone,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SandboxView {
    /// As it stands in host names and in E2B's API.
    pub name: String,
    pub id: InstanceId,
    pub template: String,
    pub template_id: TemplateId,
    pub state: SandboxState,
    pub phase: InstancePhase,
    pub node: String,
    pub failure: Option<Failure>,
    pub hint: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub cpu: MilliCpu,
    pub memory: Mebibytes,
    pub disk: Mebibytes,
    pub boot: Option<BootId>,
    pub hello_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    pub created_at: Timestamp,
    /// None until its time has begun, and while it is paused.
    pub ends_at: Option<Timestamp>,
    pub on_timeout: OnTimeout,
    /// The snapshot that it went on from, and how often its line has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Origin>,
    /// Since when it is wanted as it is wanted now: running, or paused.
    pub wanted_since: Timestamp,
}

/// A-CON-30: a function of what is wanted and what is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxState {
    Creating,
    Running,
    Paused,
    Terminating,
    Terminated,
    Error,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TemplateView {
    pub id: TemplateId,
    pub name: String,
    pub image: String,
    pub digest: plfm_core::digest::Digest,
    pub cpu: MilliCpu,
    pub memory: Mebibytes,
    pub disk: Mebibytes,
    #[serde(default, skip_serializing_if = "Startup::is_empty")]
    pub startup: Startup,
    pub created_at: Timestamp,
}

pub fn sandbox(state: &State, id: InstanceId, instance: &Instance) -> Option<SandboxView> {
    let sandbox = instance.sandbox()?;
    let failure = instance.status.failure.clone();
    let Resources { cpu, memory, disk, .. } = instance.resources;
    Some(SandboxView {
        name: sandbox_name(id),
        id,
        template: sandbox.template_name.clone(),
        template_id: sandbox.template,
        state: SandboxState::of(instance.desired, instance.status.phase),
        phase: instance.status.phase,
        node: state.nodes.get(&instance.node).map(|node| node.name.clone()).unwrap_or_default(),
        hint: failure.as_ref().map(|failure| failure.reason.hint().to_owned()),
        failure,
        metadata: sandbox.metadata.clone(),
        cpu,
        memory,
        disk,
        boot: instance.status.boot,
        hello_ms: instance.status.hello_ms,
        start: instance.status.start,
        created_at: instance.created_at,
        ends_at: sandbox.ends_at.filter(|_| instance.desired != Desired::Paused),
        on_timeout: sandbox.on_timeout,
        from: sandbox.from,
        wanted_since: instance.desired_at,
    })
}

/// Those that somebody wants, the newest first.
pub fn snapshots(state: &State, org: OrgId) -> Vec<SnapshotView> {
    let kept = |id: &InstanceId| {
        let it = state.instances.get(id).filter(|it| it.org == org);
        it.and_then(Instance::snapshot).is_some_and(|it| it.kept)
    };
    let ids = state.index().snapshots().filter(kept);
    let mut views: Vec<_> = ids.filter_map(|id| snapshot(state, id)).collect();
    views.sort_by_key(|view| (Reverse(view.created_at), Reverse(view.id)));
    views
}

pub fn snapshot(state: &State, id: InstanceId) -> Option<SnapshotView> {
    let instance = state.instances.get(&id)?;
    let snapshot = instance.snapshot()?;
    Some(SnapshotView {
        name: snapshot.name.clone().unwrap_or_else(|| sandbox_name(id)),
        id,
        of: sandbox_name(snapshot.of),
        template: snapshot.was.template_name.clone(),
        state: match (instance.desired, instance.status.phase) {
            (_, InstancePhase::Failed) => SnapshotState::Failed,
            (Desired::Paused, InstancePhase::Paused) => SnapshotState::Ready,
            (Desired::Paused, phase) if phase.is_live() => SnapshotState::Creating,
            _ if instance.status.failure.is_some() => SnapshotState::Failed,
            _ => SnapshotState::Gone,
        },
        node: state.nodes.get(&instance.node).map(|node| node.name.clone()).unwrap_or_default(),
        failure: instance.status.failure.clone(),
        memory: instance.resources.memory,
        disk: instance.resources.disk,
        forks: state.index().forks_of(id),
        created_at: instance.created_at,
    })
}

impl SnapshotState {
    pub const fn code(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Gone => "gone",
        }
    }
}

impl SandboxState {
    pub const fn of(desired: Desired, phase: InstancePhase) -> Self {
        use InstancePhase::*;
        match (desired, phase) {
            (_, Stopped | Gone) => Self::Terminated,
            (_, Failed) => Self::Error,
            (Desired::Stopped | Desired::Draining, _) | (_, Draining) => Self::Terminating,
            (Desired::Paused, _) | (_, Pausing | Paused | Resuming) => Self::Paused,
            (_, Ready | Unready) => Self::Running,
            (_, Allocated | Preparing | Booting) => Self::Creating,
        }
    }

    pub const fn code(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Terminating => "terminating",
            Self::Terminated => "terminated",
            Self::Error => "error",
        }
    }
}

/// A sandbox's id as E2B's clients and host names can carry it: lower case letters and digits alone (W-HOST-1).
pub fn sandbox_name(id: InstanceId) -> String {
    id.ulid().to_string().to_lowercase()
}

/// Reads a sandbox's name, or its id.
pub fn sandbox_id(text: &str) -> Option<InstanceId> {
    // Older ids of E2B's had a second part, which says nothing (W-HOST-3).
    let name = text.split('-').next().unwrap_or_default();
    let of_name = || format!("{}_{}", InstanceId::PREFIX, name.to_uppercase()).parse().ok();
    text.parse().ok().or_else(of_name)
}

pub fn templates(state: &State, org: OrgId) -> Vec<TemplateView> {
    let of_org = state.templates.iter().filter(|(_, it)| it.org == org);
    let mut views: Vec<_> = of_org.map(|(id, it)| template(*id, it)).collect();
    views.sort_by(|a, b| a.name.cmp(&b.name));
    views
}

pub fn template(id: TemplateId, it: &Template) -> TemplateView {
    let Size { cpu, memory, disk } = it.size;
    let (name, image, digest) = (it.name.clone(), it.image.reference.clone(), it.image.digest);
    TemplateView { id, name, image, digest, cpu, memory, disk, startup: it.startup.clone(), created_at: it.created_at }
}

pub fn api_keys(state: &State, org: OrgId) -> Vec<ApiKeyView> {
    let of_org = state.tokens.iter().filter(|(_, token)| token.org == Some(org));
    // An id begins with the time at which it was drawn.
    of_org.map(|(id, _)| ApiKeyView { id: *id, created_at: Timestamp(id.ulid().timestamp_ms()) }).collect()
}
