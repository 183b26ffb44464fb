//! Who deploys, scales and stops, and remembers what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use plfm_core::command::{Command, CreateSandbox, CreateTemplate, Deploy, Expose, ForkSandbox, NodeOrder};
use plfm_core::digest::Digest;
use plfm_core::event::{DesiredChange, Entry, OnTimeout, ReleaseImage, Scope, Startup, Tls};
use plfm_core::fair::Class;
use plfm_core::ids::{EnvId, InstanceId, OrgId, RequestId, RouteId, VolumeId};
use plfm_core::labels::Labels;
use plfm_core::manifest::{Manifest, Resources as Size};
use plfm_core::phase::{Desired, NodePhase};
use plfm_core::quota::Dimension;
use plfm_core::state::State;
use plfm_core::units::{Mebibytes, MilliCpu, Seq, Timestamp};

use crate::ctx::Ctx;
use crate::scenario::{Exposed, Operation, Order, Policy, Process, Temper};

const TEMPLATE: &str = "base";
const SNAPSHOT: &str = "kept";
const APPS: [&str; 3] = ["alpha", "beta", "gamma"];

#[derive(Default)]
pub struct Client {
    /// What each env was last asked to be.
    wanted: BTreeMap<(u8, bool), Process>,
    tokens: u64,
    sandboxes: u64,
    /// By the clients' own clock.
    pub now: Timestamp,
    /// And not answered yet.
    pub asked: BTreeSet<RequestId>,
    /// Promised: it is in the log, and stays there.
    pub acknowledged: BTreeMap<RequestId, Seq>,
}

impl Client {
    /// As someone who knows `state` would ask.
    pub fn command(&mut self, operation: &Operation, state: &State) -> Command {
        let org = *state.orgs.keys().next().expect("a cluster begins with an org");
        let project = *state.projects.keys().next().expect("an org begins with a project");
        match operation {
            Operation::Deploy { app, prod, web, worker, arm, expose, worker_has_volume } => {
                self.wanted.insert((*app, *prod), web.clone());
                let volume = *worker_has_volume && !web.volume;
                let worker = worker.map(|replicas| ("worker", Process { replicas, volume, ..sound() }));
                let processes: Vec<_> = [("web", web.clone())].into_iter().chain(worker).collect();
                let expose = expose.iter().map(exposed).collect();
                deploy(APPS[usize::from(*app)], env_name(*prod), &processes, *arm, expose)
            }
            Operation::Scale { app, prod, replicas } => self.scales(*app, *prod, *replicas),
            Operation::Stop { app, prod } => self.scales(*app, *prod, 0),
            Operation::DeleteRoute { which } => {
                let known = state.routes.keys().nth(which % state.routes.len().max(1)).copied();
                Command::DeleteRoute { route: known.unwrap_or_else(|| RouteId::from(ulid::Ulid::nil())) }
            }
            Operation::CreateToken => {
                self.tokens += 1;
                let hash = Digest::of(&self.tokens.to_ne_bytes());
                Command::CreateToken { org: None, hash, scopes: vec![Scope::AppsRead] }
            }
            Operation::RevokeToken { which } => {
                let token =
                    *state.tokens.keys().nth(which % state.tokens.len()).expect("a cluster begins with a token");
                Command::RevokeToken { token }
            }
            Operation::CreateTemplate { memory_mib, arm } => {
                let image = image(if *arm { "arm64" } else { "amd64" });
                let size = Size { memory: Mebibytes(*memory_mib), cpu: MilliCpu(500), disk: Mebibytes(1_024) };
                let (org, name, startup) = ("default".to_owned(), TEMPLATE.to_owned(), Startup::default());
                Command::CreateTemplate(Box::new(CreateTemplate { org, name, image, size, startup }))
            }
            Operation::CreateSandbox { timeout_seconds, urgent, goes_on } => {
                self.creates(*timeout_seconds, *urgent, if *goes_on { SNAPSHOT } else { TEMPLATE })
            }
            Operation::SetSandboxTimeout { which, timeout_seconds } => {
                let ends_at = self.now + Duration::from_secs(*timeout_seconds);
                let (instance, at_least) = (any_sandbox(state, *which), timeout_seconds % 2 == 0);
                Command::SetSandboxTimeout { instance, ends_at, at_least }
            }
            Operation::KillSandbox { which } => Command::KillSandbox { instance: any_sandbox(state, *which) },
            Operation::PauseSandbox { which } => {
                Command::PauseSandbox { instance: running(state, *which), why: DesiredChange::Paused }
            }
            Operation::ResumeSandbox { which, timeout_seconds } => {
                let (instance, timeout) = (paused(state, *which), Duration::from_secs(*timeout_seconds));
                Command::ResumeSandbox { instance, timeout }
            }
            Operation::SnapshotSandbox { which, named } => {
                let (snapshot, of) = (self.fresh(), running(state, *which));
                Command::SnapshotSandbox { snapshot, of, name: named.then(|| SNAPSHOT.to_owned()) }
            }
            Operation::DeleteVolume { which } => {
                let known = state.volumes.keys().nth(which % state.volumes.len().max(1)).copied();
                Command::DeleteVolume { volume: known.unwrap_or_else(|| VolumeId::from(ulid::Ulid::nil())) }
            }
            Operation::ReleaseSnapshot { which } => {
                let kept = |id: &InstanceId| state.instances[id].snapshot().is_some_and(|it| it.kept);
                Command::ReleaseSnapshot { snapshot: any(state.index().snapshots().filter(kept).collect(), *which) }
            }
            Operation::ForkSandbox { which, count, timeout_seconds } => {
                let (of, snapshot) = (running(state, *which), self.fresh());
                let forks = (0..*count).map(|_| self.fresh()).collect();
                let timeout = Duration::from_secs(*timeout_seconds);
                Command::ForkSandbox(ForkSandbox { of, snapshot, forks, timeout })
            }
            Operation::Rollback { app, prod, to } => {
                let env = env_of(state, org, *app, *prod).unwrap_or_else(|| EnvId::from(ulid::Ulid::nil()));
                let any = |which: usize| state.releases.keys().nth(which % state.releases.len().max(1)).copied();
                Command::Rollback { env, release: to.and_then(any) }
            }
            Operation::Order { node, order } => {
                let node = *state.nodes.keys().nth(*node).expect("all nodes have joined");
                Command::OrderNode { node, order: (*order).into() }
            }
            Operation::ForceReschedule => Command::ForceReschedule,
            Operation::LimitInstances { most } => {
                Command::SetLimits { org, limits: [(Dimension::Instances, Some(*most))].into() }
            }
            Operation::Constrain { env, zone: wanted } => {
                let constraints = wanted.map(zone).unwrap_or_default();
                let env = env.and_then(|(app, prod)| env_of(state, org, app, prod));
                env.map_or(Command::SetOrgConstraints { org, constraints: constraints.clone() }, |env| {
                    Command::SetEnvConstraints { env, constraints }
                })
            }
            Operation::WeighOrg { weight } => Command::SetOrgWeight { org, weight: *weight },
            Operation::Prioritize { app, prod, class } => {
                let env = env_of(state, org, *app, *prod).unwrap_or_else(|| EnvId::from(ulid::Ulid::nil()));
                Command::SetEnvClass { env, class: *class }
            }
            Operation::WeighProject { weight } => Command::SetProjectWeight { project, weight: *weight },
        }
    }

