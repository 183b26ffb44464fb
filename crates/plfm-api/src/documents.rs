//! The two documents in which server and node meet: the plan (what should be here) and the report (what is here).
//!
//! A plan starts with a full snapshot; upserts and drops follow on the same stream. A report is always whole. Both may come late,
//! twice or not at all, so both carry where they stand.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use plfm_core::digest::Digest;
use plfm_core::event::{Capacity, InstanceStatus, Origin, ReleaseImage, Resources, Startup};
use plfm_core::ids::*;
use plfm_core::manifest::{Health, Restart, RestartPolicy};
use plfm_core::phase::{Desired, VolumePhase};
use plfm_core::state::{Instance, Position, Replica, Role, Sandbox, State};
use plfm_core::units::{Mebibytes, Seq};
use serde::{Deserialize, Serialize};

/// The newest version of [`Workload`]; a node fails what is of a later one with `spec_unsupported`.
pub const WORKLOAD_VERSION: u32 = 5;
/// What has no volumes: nodes that know none can have it.
const BEFORE_VOLUMES: u32 = 4;
/// What runs no commands of its template before it begins: nodes that know none can have it.
const BEFORE_STARTUPS: u32 = 3;
/// What is neither a snapshot nor goes on from one: nodes that know neither can have it.
const BEFORE_SNAPSHOTS: u32 = 2;
/// What the server answers to a node that is of the cluster no more: it removes what it has and ends.
pub const NODE_DECOMMISSIONED: &str = "node_decommissioned";
/// A report names no more images than this; which ones is the node's choice.
pub const IMAGES_MAX: usize = 256;

/// One line of the plan stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanMessage {
    pub position: Position,
    #[serde(flatten)]
    pub change: PlanChange,
    /// All orders about volumes; none if they are as they were said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<VolumeOrders>,
}

/// What a node is to do about its volumes. One that nothing is said of is kept: it is never made anew, and never removed for not being
/// named.
pub type VolumeOrders = BTreeMap<VolumeId, VolumeOrder>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeOrder {
    /// It has never been there: who needs it first makes it, empty.
    Make { size: Mebibytes },
    /// Nobody wants what is in it.
    Remove,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum PlanChange {
    /// Everything that should be on the node.
    Full { assignments: Vec<Assignment> },
    /// What changed since the last message of this stream.
    Delta { upserts: Vec<Assignment>, drops: Vec<InstanceId> },
}

/// An instance as its node should have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    pub instance: InstanceId,
    pub desired: Desired,
    pub drain_grace_seconds: u32,
    pub workload: Workload,
}

/// What runs in an instance; it never changes for one instance id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    pub version: u32,
    pub org: OrgId,
    pub purpose: Purpose,
    pub image: ImageSource,
    /// The image's own entrypoint and command where none is given.
    pub command: Option<Vec<String>>,
    pub prestart: Vec<Prestart>,
    pub workdir: Option<String>,
    pub user: Option<String>,
    pub vars: BTreeMap<String, String>,
    pub resources: Resources,
    pub address: Ipv6Addr,
    pub ports: Vec<u16>,
    pub health: Option<Health>,
    pub restart: Restart,
    /// Of a sandbox that is booted.
    #[serde(default, skip_serializing_if = "Startup::is_empty")]
    pub startup: Startup,
    /// Sorted by path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<VolumeMount>,
}

/// A volume, and where the workload sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    pub volume: VolumeId,
    pub path: String,
    pub read_only: bool,
}

/// What an instance is there for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// It runs a process of an app, and is there when that answers.
    Replica { app: String, env: String, process: String, release: ReleaseId },
    /// It runs nothing by itself, and is there when its guest daemon answers.
    Sandbox {
        template: String,
        /// What it goes on from; none if it is booted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Origin>,
    },
    /// It never runs: it is what that sandbox was when it was taken.
    Snapshot {
        of: InstanceId,
        /// It is to survive its node's loss of power; else it is for those alone that go on from it at once.
        durable: bool,
    },
}

impl Workload {
    pub const fn is_sandbox(&self) -> bool {
        matches!(self.purpose, Purpose::Sandbox { .. })
    }

