//! What happened. The JSON of every event is a contract: it is stored for ever and read by later versions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::fair::Class;
use crate::ids::*;
use crate::labels::Labels;
use crate::manifest::{Manifest, Resources as Size};
use crate::phase::{DeployStatus, Desired, InstancePhase, NodePhase, VolumePhase};
use crate::quota::Limits;
use crate::reason::Failure;
use crate::units::{Mebibytes, MilliCpu, Seq, Term, Timestamp};

pub use self::route::{Entry, Target, Tls};
pub use self::startup::Startup;
pub use self::waiting::Waiting;

mod route;
mod startup;
mod waiting;

/// An event with where, when and by whom; one row of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    pub seq: Seq,
    /// Informs only; `seq` orders.
    pub at: Timestamp,
    /// The tenant it concerns; none for the platform's own.
    pub org: Option<OrgId>,
    pub actor: Actor,
    pub request: RequestId,
    /// The event that made the platform do this.
    pub cause: Option<Seq>,
    #[serde(flatten)]
    pub event: Event,
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The platform itself, in `reconcile`.
    System,
    /// Someone with a token.
    Token(TokenId),
    Node(NodeId),
    /// Someone with a join token.
    Joining(JoinTokenId),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "body")]
pub enum Event {
    /// The first event of a log, and the first after a restore.
    #[serde(rename = "log.started")]
    LogStarted { log: LogId },
    #[serde(rename = "writer.started")]
    WriterStarted { term: Term },
    #[serde(rename = "cluster.created")]
    ClusterCreated { domain: String, prefix: Ipv6Addr },
    #[serde(rename = "org.created")]
    OrgCreated { org: OrgId, name: String },
    /// All limits that differ from the defaults.
    #[serde(rename = "org.limits_set")]
    OrgLimitsSet { org: OrgId, limits: Limits },
    /// Its part, against other orgs, when there is not enough for all.
    #[serde(rename = "org.weight_set")]
    OrgWeightSet { org: OrgId, weight: u32 },
    /// What every node must have that gets new work of it.
    #[serde(rename = "org.constraints_set")]
    OrgConstraintsSet { org: OrgId, constraints: Labels },
    #[serde(rename = "env.constraints_set")]
    EnvConstraintsSet { env: EnvId, org: OrgId, constraints: Labels },
    /// How urgent what it starts is, within its project.
    #[serde(rename = "env.class_set")]
    EnvClassSet { env: EnvId, org: OrgId, class: Class },
    #[serde(rename = "project.weight_set")]
    ProjectWeightSet { project: ProjectId, weight: u32 },
    #[serde(rename = "project.created")]
    ProjectCreated { project: ProjectId, org: OrgId, name: String },
    #[serde(rename = "token.created")]
    TokenCreated { token: TokenId, org: Option<OrgId>, hash: Digest, scopes: Vec<Scope> },
    #[serde(rename = "token.revoked")]
    TokenRevoked { token: TokenId, org: Option<OrgId> },
    #[serde(rename = "app.created")]
    AppCreated { app: AppId, org: OrgId, project: ProjectId, name: String },
    #[serde(rename = "env.created")]
    EnvCreated { env: EnvId, org: OrgId, app: AppId, name: String },
    #[serde(rename = "release.created")]
    ReleaseCreated(Box<ReleaseCreated>),
    #[serde(rename = "deploy.created")]
    DeployCreated { deploy: DeployId, org: OrgId, app: AppId, env: EnvId, release: ReleaseId, processes: Vec<String> },
    #[serde(rename = "deploy.status_changed")]
    DeployStatusChanged { deploy: DeployId, status: DeployStatus, failure: Option<Failure> },
    #[serde(rename = "route.created")]
    RouteCreated { route: RouteId, org: OrgId, app: AppId, env: EnvId, entry: Entry },
    #[serde(rename = "route.target_set")]
    RouteTargetSet { route: RouteId, org: OrgId, env: EnvId, target: Target },
    #[serde(rename = "route.deleted")]
    RouteDeleted { route: RouteId, org: OrgId, env: EnvId },
    #[serde(rename = "volume.created")]
    VolumeCreated { volume: VolumeId, org: OrgId, env: EnvId, name: String, size: Mebibytes, backup_enabled: bool },
    /// What its node says of it. The node is its home from then on, if it had none.
    #[serde(rename = "volume.phase_changed")]
    VolumePhaseChanged { volume: VolumeId, org: OrgId, node: NodeId, phase: VolumePhase },
    /// Nobody wants what is in it; its node removes it.
    #[serde(rename = "volume.deleted")]
    VolumeDeleted { volume: VolumeId, org: OrgId },
    #[serde(rename = "group.waiting")]
    GroupWaiting { env: EnvId, process: String, waiting: Option<Waiting> },
    #[serde(rename = "instance.allocated")]
    InstanceAllocated(Box<InstanceAllocated>),
    #[serde(rename = "template.created")]
    TemplateCreated {
        template: TemplateId,
        org: OrgId,
        name: String,
        image: ReleaseImage,
        size: Size,
        #[serde(default, skip_serializing_if = "Startup::is_empty")]
        startup: Startup,
    },
    #[serde(rename = "sandbox.created")]
    SandboxCreated(Box<SandboxCreated>),
    #[serde(rename = "sandbox.timeout_set")]
    SandboxTimeoutSet { instance: InstanceId, ends_at: Timestamp },
    #[serde(rename = "snapshot.created")]
    SnapshotCreated(Box<SnapshotCreated>),
    /// Nobody wants it for itself any more; it goes when nobody is left that went on from it.
    #[serde(rename = "snapshot.released")]
    SnapshotReleased { snapshot: InstanceId },
    #[serde(rename = "instance.desired_changed")]
    InstanceDesiredChanged { instance: InstanceId, desired: Desired, why: DesiredChange },
    #[serde(rename = "instance.status_changed")]
    InstanceStatusChanged { instance: InstanceId, node: NodeId, status: InstanceStatus },
    /// A record that ended a while ago leaves the state; the log keeps it.
    #[serde(rename = "instance.forgotten")]
    InstanceForgotten { instance: InstanceId },
    #[serde(rename = "join_token.created")]
    JoinTokenCreated { token: JoinTokenId, hash: Digest, expires_at: Timestamp },
    #[serde(rename = "node.joined")]
    NodeJoined { node: NodeId, token: JoinTokenId, name: String, number: u16, capacity: Capacity },
    #[serde(rename = "node.phase_changed")]
    NodePhaseChanged { node: NodeId, phase: NodePhase },
    /// An operator's word: it takes new work all the same, as long as it is degraded so.
    #[serde(rename = "node.degradation_tolerated")]
    NodeDegradationTolerated { node: NodeId, degraded: BTreeSet<Degradation> },
    #[serde(rename = "node.capacity_changed")]
    NodeCapacityChanged { node: NodeId, capacity: Capacity },
    /// So many of the nodes fell silent at once: nothing is moved until they are back or an operator says so.
    #[serde(rename = "rescheduling.frozen")]
    ReschedulingFrozen { silent: u32, nodes: u32 },
    #[serde(rename = "rescheduling.resumed")]
    ReschedulingResumed { forced: bool },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseCreated {
    pub release: ReleaseId,
    pub org: OrgId,
    pub app: AppId,
    pub image: ReleaseImage,
    pub manifest_hash: Digest,
    /// With keyed hashes in place of the values of variables: the log holds no secrets.
    pub manifest: Manifest,
    /// Blob with the encrypted values of the manifest's variables, if it has any.
    pub vars: Option<Digest>,
}

/// An image, pinned: nothing ever runs by tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseImage {
    /// As the user wrote it.
    pub reference: String,
    /// Of the index, or of the manifest where there is no index.
    pub digest: Digest,
    /// The manifest for each architecture (OCI names: `amd64`, `arm64`).
    pub platforms: BTreeMap<String, Digest>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceAllocated {
    pub instance: InstanceId,
    pub org: OrgId,
    pub app: AppId,
    pub env: EnvId,
    pub process: String,
    pub node: NodeId,
    pub release: ReleaseId,
    pub deploy: DeployId,
    pub address: Ipv6Addr,
    pub resources: Resources,
    /// As which it was served, in its project.
    #[serde(default)]
    pub class: Class,
}

/// A sandbox, placed in the decision that accepted it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SandboxCreated {
    pub instance: InstanceId,
    pub org: OrgId,
    pub project: ProjectId,
    pub template: TemplateId,
    pub template_name: String,
    pub image: ReleaseImage,
    #[serde(default, skip_serializing_if = "Startup::is_empty")]
    pub startup: Startup,
    /// Blob with the encrypted values of its variables, if it has any.
    pub vars: Option<Digest>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// From the moment it is ready.
    pub timeout_seconds: u64,
    #[serde(default, skip_serializing_if = "OnTimeout::is_kill")]
    pub on_timeout: OnTimeout,
    pub node: NodeId,
    pub address: Ipv6Addr,
    pub resources: Resources,
    #[serde(default)]
    pub class: Class,
    /// What it goes on from; none if it is booted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Origin>,
}

