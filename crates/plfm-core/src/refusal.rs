//! Why a command was not accepted: a stable code for programs, a sentence for people, the next thing to type.

use crate::event::Waiting;
use crate::ids::*;
use crate::phase::InstancePhase;
use crate::quota::{Dimension, Excess};
use crate::units::{Mebibytes, Timestamp};

/// The shape of a refusal; the HTTP status and the exit code follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalClass {
    Invalid,
    Unauthorized,
    NotFound,
    Conflict,
    /// Something has to be there first.
    Precondition,
    /// The command was made from an older state; deciding again may accept it.
    Stale,
    /// It may be, but not now.
    Unavailable,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the log is empty; it has no cluster yet")]
    NotBootstrapped,
    #[error("the log already holds a cluster")]
    AlreadyBootstrapped,
    #[error("`{0}` is not a name: 1 to 64 of a-z, 0-9 and `-`, not at an end")]
    InvalidName(String),
    #[error("there is no org `{0}`")]
    OrgNotFound(String),
    #[error("there is no node {0}")]
    NodeNotFound(NodeId),
    #[error("there is no instance {0}")]
    InstanceNotFound(InstanceId),
    #[error("there is no deploy {0}")]
    DeployNotFound(DeployId),
    #[error("there is no route {0}")]
    RouteNotFound(RouteId),
    #[error("the release has no process type `{0}`")]
    ProcessNotFound(String),
    #[error("process type `{process}` declares no port {port}")]
    PortNotDeclared { process: String, port: u16 },
    #[error("the host name `{0}` is taken by another environment")]
    HostnameInUse(String),
    #[error("port {0} of the edge is taken by another route")]
    PortInUse(u16),
    #[error("the join token is not one of this cluster")]
    JoinTokenInvalid,
    #[error("the join token expired at {0}")]
    JoinTokenExpired(Timestamp),
    #[error("the join token was already used by {0}")]
    JoinTokenUsed(NodeId),
    #[error("there is no token {0}")]
    TokenNotFound(TokenId),
    #[error("{0} is the last token that may do everything")]
    LastAdmin(TokenId),
    #[error("a node named `{0}` has joined before")]
    NodeNameExists(String),
    #[error("{0} belongs to another node")]
    NotYourInstance(InstanceId),
    #[error("{instance} cannot be {phase} without a reason or a boot")]
    StatusUnexplained { instance: InstanceId, phase: InstancePhase },
    #[error("the cluster has no number left for another node")]
    NodesExhausted,
    #[error("{0} is decommissioned")]
    NodeDecommissioned(NodeId),
    #[error("{0} is offline")]
    NodeOffline(NodeId),
    #[error("{node} still has work: {instances} instances")]
    NodeNotEmpty { node: NodeId, instances: usize },
    #[error("{node} still has {volumes} volumes")]
    NodeHasVolumes { node: NodeId, volumes: usize },
    #[error("there is no volume {0}")]
    VolumeNotFound(VolumeId),
    #[error("the environment has no volume `{0}`")]
    VolumeMissing(String),
    #[error("the volume `{name}` has {is}, not {asked}")]
    VolumeSizeDiffers { name: String, is: Mebibytes, asked: Mebibytes },
    #[error("the volume `{name}` is in use by process type `{process}`")]
    VolumeInUse { name: String, process: String },
    #[error("{0} still takes new work")]
    NodeActive(NodeId),
    #[error("{0} is not degraded")]
    NodeNotDegraded(NodeId),
    #[error("there is no release {0} of this app")]
    ReleaseNotFound(ReleaseId),
    #[error("{0} is what is wanted now")]
    ReleaseCurrent(ReleaseId),
    #[error("no other release has run in {0}")]
    NothingBefore(EnvId),
    #[error("`{0}` is not a host name")]
    InvalidHostname(String),
    #[error("only names below `{domain}` can be taken")]
    HostnameNotOurs { domain: String },
    #[error("port {0} of the edge tells no host names apart")]
    NoTlsThere(u16),
    #[error("rescheduling is not frozen")]
    NotFrozen,
    #[error("{0}")]
    QuotaExceeded(Excess),
    /// Lack of room is no denial: later it may be there.
    #[error("there is no room for it now: {0}")]
    NoRoom(Waiting),
    #[error("there is no template or snapshot `{0}`")]
    TemplateNotFound(String),
    #[error("there is no project `{0}`")]
    ProjectUnknown(String),
    #[error("there is no sandbox {0}")]
    SandboxNotFound(InstanceId),
    #[error("there is a sandbox {0} already")]
    SandboxExists(InstanceId),
    /// Of what can be nowhere else.
    #[error("{waiting}, and it can be on {node} alone")]
    NoRoomThere { node: String, waiting: Waiting },
    #[error("there is a {by} `{name}`, and sandboxes could not tell which is meant")]
    NameTaken { name: String, by: &'static str },
    #[error("there is no snapshot `{0}`")]
    SnapshotNotFound(String),
    #[error("{of} is about to be kept as {snapshot}")]
    SnapshotPending { of: InstanceId, snapshot: InstanceId },
    #[error("{0} is paused")]
    SandboxPaused(InstanceId),
    #[error("{0} is not paused")]
    SandboxNotPaused(InstanceId),
    #[error("{instance} is {phase}")]
    SandboxBusy { instance: InstanceId, phase: InstancePhase },
    #[error("{0}")]
    InvalidSandbox(String),
    #[error("there is no org {0}")]
    OrgUnknown(OrgId),
    #[error("there is no project {0}")]
    ProjectNotFound(ProjectId),
    #[error("there is no environment {0}")]
    EnvNotFound(EnvId),
    #[error("these are no labels")]
    InvalidLabels,
    #[error("a weight is 1 to {most}, not {weight}")]
    InvalidWeight { weight: u32, most: u32 },
    #[error("{what} has moved on")]
    Stale { what: String },
}