    fn fresh(&mut self) -> InstanceId {
        self.sandboxes += 1;
        InstanceId::from(ulid::Ulid::from_parts(1, self.sandboxes.into()))
    }

    fn creates(&mut self, timeout_seconds: u64, urgent: bool, template: &str) -> Command {
        Command::CreateSandbox(Box::new(CreateSandbox {
            instance: self.fresh(),
            org: "default".to_owned(),
            project: "default".to_owned(),
            template: template.to_owned(),
            vars: None,
            metadata: BTreeMap::new(),
            class: if urgent { Class::High } else { Class::Normal },
            timeout: Duration::from_secs(timeout_seconds),
            on_timeout: if timeout_seconds.is_multiple_of(2) { OnTimeout::Pause } else { OnTimeout::Kill },
        }))
    }

    fn scales(&mut self, app: u8, prod: bool, replicas: u32) -> Command {
        let web = self.wanted.entry((app, prod)).or_insert_with(sound);
        web.replicas = replicas;
        deploy(APPS[usize::from(app)], env_name(prod), &[("web", web.clone())], false, Vec::new())
    }
}

fn env_of(state: &State, org: OrgId, app: u8, prod: bool) -> Option<EnvId> {
    state.env_named(state.app_named(org, APPS[usize::from(app)])?, env_name(prod))
}

/// One node is in one, the others in another.
pub fn zone(first: bool) -> Labels {
    let zone = if first { "a" } else { "b" };
    Labels([("zone".to_owned(), zone.to_owned())].into())
}

fn any_sandbox(state: &State, which: usize) -> InstanceId {
    any(state.index().sandboxes().collect(), which)
}

/// Most who ask know what can be done; who asks for what there is none of shows that it is refused.
fn running(state: &State, which: usize) -> InstanceId {
    let runs = |id: &InstanceId| state.instances[id].is_ready();
    let all: Vec<_> = state.index().sandboxes().filter(runs).collect();
    if all.is_empty() { any_sandbox(state, which) } else { any(all, which) }
}

fn paused(state: &State, which: usize) -> InstanceId {
    let rests = |id: &InstanceId| state.instances[id].desired == Desired::Paused;
    let all: Vec<_> = state.index().sandboxes().filter(rests).collect();
    if all.is_empty() { any_sandbox(state, which) } else { any(all, which) }
}

