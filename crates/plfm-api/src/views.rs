//! What the HTTP API takes and answers. Converted from the core in one direction, in one place.

use std::net::Ipv6Addr;

use plfm_core::event::{Entry, Envelope, Start, Target, Tls, Waiting};
use plfm_core::fair::Class;
use plfm_core::ids::*;
use plfm_core::labels::Labels;
use plfm_core::phase::{DeployStatus, Desired, InstancePhase};
use plfm_core::place::report::Verdict;
use plfm_core::reason::Failure;
use plfm_core::state::{Group, Instance, Route, State};
use plfm_core::units::{Mebibytes, Seq, Timestamp};
use serde::{Deserialize, Serialize};

pub use plfm_core::explain::ClosedPorts;

pub use edge::{Backend, EdgeRoute, RouteTable, route_table};

pub use sandboxes::{
    ApiKeyView, ForkRequest, ForksView, NewApiKeyView, SandboxRequest, SandboxState, SandboxView, SnapshotRequest,
    SnapshotState, SnapshotView, TemplateRequest, TemplateView, TimeoutRequest, api_keys, sandbox, sandbox_id,
    sandbox_name, snapshot, snapshots, template, templates,
};

pub use volumes::{VolumeView, volume, volumes};

pub use orgs::{ClassRequest, ConstraintsRequest, LimitView, LimitsRequest, OrgView, ProjectView, WeightRequest, org};

pub use nodes::{
    JoinReply, JoinRequest, JoinTokenRequest, JoinTokenView, NodeOrder, NodeOrderRequest, NodeView, NodesView, node,
    nodes,
};

mod edge;
mod nodes;
mod orgs;
mod sandboxes;
mod volumes;

/// `POST /v1/orgs/{org}/apps/{app}/envs/{env}/deploys`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// The text of `plfm.toml`, unchanged.
    pub manifest: String,
    /// Instead of the manifest's image.
    #[serde(default)]
    pub image: Option<String>,
    #[serde(default)]
    pub expose: Vec<ExposeRequest>,
    /// Make the volumes of the manifest that are not there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub create_volumes: bool,
}

/// A port or a host name of the edge, and where it leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExposeRequest {
    pub listen: Listen,
    pub process: String,
    pub port: u16,
    #[serde(default, skip_serializing_if = "Tls::is_terminated")]
    pub tls: Tls,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Listen {
    Port(u16),
    Hostname(String),
}

impl From<Listen> for Entry {
    fn from(listen: Listen) -> Self {
        match listen {
            Listen::Port(port) => Self::TcpPort(port),
            Listen::Hostname(name) => Self::Hostname(name.trim_end_matches('.').to_ascii_lowercase()),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeployReceipt {
    pub deploy: DeployId,
    pub release: ReleaseId,
    pub image: plfm_core::digest::Digest,
    pub seq: Seq,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvView {
    pub app: String,
    pub env: String,
    pub routes: Vec<RouteView>,
    pub deploy: Option<DeployView>,
    pub processes: Vec<ProcessView>,
    pub instances: Vec<InstanceView>,
    /// Labels of the nodes that get what it starts, beside those that its org asks for.
    #[serde(default)]
    pub constraints: Labels,
    /// As which its instances are served, within its project.
    #[serde(default)]
    pub class: Class,
    pub seq: Seq,
}

/// An entry of the edge, and where it leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteView {
    pub id: RouteId,
    pub url: String,
    pub target: Option<Target>,
    /// Why the edge does not take connections there.
    pub closed: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeployView {
    pub id: DeployId,
    pub release: ReleaseId,
    pub image: String,
    pub digest: plfm_core::digest::Digest,
    pub status: DeployStatus,
    pub failure: Option<Failure>,
    pub created_at: Timestamp,
}

/// `GET …/envs/{env}/deploys`, the newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeploysView {
    pub items: Vec<DeployView>,
}

/// `POST …/envs/{env}/rollbacks`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The newest that succeeded and is not wanted now, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessView {
    pub name: String,
    pub wanted: u32,
    pub ready: u32,
    /// Why one more is not placed.
    pub waiting: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceView {
    pub id: InstanceId,
    pub app: String,
    pub env: String,
    pub process: String,
    pub node: String,
    pub release: ReleaseId,
    pub deploy: DeployId,
    pub desired: Desired,
    pub phase: InstancePhase,
    pub failure: Option<Failure>,
    pub hint: Option<String>,
    pub exit_code: Option<i32>,
    pub restarts: u32,
    pub boot: Option<BootId>,
    pub hello_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    pub address: Ipv6Addr,
    pub memory: Mebibytes,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
}

/// What a running instance has taken of its node since its machine was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStats {
    pub instance: InstanceId,
    /// Of its processors and whoever serves them.
    pub cpu_ms: u64,
    /// What is resident of its memory and of the process around it; pages shared with others count in part.
    pub memory_bytes: u64,
    /// What its writable disk takes on the node.
    pub disk_bytes: u64,
    /// From and to the node's disks.
    pub read_bytes: u64,
    pub written_bytes: u64,
    /// None where machines have no network card.
    pub network: Option<NetworkStats>,
}

/// As the instance sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkStats {
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

/// A page or the whole of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Items<T> {
    pub items: Vec<T>,
}

/// Why something is here or not, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// An app and env, or an instance.
    pub subject: String,
    /// One sentence.
    pub answer: String,
    /// The most urgent first; empty when all is well.
    pub lines: Vec<ExplainLine>,
    /// What each node says to one more of each process type, as the fleet stands now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<PlacesView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacesView {
    pub process: String,
    /// Why the next one has no place, where it waits for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    pub nodes: Vec<PlaceView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceView {
    pub node: String,
    /// `fits`, or the first thing that is missing.
    pub verdict: String,
    /// The same, for people.
    pub says: String,
    /// Of one that fits, in thousandths of a point: the most is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<i64>,
    /// Of one that has too little memory or disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_mib: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainLine {
    /// A phase, a reason, or a word of its own: stable, for programs.
    #[serde(default)]
    pub code: String,
    pub what: String,
    pub why: String,
    /// What to type or do next.
    pub next: String,
}

