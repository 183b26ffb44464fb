//! What someone wants to happen. People and nodes send the first half; the platform gives itself the second.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use crate::digest::Digest;
use crate::event::{
    Capacity, DesiredChange, Entry, InstanceStatus, OnTimeout, ReleaseImage, Scope, Startup, Tls, Waiting,
};
use crate::fair::Class;
use crate::ids::*;
use crate::labels::Labels;
use crate::manifest::{Manifest, Resources as Size};
use crate::phase::{DeployStatus, Desired, NodePhase};
use crate::quota::Dimension;
use crate::reason::Failure;
use crate::units::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The first command of an empty log.
    Bootstrap {
        domain: String,
        prefix: Ipv6Addr,
        admin: Digest,
    },
    /// The log goes on from a backup: it is another one from here.
    StartLog,
    /// A server that may write from now on.
    StartWriter,
    CreateToken {
        /// The only one it is good for, if not for all.
        org: Option<OrgId>,
        hash: Digest,
        scopes: Vec<Scope>,
    },
    /// Nobody is let in with it from now on.
    RevokeToken {
        token: TokenId,
    },
    CreateJoinToken {
        hash: Digest,
        expires_at: Timestamp,
    },
    JoinNode {
        token: Digest,
        name: String,
        capacity: Capacity,
    },
    Deploy(Box<Deploy>),
    /// To this release of the app; else to the one before.
    Rollback {
        env: EnvId,
        release: Option<ReleaseId>,
    },
    /// Takes an entry of the edge away; the next deploy makes a managed host name anew.
    DeleteRoute {
        route: RouteId,
    },
    /// What sandboxes are made of, from now on under this name.
    CreateTemplate(Box<CreateTemplate>),
    /// Accepts and places it at once, or says why not; nothing waits.
    CreateSandbox(Box<CreateSandbox>),
    SetSandboxTimeout {
        instance: InstanceId,
        ends_at: Timestamp,
        /// More time is left as it is.
        at_least: bool,
    },
    KillSandbox {
        instance: InstanceId,
    },
    PauseSandbox {
        instance: InstanceId,
        why: DesiredChange,
    },
    /// Lets a paused one go on, if there is room for it where it is; for so long.
    ResumeSandbox {
        instance: InstanceId,
        timeout: Duration,
    },
    /// Keeps what a running sandbox is. It goes on.
    SnapshotSandbox {
        /// Drawn by whoever asks.
        snapshot: InstanceId,
        of: InstanceId,
        name: Option<String>,
    },
    /// Nobody is to go on from it any more.
    ReleaseSnapshot {
        snapshot: InstanceId,
    },
    ForkSandbox(ForkSandbox),
    /// An operator's word: what is not named stays; none is as by default.
    SetLimits {
        org: OrgId,
        limits: BTreeMap<Dimension, Option<u64>>,
    },
    SetOrgWeight {
        org: OrgId,
        weight: u32,
    },
    SetProjectWeight {
        project: ProjectId,
        weight: u32,
    },
    /// What nodes must have that get new work of an org, or of one env; in whole.
    SetOrgConstraints {
        org: OrgId,
        constraints: Labels,
    },
    SetEnvConstraints {
        env: EnvId,
        constraints: Labels,
    },
    /// How urgent what an env starts from now on is, within its project.
    SetEnvClass {
        env: EnvId,
        class: Class,
    },
    /// Nobody wants what is in it any more.
    DeleteVolume {
        volume: VolumeId,
    },
    /// What a node's report says that is new.
    Observe {
        node: NodeId,
        capacity: Option<Capacity>,
        instances: Vec<(InstanceId, InstanceStatus)>,
        /// Those that are there; none if the node does not say.
        volumes: Option<BTreeSet<VolumeId>>,
    },

    /// An operator's word about a node; what is so already is no news.
    OrderNode {
        node: NodeId,
        order: NodeOrder,
    },
    /// An operator says that the nodes of a mass failure will not be back soon.
    ForceReschedule,

    SetNodePhase {
        node: NodeId,
        phase: NodePhase,
    },
    /// Too many nodes fell silent at once, or no longer.
    SetRescheduling {
        frozen: bool,
    },
    Allocate {
        env: EnvId,
        process: String,
        release: ReleaseId,
        node: NodeId,
        class: Class,
    },
    NoteWaiting {
        env: EnvId,
        process: String,
        waiting: Option<Waiting>,
    },
    SetDesired {
        instance: InstanceId,
        desired: Desired,
        why: DesiredChange,
    },
    SetDeployStatus {
        deploy: DeployId,
        status: DeployStatus,
        failure: Option<Failure>,
    },
    Forget {
        instance: InstanceId,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeOrder {
    Drain,
    Disable,
    /// Take new work again.
    Activate,
    /// Take new work although it is degraded as it is now, as long as it is (P-SCH-20).
    Tolerate,
    Distrust,
    /// It will never be back.
    Decommission,
}

/// Point an env at a release; app, env and release are made where they are not there yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deploy {
    pub org: String,
    pub app: String,
    pub env: String,
    pub image: ReleaseImage,
    /// With keyed hashes in place of the values of variables.
    pub manifest: Manifest,
    /// Where the encrypted values are.
    pub vars: Option<Digest>,
    /// Ports of the edge to open, beside the managed host name.
    pub expose: Vec<Expose>,
    /// Volumes that the manifest names and that are not there are made; else that is refused, for a name may be wrong.
    pub create_volumes: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTemplate {
    pub org: String,
    pub name: String,
    pub image: ReleaseImage,
    pub size: Size,
    pub startup: Startup,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateSandbox {
    /// Drawn by whoever asks, who knows by it what came of it.
    pub instance: InstanceId,
    pub org: String,
    pub project: String,
    /// A name or an id.
    pub template: String,
    pub vars: Option<Digest>,
    pub metadata: BTreeMap<String, String>,
    pub class: Class,
    /// From the moment it is ready.
    pub timeout: Duration,
    pub on_timeout: OnTimeout,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expose {
    pub entry: Entry,
    pub process: String,
    pub port: u16,
    pub tls: Tls,
}

/// Others go on from what a running sandbox is at this moment, and it goes on too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkSandbox {
    pub of: InstanceId,
    /// Drawn by whoever asks, as the forks are. As many of them come to be as there is room for, the first first.
    pub snapshot: InstanceId,
    pub forks: Vec<InstanceId>,
    /// From the moment each is ready.
    pub timeout: Duration,
}