    pub const fn from(&self) -> Option<Origin> {
        match self.purpose {
            Purpose::Sandbox { from, .. } => from,
            Purpose::Replica { .. } | Purpose::Snapshot { .. } => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSource {
    /// Where to get it from; never what to run.
    pub reference: String,
    /// The manifest for the node's architecture: the only one that is pulled.
    pub digest: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prestart {
    pub argv: Vec<String>,
    pub timeout_seconds: u32,
}

/// What is on a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Orders the reports of one node: a later start of the node, then a later report.
    pub number: ReportNumber,
    /// The newest plan that was applied.
    pub applied: Option<Position>,
    pub capacity: Capacity,
    /// Those that need not be fetched, by the digest of the platform's manifest; at most [`IMAGES_MAX`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub images: BTreeSet<Digest>,
    pub instances: Vec<InstanceReport>,
    /// Those that are here; none if that could not be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeSet<VolumeId>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReportNumber {
    pub incarnation: u64,
    pub number: u64,
}

/// The number of the newest report of each node, as long as one server runs.
#[derive(Debug, Clone, Default)]
pub struct Newest(BTreeMap<NodeId, ReportNumber>);

impl Newest {
    /// Whether a report is newer than all before it; a late or doubled one says nothing, not even that its node lives.
    pub fn admit(&mut self, node: NodeId, number: ReportNumber) -> bool {
        let news = self.0.get(&node).is_none_or(|newest| *newest < number);
        if news {
            self.0.insert(node, number);
        }
        news
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceReport {
    pub instance: InstanceId,
    #[serde(flatten)]
    pub status: InstanceStatus,
}

/// How far a node has followed its plan, asked with the stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    pub log: Option<LogId>,
    #[serde(default)]
    pub seq: Seq,
}

/// Whether a server that stands at `position` may tell its plan to a node that has followed one up to `followed`. One that lags
/// behind the node's own log waits: the node takes no older snapshot, and changes to one it did not take would mislead it.
pub fn may_tell(position: Position, followed: Followed) -> bool {
    followed.log != Some(position.log) || followed.seq <= position.seq
}

impl From<Option<Position>> for Followed {
    fn from(position: Option<Position>) -> Self {
        Self { log: position.map(|it| it.log), seq: position.map(|it| it.seq).unwrap_or_default() }
    }
}

/// What a plan stream has said so far, all in all.
#[derive(Debug, Clone)]
pub struct Told {
    pub log: LogId,
    pub wanted: Wanted,
}

/// All that a node should know.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    pub assignments: BTreeMap<InstanceId, Assignment>,
    pub volumes: VolumeOrders,
}

/// The next line of a plan stream; none when there is nothing new to say. Another log begins with all of it.
pub fn next_message(position: Position, told: Option<&Told>, wanted: &Wanted) -> Option<PlanMessage> {
    let Wanted { assignments: wanted, volumes } = wanted;
    let Some(Told { wanted: sent, .. }) = told.filter(|told| told.log == position.log) else {
        let assignments = wanted.values().cloned().collect();
        return Some(PlanMessage {
            position,
            change: PlanChange::Full { assignments },
            volumes: Some(volumes.clone()),
        });
    };
    let volumes = (sent.volumes != *volumes).then(|| volumes.clone());
    let sent = &sent.assignments;
    let upserts: Vec<_> = wanted.iter().filter(|(id, it)| sent.get(id) != Some(it)).map(|(_, it)| it.clone()).collect();
    let drops: Vec<_> = sent.keys().filter(|id| !wanted.contains_key(id)).copied().collect();
    let news = !upserts.is_empty() || !drops.is_empty() || volumes.is_some();
    news.then_some(PlanMessage { position, change: PlanChange::Delta { upserts, drops }, volumes })
}

/// What should be on a node, without the values of variables: those are not in the state.
pub fn wanted(state: &State, node: NodeId) -> Wanted {
    let here = state.instances.iter().filter(|(_, it)| it.node == node && it.status.phase != GONE);
    let assignments = here.filter_map(|(id, _)| Some((*id, assignment(state, *id)?))).collect();
    let order = |phase, size| match phase {
        VolumePhase::Creating => Some(VolumeOrder::Make { size }),
        VolumePhase::Deleting => Some(VolumeOrder::Remove),
        VolumePhase::Available | VolumePhase::Missing | VolumePhase::Deleted => None,
    };
    let volumes = state.volumes_on(node).filter_map(|(id, it)| Some((id, order(it.phase, it.size)?))).collect();
    Wanted { assignments, volumes }
}

const GONE: plfm_core::phase::InstancePhase = plfm_core::phase::InstancePhase::Gone;

fn prestart(step: plfm_core::manifest::Prestart) -> Prestart {
    Prestart { argv: step.argv, timeout_seconds: step.timeout_seconds }
}

fn assignment(state: &State, id: InstanceId) -> Option<Assignment> {
    let instance = state.instances.get(&id)?;
    Some(Assignment {
        instance: id,
        desired: instance.desired,
        drain_grace_seconds: u32::try_from(state.grace(instance).as_secs()).unwrap_or(u32::MAX),
        workload: workload(state, id)?,
    })
}

fn workload(state: &State, id: InstanceId) -> Option<Workload> {
    let instance = state.instances.get(&id)?;
    match &instance.role {
        Role::Replica(replica) => of_replica(state, instance, replica),
        Role::Sandbox(sandbox) => {
            let purpose = Purpose::Sandbox { template: sandbox.template_name.clone(), from: sandbox.from };
            of_sandbox(state, instance, sandbox, purpose)
        }
        Role::Snapshot(snapshot) => {
            of_sandbox(state, instance, &snapshot.was, Purpose::Snapshot { of: snapshot.of, durable: snapshot.kept })
        }
    }
}

fn of_replica(state: &State, instance: &Instance, replica: &Replica) -> Option<Workload> {
    let release = state.releases.get(&replica.release)?;
    let process = release.manifest.processes.get(&replica.process)?;
    let effective = release.manifest.merged(&replica.process)?;
    let (app, env) = (state.apps.get(&replica.app)?, state.envs.get(&replica.env)?);
    let mount = |mount: &plfm_core::manifest::Mount| {
        let (volume, _) = state.volume_named(replica.env, &mount.volume)?;
        Some(VolumeMount { volume, path: mount.path.clone(), read_only: mount.read_only })
    };
    let mounts = process.mounts.iter().map(mount).collect::<Option<Vec<_>>>()?;
    Some(Workload {
        version: if mounts.is_empty() { BEFORE_SNAPSHOTS } else { WORKLOAD_VERSION },
        org: instance.org,
        purpose: Purpose::Replica {
            app: app.name.clone(),
            env: env.name.clone(),
            process: replica.process.clone(),
            release: replica.release,
        },
        image: source(state, instance, &release.image)?,
        command: effective.command,
        prestart: effective.prestart.into_iter().map(prestart).collect(),
        workdir: effective.workdir,
        user: effective.user,
        vars: BTreeMap::new(),
        resources: instance.resources,
        address: instance.address,
        ports: process.ports.iter().map(|port| port.internal).collect(),
        health: process.health.clone(),
        restart: process.restart,
        startup: Startup::default(),
        mounts,
    })
}

/// What ends stays ended: nothing of a sandbox comes back by itself.
fn of_sandbox(state: &State, instance: &Instance, sandbox: &Sandbox, purpose: Purpose) -> Option<Workload> {
    let startup = if sandbox.from.is_none() { sandbox.startup.clone() } else { Startup::default() };
    let version = match purpose {
        _ if !startup.is_empty() => BEFORE_VOLUMES,
        Purpose::Sandbox { from: None, .. } => BEFORE_SNAPSHOTS,
        _ => BEFORE_STARTUPS,
    };
    Some(Workload {
        version,
        org: instance.org,
        purpose,
        image: source(state, instance, &sandbox.image)?,
        command: None,
        prestart: Vec::new(),
        workdir: None,
        user: None,
        vars: BTreeMap::new(),
        resources: instance.resources,
        address: instance.address,
        ports: Vec::new(),
        health: None,
        restart: Restart { policy: RestartPolicy::Never, max_retries: None, backoff_seconds: 0 },
        startup,
        mounts: Vec::new(),
    })
}

/// The manifest for the architecture of the node.
fn source(state: &State, instance: &Instance, image: &ReleaseImage) -> Option<ImageSource> {
    let arch = &state.nodes.get(&instance.node)?.capacity.arch;
    Some(ImageSource { reference: image.reference.clone(), digest: *image.platforms.get(arch)? })
}