impl Refusal {
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotBootstrapped => "not_bootstrapped",
            Self::AlreadyBootstrapped => "already_bootstrapped",
            Self::InvalidName(_) => "invalid_name",
            Self::OrgNotFound(_) => "org_not_found",
            Self::NodeNotFound(_) => "node_not_found",
            Self::InstanceNotFound(_) => "instance_not_found",
            Self::DeployNotFound(_) => "deploy_not_found",
            Self::RouteNotFound(_) => "route_not_found",
            Self::ProcessNotFound(_) => "process_not_found",
            Self::PortNotDeclared { .. } => "port_not_declared",
            Self::HostnameInUse(_) => "hostname_in_use",
            Self::PortInUse(_) => "port_in_use",
            Self::TokenNotFound(_) => "token_not_found",
            Self::LastAdmin(_) => "last_admin_token",
            Self::JoinTokenInvalid => "enrollment_token_invalid",
            Self::JoinTokenExpired(_) => "enrollment_token_expired",
            Self::JoinTokenUsed(_) => "enrollment_token_used",
            Self::NodeNameExists(_) => "node_name_exists",
            Self::NotYourInstance(_) => "forbidden",
            Self::StatusUnexplained { .. } => "invalid_argument",
            Self::NodesExhausted => "nodes_exhausted",
            Self::NodeDecommissioned(_) => "node_decommissioned",
            Self::NodeOffline(_) => "node_offline",
            Self::NodeNotEmpty { .. } => "node_not_empty",
            Self::NodeHasVolumes { .. } => "node_has_volumes",
            Self::VolumeNotFound(_) => "volume_not_found",
            Self::VolumeMissing(_) => "volume_missing",
            Self::VolumeSizeDiffers { .. } => "volume_size_differs",
            Self::VolumeInUse { .. } => "volume_in_use",
            Self::NodeActive(_) => "node_active",
            Self::NodeNotDegraded(_) => "node_not_degraded",
            Self::ReleaseNotFound(_) => "release_not_found",
            Self::ReleaseCurrent(_) => "release_current",
            Self::NothingBefore(_) => "nothing_before",
            Self::InvalidHostname(_) => "invalid_hostname",
            Self::HostnameNotOurs { .. } => "hostname_not_ours",
            Self::NoTlsThere(_) => "no_tls_there",
            Self::NotFrozen => "rescheduling_not_frozen",
            Self::QuotaExceeded(_) => "quota_exceeded",
            Self::NoRoom(_) | Self::NoRoomThere { .. } => "no_room",
            Self::TemplateNotFound(_) => "template_not_found",
            Self::ProjectUnknown(_) => "project_not_found",
            Self::SandboxNotFound(_) => "sandbox_not_found",
            Self::SandboxExists(_) => "sandbox_exists",
            Self::NameTaken { .. } => "name_taken",
            Self::SnapshotNotFound(_) => "snapshot_not_found",
            Self::SnapshotPending { .. } => "sandbox_busy",
            Self::SandboxPaused(_) => "sandbox_paused",
            Self::SandboxNotPaused(_) => "sandbox_not_paused",
            Self::SandboxBusy { .. } => "sandbox_busy",
            Self::InvalidSandbox(_) => "invalid_argument",
            Self::OrgUnknown(_) => "org_not_found",
            Self::ProjectNotFound(_) => "project_not_found",
            Self::EnvNotFound(_) => "environment_not_found",
            Self::InvalidLabels => "invalid_argument",
            Self::InvalidWeight { .. } => "invalid_argument",
            Self::Stale { .. } => "version_conflict",
        }
    }

    pub const fn class(&self) -> RefusalClass {
        match self {
            Self::InvalidName(_)
            | Self::ProcessNotFound(_)
            | Self::PortNotDeclared { .. }
            | Self::InvalidWeight { .. }
            | Self::InvalidSandbox(_)
            | Self::InvalidLabels
            | Self::InvalidHostname(_)
            | Self::HostnameNotOurs { .. }
            | Self::NoTlsThere(_)
            | Self::StatusUnexplained { .. } => RefusalClass::Invalid,
            Self::JoinTokenInvalid | Self::JoinTokenExpired(_) | Self::JoinTokenUsed(_) | Self::NotYourInstance(_) => {
                RefusalClass::Unauthorized
            }
            Self::OrgNotFound(_)
            | Self::OrgUnknown(_)
            | Self::ProjectNotFound(_)
            | Self::ProjectUnknown(_)
            | Self::EnvNotFound(_)
            | Self::TemplateNotFound(_)
            | Self::SandboxNotFound(_)
            | Self::SnapshotNotFound(_)
            | Self::TokenNotFound(_)
            | Self::NodeNotFound(_)
            | Self::InstanceNotFound(_)
            | Self::DeployNotFound(_)
            | Self::ReleaseNotFound(_)
            | Self::VolumeNotFound(_)
            | Self::RouteNotFound(_) => RefusalClass::NotFound,
            Self::VolumeMissing(_) => RefusalClass::Precondition,
            Self::Stale { .. } => RefusalClass::Stale,
            Self::NoRoom(_) | Self::NoRoomThere { .. } => RefusalClass::Unavailable,
            _ => RefusalClass::Conflict,
        }
    }

    /// What to type or do next.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NotBootstrapped => "start a server on this data directory first",
            Self::AlreadyBootstrapped => "nothing to do",
            Self::InvalidName(_) => "choose another name, for example `my-app`",
            Self::OrgNotFound(_) => "use `--org default` or create the org",
            Self::NodeNotFound(_) => "list nodes with `plfm nodes`",
            Self::InstanceNotFound(_) => "list instances with `plfm instances`",
            Self::DeployNotFound(_) => "see `plfm status` for the newest deploy",
            Self::RouteNotFound(_) => "list routes with `plfm routes`",
            Self::ProcessNotFound(_) => "name a process type of the manifest",
            Self::PortNotDeclared { .. } => "add the port under `ports` of the process, or name a declared one",
            Self::HostnameInUse(_) => "rename the app or the environment",
            Self::PortInUse(_) => "choose another port",
            Self::TokenNotFound(_) => "list keys with `plfm key ls`",
            Self::LastAdmin(_) => "make another one first",
            Self::JoinTokenInvalid | Self::JoinTokenExpired(_) | Self::JoinTokenUsed(_) => {
                "print a fresh command with `plfm node token`"
            }
            Self::NodeNameExists(_) => "start the node with another `--name`, or on its old data directory",
            Self::NotYourInstance(_) | Self::StatusUnexplained { .. } => "report this: a node sent what it must not",
            Self::NodesExhausted => "start another cluster",
            Self::NodeDecommissioned(_) => {
                "join the machine again, as a new node: `plfm node token` prints the command"
            }
            Self::NodeOffline(_) => "start it first, or decommission it if it will never be back",
            Self::NodeNotEmpty { .. } => {
                "wait until it is drained (`plfm instances` shows what is left); what has volumes stays until it is deployed \
                 without them; after a mass failure, `plfm node reschedule` moves the rest"
            }
            Self::NodeHasVolumes { .. } => {
                "what is in them is nowhere else: keep the node, or remove those that nobody wants with `plfm volume rm`"
            }
            Self::VolumeNotFound(_) => "list volumes with `plfm volume ls`",
            Self::VolumeMissing(_) => {
                "deploy with `--create-volumes` to make it, empty; or correct the name: `plfm volume ls` lists what there is"
            }
            Self::VolumeSizeDiffers { .. } => {
                "volumes cannot be resized yet: write the size that it has, or give a new one another name"
            }
            Self::VolumeInUse { .. } => "deploy without it first; what is in it is kept until it is removed",
            Self::NodeActive(_) => "drain it first with `plfm node drain`",
            Self::NotFrozen => "nothing to do",
            Self::ReleaseNotFound(_) | Self::NothingBefore(_) => "see `plfm releases`",
            Self::ReleaseCurrent(_) => "`plfm status` says how it is; `plfm releases` lists the others",
            Self::InvalidHostname(_) => {
                "write labels of a-z, 0-9 and hyphens, at most 63 each, for example `db.localhost`"
            }
            Self::HostnameNotOurs { .. } => {
                "names of your own have to be proven, and that is not there yet; take one below it"
            }
            Self::NoTlsThere(_) => "leave `/tls` out: a port passes every byte on anyway",
            Self::NodeNotDegraded(_) => "there is nothing to tolerate: `plfm node explain` says why it gets no work",
            Self::QuotaExceeded(Excess { dimension: Dimension::Apps, .. }) => {
                "apps cannot be removed yet: an operator can raise the limit with `plfm org limit apps=N`"
            }
            Self::QuotaExceeded(_) => {
                "end or remove something of the org that counts (`plfm org show`); an operator can raise the limit: `plfm org limit`"
            }
            Self::NoRoom(_) => "try again when something has ended, or add a node with `plfm node token`",
            Self::TemplateNotFound(_) => "list what there is with `plfm template ls` and `plfm snapshot ls`",
            Self::ProjectUnknown(_) => "use the project `default`",
            Self::SandboxNotFound(_) => "list sandboxes with `plfm sandbox ls`",
            Self::SandboxExists(_) => "ask without an id of your own",
            Self::NoRoomThere { .. } => {
                "end or pause another sandbox there, or, if that node takes no work, let it: `plfm node activate`"
            }
            Self::NameTaken { .. } => "choose another name",
            Self::SnapshotNotFound(_) => "list snapshots with `plfm snapshot ls`",
            Self::SnapshotPending { .. } => "try again in a moment",
            Self::SandboxPaused(_) => "let it go on with `plfm sandbox resume`",
            Self::SandboxNotPaused(_) => "nothing to do",
            Self::SandboxBusy { .. } => "try again in a moment",
            Self::InvalidSandbox(_) => "correct the request",
            Self::OrgUnknown(_) => "check the id in the request",
            Self::ProjectNotFound(_) => "check the id in the request",
            Self::EnvNotFound(_) => "list environments with `plfm status`",
            Self::InvalidLabels => {
                "write labels as `zone=a`: letters, digits and `-_./`, 63 at most, 32 labels at most"
            }
            Self::InvalidWeight { .. } => "choose a weight in that range",
            Self::Stale { .. } => "try again",
        }
    }
}