/// One line of the event stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EventLine {
    pub kind: String,
    #[serde(flatten)]
    pub envelope: serde_json::Value,
}

/// One line of a log stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    pub instance: InstanceId,
    pub at: Timestamp,
    pub stream: LogStream,
    /// Without its line end; what was not UTF-8 is replaced.
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    Stdout,
    Stderr,
    /// What the kernel and the guest daemon said.
    Console,
    /// What the node did.
    Node,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Capabilities {
    pub version: String,
    pub api: String,
    pub domain: String,
}

/// Of a replica; a sandbox is shown by [`sandbox`].
pub fn instance(state: &State, id: InstanceId, instance: &Instance) -> Option<InstanceView> {
    let replica = instance.replica()?;
    let name = |found: Option<&String>| found.cloned().unwrap_or_default();
    let failure = instance.status.failure.clone();
    Some(InstanceView {
        id,
        app: name(state.apps.get(&replica.app).map(|app| &app.name)),
        env: name(state.envs.get(&replica.env).map(|env| &env.name)),
        process: replica.process.clone(),
        node: name(state.nodes.get(&instance.node).map(|node| &node.name)),
        release: replica.release,
        deploy: replica.deploy,
        desired: instance.desired,
        phase: instance.status.phase,
        hint: failure.as_ref().map(|failure| failure.reason.hint().to_owned()),
        failure,
        exit_code: instance.status.exit_code,
        restarts: instance.status.restarts,
        boot: instance.status.boot,
        hello_ms: instance.status.hello_ms,
        start: instance.status.start,
        address: instance.address,
        memory: instance.resources.memory,
        created_at: instance.created_at,
        changed_at: instance.changed_at,
    })
}

/// What views say of the edge.
#[derive(Debug, Clone, Copy)]
pub struct EdgeStatus<'a> {
    /// Where it takes HTTPS.
    pub https_port: u16,
    pub closed: &'a ClosedPorts,
}

pub fn env(state: &State, id: EnvId, edge: EdgeStatus<'_>) -> Option<EnvView> {
    let env = state.envs.get(&id)?;
    let of_env =
        |it: &Instance| it.replica().is_some_and(|replica| replica.env == id) && it.status.phase != InstancePhase::Gone;
    let there = state.instances.iter().filter(|(_, it)| of_env(it));
    let instances = there.filter_map(|(id, it)| instance(state, *id, it));
    Some(EnvView {
        app: state.apps.get(&env.app)?.name.clone(),
        env: env.name.clone(),
        routes: routes(state, id, edge),
        deploy: env.groups.values().next().and_then(|group| deploy(state, group.deploy)),
        processes: env.groups.keys().filter_map(|name| process(state, id, name)).collect(),
        instances: instances.collect(),
        constraints: env.constraints.clone(),
        class: env.class,
        seq: state.seq,
    })
}

