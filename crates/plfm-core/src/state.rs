//! The platform as it stands: the fold of the log up to [`State::position`].
//!
//! The maps are persistent: a reader keeps the version it has for the price of a pointer while the writer goes on.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::Duration;

use imbl::{OrdMap, Vector};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;
use crate::event::{Capacity, Degradation, Entry, ReleaseImage, Scope, Startup, Target, Waiting};
use crate::fair::{Class, Turns};
use crate::ids::*;
use crate::index::Index;
use crate::labels::Labels;
use crate::manifest::{Manifest, Mount, Process, Resources as Size, TERMINATION_GRACE_SECONDS};
use crate::phase::{DeployStatus, Desired, NodePhase};
use crate::quota::Limits;
use crate::reason::Failure;
use crate::units::{Seq, Term, Timestamp};

pub use self::committed::Committed;
pub use self::instance::{Footprint, Instance, Replica, Role, Sandbox, Snapshot};
pub use self::volume::Volume;

mod committed;
mod instance;
mod volume;

/// A sandbox that does not answer by then is ended: an image may have to be pulled, a machine may be emulated.
pub const START_MAX: Duration = Duration::from_secs(300);

/// Where in which log a state, plan or report stands. Positions of different logs do not compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub log: LogId,
    pub term: Term,
    pub seq: Seq,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct State {
    /// None until the first event.
    pub log: Option<LogId>,
    pub term: Term,
    pub seq: Seq,
    pub cluster: Option<Cluster>,
    pub orgs: OrdMap<OrgId, Org>,
    pub projects: OrdMap<ProjectId, Project>,
    pub apps: OrdMap<AppId, App>,
    pub envs: OrdMap<EnvId, Env>,
    pub releases: OrdMap<ReleaseId, Release>,
    pub deploys: OrdMap<DeployId, Deploy>,
    pub routes: OrdMap<RouteId, Route>,
    #[serde(default)]
    pub templates: OrdMap<TemplateId, Template>,
    pub instances: OrdMap<InstanceId, Instance>,
    #[serde(default)]
    pub volumes: OrdMap<VolumeId, Volume>,
    pub nodes: OrdMap<NodeId, Node>,
    pub tokens: OrdMap<TokenId, Token>,
    pub join_tokens: OrdMap<JoinTokenId, JoinToken>,
    #[serde(default)]
    pub rescheduling: Rescheduling,
    #[serde(skip)]
    pub(crate) index: Index,
}

/// Whether work of lost nodes goes elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rescheduling {
    pub frozen_since: Option<Timestamp>,
    /// When an operator last said that it shall.
    pub forced_at: Option<Timestamp>,
}