/// Where a sandbox goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub snapshot: InstanceId,
    /// How often its line has gone on from a snapshot; what was booted is 0.
    pub generation: u32,
}

/// What a sandbox is at this moment is to be kept. What it is made of and how large it is, is as its source has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotCreated {
    pub snapshot: InstanceId,
    pub org: OrgId,
    pub of: InstanceId,
    pub name: Option<String>,
    /// For itself, and not for those alone that go on from it.
    pub kept: bool,
    pub node: NodeId,
    pub address: Ipv6Addr,
}

/// What becomes of a sandbox that has had its time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTimeout {
    #[default]
    Kill,
    Pause,
}

impl OnTimeout {
    pub const fn is_kill(&self) -> bool {
        matches!(self, Self::Kill)
    }
}

/// What an instance holds on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    pub cpu: MilliCpu,
    /// The hard cap of the guest.
    pub memory: Mebibytes,
    /// What the machine monitor itself needs beside it, as the node declared.
    pub overhead: Mebibytes,
    pub disk: Mebibytes,
}

/// What a node offers, as it measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    pub arch: String,
    pub isolation: Isolation,
    pub cpu: MilliCpu,
    /// Physical memory less what the host keeps.
    pub memory: Mebibytes,
    pub disk: Mebibytes,
    pub overhead: Mebibytes,
    /// Where the node's tunnel listens, `host:port`.
    pub tunnel: String,
    /// Why it takes no new work; what it runs it keeps (P-SCH-40).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub degraded: BTreeSet<Degradation>,
    /// As its operator started it.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Degradation {
    /// Its disk is nearly full (P-AGT-15).
    DiskPressure,
    /// Its machines have run under KVM, and the next could not.
    KvmLoss,
}

