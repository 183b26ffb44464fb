//! What someone wants to happen. People and nodes send the first half; the platform gives itself the second.

use std::net::Ipv6Addr;

use crate::digest::Digest;
use crate::event::{Capacity, DesiredChange, Entry, InstanceStatus, ReleaseImage, Scope, Waiting};
use crate::ids::*;
use crate::manifest::Manifest;
use crate::phase::{DeployStatus, Desired, NodePhase};
use crate::reason::Failure;
use crate::units::Timestamp;

#[derive(Debug, Clone, PartialEq)]
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
        hash: Digest,
        scopes: Vec<Scope>,
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
    /// What a node's report says that is new.
    Observe {
        node: NodeId,
        capacity: Option<Capacity>,
        instances: Vec<(InstanceId, InstanceStatus)>,
    },

    SetNodePhase {
        node: NodeId,
        phase: NodePhase,
    },
    Allocate {
        env: EnvId,
        process: String,
        release: ReleaseId,
        node: NodeId,
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

/// Point an env at a release; app, env and release are made where they are not there yet.
#[derive(Debug, Clone, PartialEq)]
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
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expose {
    pub entry: Entry,
    pub process: String,
    pub port: u16,
}