/// How long a start counts against its org's limit of them.
pub const STARTS_WINDOW: Duration = Duration::from_secs(60);

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for State {
    /// The index is made anew.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut state = Self::deserialize(deserializer)?;
        state.index = Index::of(&state);
        Ok(state)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// The managed domain: an app is reached as `APP.domain`.
    pub domain: String,
    /// The /48 that node and instance addresses are taken from.
    pub prefix: Ipv6Addr,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Org {
    pub name: String,
    #[serde(default = "one")]
    pub weight: u32,
    #[serde(default)]
    pub limits: Limits,
    /// What its nodes must have.
    #[serde(default)]
    pub constraints: Labels,
    /// When its instances were started, of the last minute, the oldest first.
    #[serde(default)]
    pub starts: Vector<Timestamp>,
    pub version: Seq,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Project {
    pub org: OrgId,
    pub name: String,
    #[serde(default = "one")]
    pub weight: u32,
    /// Whose turn it is, of the classes of its requests.
    #[serde(default)]
    pub turns: Turns,
    pub version: Seq,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct App {
    pub org: OrgId,
    pub project: ProjectId,
    pub name: String,
    pub version: Seq,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Env {
    pub org: OrgId,
    pub app: AppId,
    pub name: String,
    /// By process type.
    pub groups: OrdMap<String, Group>,
    /// What its nodes must have, beside what its org asks for.
    #[serde(default)]
    pub constraints: Labels,
    /// As which its instances are served, within its project.
    #[serde(default)]
    pub class: Class,
    pub version: Seq,
}

/// A process type in an env: the unit of scheduling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    pub release: ReleaseId,
    pub deploy: DeployId,
    /// Why it gets no instance just now.
    pub waiting: Option<Waiting>,
    #[serde(default)]
    pub waiting_since: Option<Timestamp>,
    /// Tries that were given up since the deploy.
    #[serde(default)]
    pub given_up: u32,
    /// When its deploy failed, or the last try after that.
    #[serde(default)]
    pub failed_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Release {
    pub org: OrgId,
    pub app: AppId,
    pub image: ReleaseImage,
    pub manifest_hash: Digest,
    pub manifest: Manifest,
    pub vars: Option<Digest>,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deploy {
    pub org: OrgId,
    pub app: AppId,
    pub env: EnvId,
    pub release: ReleaseId,
    pub processes: Vec<String>,
    pub status: DeployStatus,
    pub failure: Option<Failure>,
    pub created_at: Timestamp,
    pub version: Seq,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    pub org: OrgId,
    pub app: AppId,
    pub env: EnvId,
    pub entry: Entry,
    /// One for each release that still runs or shall run, the newest last: while a rollout replaces instances, each is found where its
    /// own release listens.
    pub targets: Vec<Target>,
    pub version: Seq,
}

impl Route {
    /// Where it leads, or is to lead.
    pub fn target(&self) -> Option<&Target> {
        self.targets.last()
    }

    /// Where it finds this instance, if it leads there.
    pub fn target_of(&self, it: &Instance) -> Option<&Target> {
        let leads_to = |target: &&Target| it.release() == Some(target.release) && it.is_of(self.env, &target.process);
        self.targets.iter().find(leads_to)
    }
}

/// What sandboxes are made of. The newest of a name has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Template {
    pub org: OrgId,
    pub name: String,
    pub image: ReleaseImage,
    pub size: Size,
    #[serde(default)]
    pub startup: Startup,
    pub created_at: Timestamp,
    pub version: Seq,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub name: String,
    /// The node's /64 within the cluster's /48.
    pub number: u16,
    pub capacity: Capacity,
    pub phase: NodePhase,
    /// The last phase that was not `offline`.
    #[serde(default = "active")]
    pub returns_to: NodePhase,
    /// Of the last change of `phase`.
    #[serde(default)]
    pub phase_at: Timestamp,
    /// The interface identifier of the next instance; never given twice.
    pub next_host: u64,
    /// When the last boots failed that are not the user's fault; as many as placement counts.
    #[serde(default)]
    pub failed_boots: Vec<Timestamp>,
    /// How it may be degraded and take work all the same; no more than it is.
    #[serde(default)]
    pub tolerated: BTreeSet<Degradation>,
    pub version: Seq,
}

impl Node {
    /// As far as it is known from the node and its operator.
    pub fn takes_work(&self) -> bool {
        self.phase == NodePhase::Active && self.trouble().is_none()
    }

    /// The first thing that keeps new work from a node that is up.
    pub fn trouble(&self) -> Option<Degradation> {
        self.capacity.degraded.difference(&self.tolerated).next().copied()
    }
}

const fn one() -> u32 {
    1
}

const fn active() -> NodePhase {
    NodePhase::Active
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Token {
    pub org: Option<OrgId>,
    pub hash: Digest,
    pub scopes: Vec<Scope>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JoinToken {
    pub hash: Digest,
    pub expires_at: Timestamp,
    pub used_by: Option<NodeId>,
}

impl State {
    pub fn position(&self) -> Option<Position> {
        self.log.map(|log| Position { log, term: self.term, seq: self.seq })
    }

    pub fn org_named(&self, name: &str) -> Option<OrgId> {
        self.orgs.iter().find(|(_, org)| org.name == name).map(|(id, _)| *id)
    }

    pub fn app_named(&self, org: OrgId, name: &str) -> Option<AppId> {
        self.apps.iter().find(|(_, app)| app.org == org && app.name == name).map(|(id, _)| *id)
    }

    pub fn env_named(&self, app: AppId, name: &str) -> Option<EnvId> {
        self.envs.iter().find(|(_, env)| env.app == app && env.name == name).map(|(id, _)| *id)
    }

    pub fn node_named(&self, name: &str) -> Option<NodeId> {
        let named = |node: &Node| node.name == name && node.phase != NodePhase::Decommissioned;
        self.nodes.iter().find(|(_, node)| named(node)).map(|(id, _)| *id)
    }

    pub fn route_at(&self, entry: &Entry) -> Option<RouteId> {
        self.routes.iter().find(|(_, route)| route.entry == *entry).map(|(id, _)| *id)
    }

    pub fn project_named(&self, org: OrgId, name: &str) -> Option<ProjectId> {
        self.projects.iter().find(|(_, project)| project.org == org && project.name == name).map(|(id, _)| *id)
    }

    pub fn template_named(&self, org: OrgId, name: &str) -> Option<(TemplateId, &Template)> {
        self.templates.iter().find(|(_, it)| it.org == org && it.name == name).map(|(id, it)| (*id, it))
    }

    /// The newest of a name that others can go on from.
    pub fn snapshot_named(&self, org: OrgId, name: &str) -> Option<(InstanceId, &Instance)> {
        let named = self.index.named(org, name).filter_map(|id| Some((id, self.instances.get(&id)?)));
        named.filter(|(_, it)| it.is_taken()).last()
    }

    /// The process type an instance runs, as its release says.
    pub fn process(&self, release: ReleaseId, name: &str) -> Option<&Process> {
        self.releases.get(&release)?.manifest.processes.get(name)
    }

    /// What instances hold on each node that holds something.
    pub fn committed(&self) -> std::collections::BTreeMap<NodeId, Committed> {
        let held = self.nodes.keys().map(|node| (*node, self.index.held(*node)));
        held.filter(|(_, held)| held.instances > 0).collect()
    }

    /// Where to look things up.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Instances of an env that hold resources.
    pub fn live_in(&self, env: EnvId) -> impl Iterator<Item = (InstanceId, &Instance)> {
        self.index.in_env(env).filter_map(|id| Some((id, self.instances.get(&id)?)))
    }

    /// Instances on a node that hold resources.
    pub fn live_on(&self, node: NodeId) -> impl Iterator<Item = (InstanceId, &Instance)> {
        self.index.on_node(node).filter_map(|id| Some((id, self.instances.get(&id)?)))
    }

    /// When an org has started instances within the last minute, the oldest first.
    pub fn starts(&self, org: OrgId, now: Timestamp) -> impl Iterator<Item = Timestamp> {
        let starts = self.orgs.get(&org).into_iter().flat_map(|org| org.starts.iter().copied());
        starts.skip_while(move |at| now >= *at + STARTS_WINDOW)
    }

    /// Whether it has a node that it cannot leave: its volumes are there, or all that it is while it is paused.
    pub fn is_stateful(&self, instance: &Instance) -> bool {
        if instance.desired == Desired::Paused || instance.status.phase.is_at_rest() {
            return true;
        }
        !self.mounts(instance).is_empty()
    }

    /// The volumes that an instance has, and where it sees them.
    pub fn mounts(&self, instance: &Instance) -> &[Mount] {
        let process = instance.replica().and_then(|it| self.process(it.release, &it.process));
        process.map(|process| process.mounts.as_slice()).unwrap_or_default()
    }

    /// Whether it has a volume that this process type, of the same env, mounts.
    pub fn share_volume(&self, instance: &Instance, process: &Process) -> bool {
        let is_its = |volume: &str| process.mounts.iter().any(|mount| mount.volume == volume);
        !process.mounts.is_empty() && self.mounts(instance).iter().any(|mount| is_its(&mount.volume))
    }

    /// From SIGTERM to SIGKILL (P-SCH-34).
    pub fn grace(&self, instance: &Instance) -> Duration {
        let process = instance.replica().and_then(|it| self.process(it.release, &it.process));
        let seconds = process.map_or(TERMINATION_GRACE_SECONDS, |process| process.termination_grace_seconds);
        Duration::from_secs(seconds.into())
    }

    /// The one of this name that is wanted.
    pub fn volume_named(&self, env: EnvId, name: &str) -> Option<(VolumeId, &Volume)> {
        let id = self.index.volume(env, name)?;
        self.volumes.get(&id).map(|volume| (id, volume))
    }

    /// Volumes whose home a node is, those that it has still to remove among them.
    pub fn volumes_on(&self, node: NodeId) -> impl Iterator<Item = (VolumeId, &Volume)> {
        self.volumes.iter().filter(move |(_, it)| it.home == Some(node)).map(|(id, it)| (*id, it))
    }
}

impl Node {
    /// `prefix:number::host`, one routed address per instance.
    pub fn address(&self, cluster: &Cluster, host: u64) -> Ipv6Addr {
        let node = u128::from(cluster.prefix) | u128::from(self.number) << 64;
        Ipv6Addr::from(node | u128::from(host))
    }
}
