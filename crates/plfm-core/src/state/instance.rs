//! One instance: what it is there for, what is wanted of it, what was seen of it.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::event::{InstanceStatus, OnTimeout, Origin, ReleaseImage, Resources, Startup};
use crate::ids::*;
use crate::phase::{Desired, InstancePhase};
use crate::units::{Mebibytes, MilliCpu, Seq, Timestamp};

use super::{Committed, START_MAX};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    pub org: OrgId,
    pub project: ProjectId,
    pub role: Role,
    pub node: NodeId,
    pub address: Ipv6Addr,
    pub resources: Resources,
    pub desired: Desired,
    /// Of the last change of `desired`.
    #[serde(default)]
    pub desired_at: Timestamp,
    pub status: InstanceStatus,
    #[serde(default)]
    pub footprint: Footprint,
    /// Failures seen since it was allocated.
    pub failures: u32,
    /// It has been ready once.
    #[serde(default)]
    pub served: bool,
    pub created_at: Timestamp,
    /// Of the last change of `status`.
    pub changed_at: Timestamp,
    pub version: Seq,
}

/// Where what it is takes room. Told by what was decided and what its node said after that, so that room is neither given twice nor
/// taken unasked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Footprint {
    /// In memory.
    #[default]
    Awake,
    /// In memory, and there is or may be a file as large as that: from the first pause on, for what went on maps the file.
    AwakeAndKept,
    /// In a file alone.
    Kept,
}

/// What an instance is there for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Replica(Replica),
    Sandbox(Box<Sandbox>),
    Snapshot(Box<Snapshot>),
}

/// One of a group of an env.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replica {
    pub app: AppId,
    pub env: EnvId,
    pub process: String,
    pub release: ReleaseId,
    pub deploy: DeployId,
}

/// A machine of its own, for a while; when it ends, nothing takes its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sandbox {
    pub template: TemplateId,
    /// As the template was called, and what it was, when this was made.
    pub template_name: String,
    pub image: ReleaseImage,
    #[serde(default)]
    pub startup: Startup,
    /// Where the encrypted values of its variables are.
    pub vars: Option<Digest>,
    pub metadata: BTreeMap<String, String>,
    pub timeout_seconds: u64,
    #[serde(default)]
    pub on_timeout: OnTimeout,
    /// None until it is ready: its time begins then.
    pub ends_at: Option<Timestamp>,
    /// None if it was booted.
    #[serde(default)]
    pub from: Option<Origin>,
}

/// What a sandbox was at one moment, for others to go on from: at rest from its first moment to its last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub of: InstanceId,
    /// None if it was made for a fork, or nobody named it.
    pub name: Option<String>,
    /// Someone wants it. Else it goes when nobody is left that went on from it: they map its file.
    pub kept: bool,
    pub was: Sandbox,
}

impl Instance {
    /// Until its node says that nothing of it runs any more, its memory is not free, whatever is desired.
    pub fn holds_resources(&self) -> bool {
        self.status.phase.is_live()
    }

    /// What it takes of its node.
    pub fn held(&self) -> Committed {
        let all = Committed::from(&self.resources);
        let kept = all.plus(Committed { disk: self.resources.memory, ..Committed::default() });
        match self.footprint {
            Footprint::Awake => all,
            Footprint::AwakeAndKept => kept,
            Footprint::Kept => Committed { memory: Mebibytes(0), cpu: MilliCpu(0), ..kept },
        }
    }

    pub fn replica(&self) -> Option<&Replica> {
        match &self.role {
            Role::Replica(replica) => Some(replica),
            Role::Sandbox(_) | Role::Snapshot(_) => None,
        }
    }

    pub fn sandbox(&self) -> Option<&Sandbox> {
        match &self.role {
            Role::Sandbox(sandbox) => Some(sandbox),
            Role::Replica(_) | Role::Snapshot(_) => None,
        }
    }

    pub fn snapshot(&self) -> Option<&Snapshot> {
        match &self.role {
            Role::Snapshot(snapshot) => Some(snapshot),
            Role::Replica(_) | Role::Sandbox(_) => None,
        }
    }

    /// Others can go on from it.
    pub fn is_taken(&self) -> bool {
        self.snapshot().is_some() && (self.desired, self.status.phase) == (Desired::Paused, InstancePhase::Paused)
    }

    pub fn is_of(&self, env: EnvId, process: &str) -> bool {
        self.replica().is_some_and(|it| it.env == env && it.process == process)
    }

    /// The deploy that brought it, if it is a replica.
    pub fn deploy(&self) -> Option<DeployId> {
        self.replica().map(|it| it.deploy)
    }

    pub fn release(&self) -> Option<ReleaseId> {
        self.replica().map(|it| it.release)
    }

    /// When a sandbox is to be stopped: at its time, when it has taken too long to start, or at once if it has failed; and a snapshot
    /// that does not come to be.
    pub fn ends_at(&self) -> Option<Timestamp> {
        let is_wanted = self.holds_resources() && self.desired != Desired::Stopped;
        let sandbox = match &self.role {
            Role::Replica(_) => None,
            Role::Sandbox(sandbox) => Some(sandbox.as_ref()),
            Role::Snapshot(snapshot) => Some(&snapshot.was),
        };
        let sandbox = sandbox.filter(|_| is_wanted)?;
        let failed = self.status.phase == InstancePhase::Failed;
        match sandbox.ends_at {
            _ if failed => Some(Timestamp(0)),
            _ if self.snapshot().is_some() && self.status.phase != InstancePhase::Paused => {
                Some(self.created_at + START_MAX)
            }
            _ if self.desired == Desired::Paused || self.status.phase.is_at_rest() => None,
            None => Some(self.created_at + START_MAX),
            known => known,
        }
    }

    /// Whether all that is added up of instances counts both alike; how many are ready is not added up but told. What an instance is
    /// and where, never changes.
    pub(crate) fn counts_as(&self, later: &Self) -> bool {
        let kept = |it: &Self| it.snapshot().is_some_and(|snapshot| snapshot.kept);
        let counts =
            |it: &Self| (it.holds_resources(), it.desired == Desired::Stopped, it.ends_at(), it.held(), kept(it));
        counts(self) == counts(later) && self.holds_resources()
    }

    pub fn is_ready(&self) -> bool {
        self.desired == Desired::Running && self.status.phase == InstancePhase::Ready
    }
}