fn any(known: Vec<InstanceId>, which: usize) -> InstanceId {
    let known = known.get(which % known.len().max(1)).copied();
    known.unwrap_or_else(|| InstanceId::from(ulid::Ulid::nil()))
}

impl From<Order> for NodeOrder {
    fn from(order: Order) -> Self {
        match order {
            Order::Drain => Self::Drain,
            Order::Disable => Self::Disable,
            Order::Activate => Self::Activate,
            Order::Tolerate => Self::Tolerate,
            Order::Distrust => Self::Distrust,
        }
    }
}

/// The whole fleet at work, no limits but the usual, any node for all, and a sound release for every environment there is.
pub fn last_orders(ctx: &mut Ctx, state: &State) -> Vec<Command> {
    let idle = state.nodes.iter().filter(|(_, node)| node.phase != NodePhase::Active);
    let mut orders: Vec<_> =
        idle.map(|(node, _)| Command::OrderNode { node: *node, order: NodeOrder::Activate }).collect();
    orders.extend(
        state.orgs.keys().map(|org| Command::SetLimits { org: *org, limits: [(Dimension::Instances, None)].into() }),
    );
    let anywhere = Labels::default;
    orders.extend(state.orgs.keys().map(|org| Command::SetOrgConstraints { org: *org, constraints: anywhere() }));
    orders.extend(state.envs.keys().map(|env| Command::SetEnvConstraints { env: *env, constraints: anywhere() }));
    for env in state.envs.values() {
        let memory_mib = [64, 128][ctx.rng.usize(..2)];
        let web = Process { replicas: ctx.rng.u32(0..4), memory_mib, port: ctx.rng.bool(), ..sound() };
        let app = &state.apps.get(&env.app).expect("an environment has an app").name;
        orders.push(deploy(app, &env.name, &[("web", web)], false, Vec::new()));
    }
    orders
}

fn sound() -> Process {
    Process {
        temper: Temper::Serves,
        replicas: 1,
        memory_mib: 64,
        disk_gib: 1,
        policy: Policy::Always,
        backoff_seconds: 1,
        port: true,
        health: false,
        volume: false,
    }
}

fn env_name(prod: bool) -> &'static str {
    if prod { "prod" } else { "dev" }
}

fn deploy(app: &str, env: &str, processes: &[(&str, Process)], arm: bool, expose: Vec<Expose>) -> Command {
    let tables: String = processes.iter().map(|(name, process)| table(name, process)).collect();
    let has_volume = processes.iter().any(|(_, process)| process.volume);
    let volumes = if has_volume { "[[volumes]]\nname = \"data\"\nsize = \"1Gi\"\n" } else { "" };
    let text = format!("schema_version = \"v1\"\n{volumes}{tables}");
    let manifest = Manifest::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors:#?} in\n{text}"));
    let (org, app, env) = ("default".to_owned(), app.to_owned(), env.to_owned());
    let image = image(if arm { "arm64" } else { "amd64" });
    Command::Deploy(Box::new(Deploy { org, app, env, image, manifest, vars: None, expose, create_volumes: true }))
}

fn table(name: &str, process: &Process) -> String {
    let Process { temper, replicas, memory_mib, disk_gib, policy, backoff_seconds, port, health, volume } = process;
    let replicas = if *volume { 1.min(*replicas) } else { *replicas };
    let (command, policy, max) = (temper.command(), policy.name(), replicas.max(1));
    let mut text = format!(
        "[processes.{name}]\ncommand = [\"{command}\"]\n\
         [processes.{name}.resources]\nmemory = \"{memory_mib}Mi\"\ndisk = \"{disk_gib}Gi\"\n\
         [processes.{name}.scaling]\nmin = {replicas}\nmax = {max}\n\
         [processes.{name}.restart]\npolicy = \"{policy}\"\nbackoff_seconds = {backoff_seconds}\n"
    );
    if *port {
        text.push_str(&format!("[[processes.{name}.ports]]\nname = \"http\"\ninternal = 8080\n"));
    }
    if *port && *health {
        writeln!(text, "[processes.{name}.health]\ntype = \"tcp\"\nport = 8080").expect("a string takes all");
    }
    if *volume {
        text.push_str(&format!("[[processes.{name}.mounts]]\nvolume = \"data\"\npath = \"/data\"\n"));
    }
    text
}

fn image(arch: &str) -> ReleaseImage {
    let platform = Digest::of(arch.as_bytes());
    ReleaseImage {
        reference: "registry.example.com/app:1".to_owned(),
        digest: platform,
        platforms: [(arch.to_owned(), platform)].into(),
    }
}

fn exposed(wanted: &Exposed) -> Expose {
    let process = if wanted.worker { "worker" } else { "web" };
    let (entry, tls) = (Entry::TcpPort(wanted.port), Tls::Terminated);
    Expose { entry, process: process.to_owned(), port: 8080, tls }
}