impl Degradation {
    pub const fn code(self) -> &'static str {
        match self {
            Self::DiskPressure => "disk_pressure",
            Self::KvmLoss => "kvm_loss",
        }
    }
}

/// How strong the wall around an instance is, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    Process,
    /// An emulated machine: no security boundary is promised.
    Emulated,
    /// Hardware virtualisation.
    Vm,
}

/// What a node saw of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    pub phase: InstancePhase,
    pub boot: Option<BootId>,
    /// Why it is `failed` or `unready`; kept while it restarts.
    pub failure: Option<Failure>,
    pub exit_code: Option<i32>,
    /// Boots after the first.
    pub restarts: u32,
    /// From the start of the machine to the first word of the guest.
    pub hello_ms: Option<u64>,
    /// How its newest boot came to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
}

/// The way that a machine was started, and how long each part of it took; a part that there was none of took nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    pub way: StartWay,
    /// Until its image was on the node and its disk was made.
    pub prepare_ms: u64,
    pub network_ms: u64,
    /// Until its guest daemon answered.
    pub machine_ms: u64,
    /// Until its workload ran as itself.
    pub identity_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartWay {
    /// From its kernel.
    Boot,
    /// From what the node keeps of a machine of its kind, as it was when it had booted.
    Restore,
    /// One that ran already, kept ready for whoever came next.
    Parked,
    /// From a snapshot: another sandbox, or one that was named.
    Snapshot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DesiredChange {
    ScaleDown,
    RolloutReplace,
    NodeLost,
    StartupFailed,
    /// Its node is to be empty.
    NodeDraining,
    /// It had its time to take leave.
    DrainDeadline,
    /// Someone said so.
    Killed,
    /// A sandbox had the time it was given.
    TimedOut,
    /// Someone wants to go on with it later, or now.
    Paused,
    Resumed,
    /// It runs on.
    PauseFailed,
    /// Nobody wants a snapshot any more.
    Unused,
    /// A sandbox ended by itself, or never came to be; nothing takes its place.
    Failed,
}

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    #[serde(rename = "apps:read")]
    AppsRead,
    #[serde(rename = "deploys:write")]
    DeploysWrite,
    #[serde(rename = "logs:read")]
    LogsRead,
    #[serde(rename = "events:read")]
    EventsRead,
    #[serde(rename = "exec:write")]
    ExecWrite,
    #[serde(rename = "nodes:admin")]
    NodesAdmin,
    #[serde(rename = "sandboxes:read")]
    SandboxesRead,
    #[serde(rename = "sandboxes:write")]
    SandboxesWrite,
    /// To remove what is kept for ever otherwise.
    #[serde(rename = "volumes:write")]
    VolumesWrite,
}