/// Names before ports.
fn routes(state: &State, env: EnvId, edge: EdgeStatus<'_>) -> Vec<RouteView> {
    let routes = state.routes.iter().filter(|(_, route)| route.env == env);
    let mut routes: Vec<_> = routes.map(|(id, it)| route(*id, it, edge)).collect();
    routes.sort_by(|a, b| a.url.cmp(&b.url));
    routes
}

pub fn route(id: RouteId, route: &Route, edge: EdgeStatus<'_>) -> RouteView {
    let (url, closed) = match &route.entry {
        Entry::Hostname(name) => {
            let passes = route.target().is_some_and(|target| target.tls == Tls::Passthrough);
            let url = match (passes, edge.https_port) {
                (false, 443) => format!("https://{name}"),
                (false, port) => format!("https://{name}:{port}"),
                (true, port) => format!("tls://{name}:{port}"),
            };
            (url, None)
        }
        Entry::TcpPort(port) => (format!("tcp://:{port}"), edge.closed.get(port).cloned()),
    };
    RouteView { id, url, target: route.target().cloned(), closed }
}

pub fn deploy(state: &State, id: DeployId) -> Option<DeployView> {
    let deploy = state.deploys.get(&id)?;
    let release = state.releases.get(&deploy.release)?;
    Some(DeployView {
        id,
        release: deploy.release,
        image: release.image.reference.clone(),
        digest: release.image.digest,
        status: deploy.status,
        failure: deploy.failure.clone(),
        created_at: deploy.created_at,
    })
}

pub fn deploys(state: &State, env: EnvId) -> DeploysView {
    let of_env = state.deploys.iter().filter(|(_, it)| it.env == env);
    let mut items: Vec<_> = of_env.filter_map(|(id, _)| deploy(state, *id)).collect();
    items.sort_by_key(|it| std::cmp::Reverse((it.created_at, it.id)));
    DeploysView { items }
}

fn process(state: &State, env: EnvId, name: &str) -> Option<ProcessView> {
    let group = state.envs.get(&env)?.groups.get(name)?;
    let wanted = state.process(group.release, name)?.scaling.min;
    let ready = state.live_in(env).filter(|(_, it)| it.is_of(env, name) && it.is_ready()).count();
    Some(ProcessView {
        name: name.to_owned(),
        wanted,
        ready: u32::try_from(ready).unwrap_or(u32::MAX),
        waiting: group.waiting.as_ref().map(|why| format!("{why}{}", gives_way(state, env, name, group))),
    })
}

/// Where there is no room for one more, an old one goes before a new one comes (P-SCH-31).
fn gives_way(state: &State, env: EnvId, name: &str, group: &Group) -> &'static str {
    let leaves = |it: &Instance| it.desired == Desired::Draining && it.release() != Some(group.release);
    let waits = group.waiting.as_ref().is_some_and(Waiting::is_for_room);
    let goes_first = waits && state.live_in(env).any(|(_, it)| it.is_of(env, name) && leaves(it));
    if goes_first { "; an old one leaves first, so one fewer serves meanwhile" } else { "" }
}

impl From<&Envelope> for EventLine {
    fn from(envelope: &Envelope) -> Self {
        let mut value = serde_json::to_value(envelope).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.remove("kind");
        }
        Self { kind: envelope.event.kind().to_owned(), envelope: value }
    }
}

/// With the names of nodes.
pub fn explanation(state: &State, core: plfm_core::explain::Explanation) -> Explanation {
    let line = |it: plfm_core::explain::Finding| ExplainLine {
        code: it.code.to_owned(),
        what: it.what,
        why: it.why,
        next: it.next,
    };
    let place = |(node, verdict): (NodeId, Verdict)| {
        let (score, short_mib) = match verdict {
            Verdict::Fits { score } => (Some(score), None),
            Verdict::Memory { short } | Verdict::Disk { short } => (None, Some(short.0)),
            _ => (None, None),
        };
        let name = state.nodes.get(&node).map_or_else(|| node.to_string(), |node| node.name.clone());
        PlaceView { node: name, verdict: verdict.code().to_owned(), says: verdict.to_string(), score, short_mib }
    };
    let places = core.places.into_iter().map(|it| {
        let (waiting, nodes) = (it.waiting.map(str::to_owned), it.nodes.into_iter().map(place).collect());
        PlacesView { process: it.process, waiting, nodes }
    });
    Explanation {
        subject: core.subject,
        answer: core.answer,
        lines: core.findings.into_iter().map(line).collect(),
        places: places.collect(),
    }
}