impl Scope {
    pub const ALL: &[Scope] = &[
        Self::AppsRead,
        Self::DeploysWrite,
        Self::LogsRead,
        Self::EventsRead,
        Self::ExecWrite,
        Self::NodesAdmin,
        Self::SandboxesRead,
        Self::SandboxesWrite,
        Self::VolumesWrite,
    ];
}

macro_rules! kinds {
    ($($variant:pat => $kind:literal,)*) => {
        /// Every kind there is.
        pub const KINDS: &[&str] = &[$($kind),*];

        /// The stable name; the JSON's `kind`.
        pub fn kind(&self) -> &'static str {
            match self { $($variant => $kind),* }
        }
    };
}

impl Event {
    kinds! {
        Self::LogStarted { .. } => "log.started",
        Self::WriterStarted { .. } => "writer.started",
        Self::ClusterCreated { .. } => "cluster.created",
        Self::OrgCreated { .. } => "org.created",
        Self::OrgLimitsSet { .. } => "org.limits_set",
        Self::OrgWeightSet { .. } => "org.weight_set",
        Self::OrgConstraintsSet { .. } => "org.constraints_set",
        Self::EnvConstraintsSet { .. } => "env.constraints_set",
        Self::EnvClassSet { .. } => "env.class_set",
        Self::ProjectWeightSet { .. } => "project.weight_set",
        Self::ProjectCreated { .. } => "project.created",
        Self::TokenCreated { .. } => "token.created",
        Self::TokenRevoked { .. } => "token.revoked",
        Self::AppCreated { .. } => "app.created",
        Self::EnvCreated { .. } => "env.created",
        Self::ReleaseCreated(_) => "release.created",
        Self::DeployCreated { .. } => "deploy.created",
        Self::DeployStatusChanged { .. } => "deploy.status_changed",
        Self::RouteCreated { .. } => "route.created",
        Self::RouteTargetSet { .. } => "route.target_set",
        Self::RouteDeleted { .. } => "route.deleted",
        Self::VolumeCreated { .. } => "volume.created",
        Self::VolumePhaseChanged { .. } => "volume.phase_changed",
        Self::VolumeDeleted { .. } => "volume.deleted",
        Self::GroupWaiting { .. } => "group.waiting",
        Self::InstanceAllocated(_) => "instance.allocated",
        Self::TemplateCreated { .. } => "template.created",
        Self::SandboxCreated(_) => "sandbox.created",
        Self::SandboxTimeoutSet { .. } => "sandbox.timeout_set",
        Self::SnapshotCreated(_) => "snapshot.created",
        Self::SnapshotReleased { .. } => "snapshot.released",
        Self::InstanceDesiredChanged { .. } => "instance.desired_changed",
        Self::InstanceStatusChanged { .. } => "instance.status_changed",
        Self::InstanceForgotten { .. } => "instance.forgotten",
        Self::JoinTokenCreated { .. } => "join_token.created",
        Self::NodeJoined { .. } => "node.joined",
        Self::NodePhaseChanged { .. } => "node.phase_changed",
        Self::NodeDegradationTolerated { .. } => "node.degradation_tolerated",
        Self::NodeCapacityChanged { .. } => "node.capacity_changed",
        Self::ReschedulingFrozen { .. } => "rescheduling.frozen",
        Self::ReschedulingResumed { .. } => "rescheduling.resumed",
    }

    /// The version of this kind's JSON; a change of meaning is a new version beside the old one.
    pub const fn version(&self) -> u32 {
        1
    }
}
