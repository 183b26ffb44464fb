//! A fleet that follows a script, and how it looks afterwards. One line of a script is one thing that happens; after each the platform
//! has its say until it is quiet, and the invariants are looked at.
//!
//! ```text
//! node a memory=1024 disk=50 arch=arm64 zone=x    a node joins and is heard from then on
//! deploy v1 x3 memory=64 disk=1 app=shop volume=data+logs size=1 process=web grace=10   release `v1` of `web`, three replicas
//! ready | ready 2                          all that should run, or the second instance, reports ready
//! unready 2 | fail 2 workload_exited       what a node reports of an instance; `fail all …` of every one that starts
//! leave                                    what should go is gone
//! mute a | murmur a | hear a               the node falls silent, is heard once, is back with three heartbeats in a row
//! pass 61                                  so many seconds; nodes that are not mute keep reporting
//! has a data | has a data+logs | has a     the volumes that the node says that it has, in all envs that have one of that name
//! writer                                   another server takes over
//! template 256 | sandbox 60 | kill 2        what sandboxes are made of, one for so many seconds, an end
//! pause 2 | resume 2 60 | paused 2          what is wanted of a sandbox; what its node says
//! require | require zone=x | require shop zone=x       what nodes must have, for the org or an app's env
//! priority shop high                       before or after others of its project
//! limit instances 3                        what the org may have at most
//! drain a | disable a | activate a | decommission a    what an operator says of a node; `force` of those that fell silent at once
//! ```

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use expect_test::Expect;
use plfm_core::check::{check, check_step};
use plfm_core::command::{Command, CreateSandbox, CreateTemplate, Deploy, Expose, ForkSandbox, NodeOrder};
use plfm_core::digest::Digest;
use plfm_core::event::{
    Actor, Capacity, DesiredChange, Entry, Envelope, Event, InstanceStatus, Isolation, OnTimeout, ReleaseImage,
    Startup, Tls,
};
use plfm_core::facts::{BACK_AFTER, Contact, Facts};
use plfm_core::fair::Class;
use plfm_core::ids::{BootId, InstanceId, NodeId, OrgId};
use plfm_core::labels::Labels;
use plfm_core::manifest::{Manifest, Mount, Resources as Size, Volume};
use plfm_core::phase::{Desired, InstancePhase, NodePhase};
use plfm_core::quota::Dimension;
use plfm_core::reason::{Failure, Reason};
use plfm_core::reconcile::reconcile;
use plfm_core::refusal::Refusal;
use plfm_core::sequencer::{Origin, Sequencer};
use plfm_core::state::State;
use plfm_core::units::{Mebibytes, MilliCpu, Timestamp};
use ulid::Ulid;

/// More rounds of `reconcile` than any script needs.
const ROUNDS_MAX: usize = 32;

pub struct Fleet {
    sequencer: Sequencer,
    pub facts: Facts,
    mute: BTreeSet<NodeId>,
    pub log: Vec<Envelope>,
}

/// Runs a script and compares how the fleet looks.
pub fn check_script(script: &str, expected: Expect) {
    let mut fleet = Fleet::new();
    script.split([';', '\n']).map(str::trim).filter(|line| !line.is_empty()).for_each(|line| fleet.follow(line));
    expected.assert_eq(&fleet.picture());
}

impl Fleet {
    pub fn empty() -> Self {
        let now = Timestamp(1_767_225_600_000);
        let facts = Facts { now, entropy: 1, writer_since: now, ..Facts::default() };
        Self { sequencer: Sequencer::new(State::default()), facts, mute: BTreeSet::new(), log: Vec::new() }
    }

    pub fn new() -> Self {
        let mut fleet = Self::empty();
        fleet.submit(bootstrap()).unwrap();
        fleet.submit(Command::StartWriter).unwrap();
        fleet
    }

    pub fn state(&self) -> &State {
        self.sequencer.tentative()
    }

    /// One command, as the writer takes it; each event is held against the life cycles and the state after it against `check`.
    pub fn submit(&mut self, command: Command) -> Result<usize, Refusal> {
        self.facts.entropy += 1;
        let before = self.sequencer.state().clone();
        let origin = Origin { actor: Actor::System, request: self.facts.ids().fresh(), cause: None };
        let said = format!("{command:?}");
        self.sequencer.submit(command, origin, &self.facts)?;
        let events = self.sequencer.batch().to_vec();
        let mut state = State::clone(&before);
        for envelope in &events {
            assert_eq!(check_step(&state, &envelope.event), None, "{said}");
            plfm_core::evolve::evolve(&mut state, envelope);
            assert_eq!(check(&state), [], "after {envelope:?} of {said}");
        }
        self.log.extend_from_slice(&events);
        self.sequencer.commit();
        Ok(events.len())
    }

    /// What no command says yet.
    pub fn happens(&mut self, event: Event) {
        let mut state = State::clone(self.sequencer.state());
        let (seq, at, request) = (state.seq.next(), self.facts.now, self.facts.ids().fresh());
        let envelope = Envelope { seq, at, org: None, actor: Actor::System, request, cause: None, event };
        plfm_core::evolve::evolve(&mut state, &envelope);
        assert_eq!(check(&state), [], "after {envelope:?}");
        self.log.push(envelope);
        self.sequencer = Sequencer::new(state);
    }

    /// The platform's own wishes, until it has none.
    pub fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let (commands, _) = reconcile(self.state(), &self.facts);
            let accepted: usize = commands.into_iter().map(|command| self.submit(command).unwrap_or(0)).sum();
            if accepted == 0 {
                return;
            }
        }
        panic!("reconcile does not come to rest: {:#?}", reconcile(self.state(), &self.facts).0);
    }

    /// A line of the script; then the platform has its say.
    pub fn follow(&mut self, line: &str) {
        self.report_only(line);
        self.beat();
        self.settle();
        // Ids made later are greater, so that names and ids have one order.
        self.facts.now = self.facts.now + Duration::from_millis(1);
    }

    /// A line of the script, and nobody takes notice yet.
    pub fn report_only(&mut self, line: &str) {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["node", name, ref rest @ ..] => self.joins(name, rest),
            ["deploy", tag, replicas, ref rest @ ..] => self.deploys(tag, replicas, rest),
            ["ready"] => self.report_all(InstancePhase::Ready, None),
            ["ready", which] => self.report(self.instance(which), InstancePhase::Ready, None),
            ["unready", which] => self.report(self.instance(which), InstancePhase::Unready, Some("healthcheck_failed")),
            ["fail", "all", reason] => self.report_all(InstancePhase::Failed, Some(reason)),
            ["fail", which, reason] => self.report(self.instance(which), InstancePhase::Failed, Some(reason)),
            ["prepare", which] => self.report(self.instance(which), InstancePhase::Preparing, None),
            ["leave"] => self.all_leave(),
            ["mute", name] => drop(self.mute.insert(self.node(name))),
            ["murmur", name] => self.facts.hear(self.node(name), Default::default()),
            ["hear", name] => self.is_back(name),
            ["pass", seconds] => self.facts.now = self.facts.now + Duration::from_secs(seconds.parse().unwrap()),
            ["writer"] => self.another_writer(),
            ["require", ref rest @ ..] => self.requires(rest),
            ["priority", app, class] => self.prioritizes(app, class),
            ["drain", name] => self.order(name, NodeOrder::Drain),
            ["disable", name] => self.order(name, NodeOrder::Disable),
            ["activate", name] => self.order(name, NodeOrder::Activate),
            ["decommission", name] => self.order(name, NodeOrder::Decommission),
            ["template", memory] => drop(self.submit(template("base", memory.parse().unwrap())).unwrap()),
            ["sandbox", seconds] => drop(self.submit(self.sandbox("base", seconds.parse().unwrap())).unwrap()),
            ["pause", which] => self.pauses(which).map(drop).unwrap(),
            ["resume", which, seconds] => self.resumes(which, seconds.parse().unwrap()).map(drop).unwrap(),
            ["timeout", which, seconds] => {
                let ends_at = self.facts.now + Duration::from_secs(seconds.parse().unwrap());
                let instance = self.instance(which);
                self.submit(Command::SetSandboxTimeout { instance, ends_at, at_least: false }).map(drop).unwrap();
            }
            ["fork", which, count] => self.forks(which, count.parse().unwrap()).map(drop).unwrap(),
            ["snapshot", which, name] => self.snapshots(which, Some(name)).map(drop).unwrap(),
            ["paused", which] => self.report(self.instance(which), InstancePhase::Paused, None),
            ["kill", which] => drop(self.submit(Command::KillSandbox { instance: self.instance(which) }).unwrap()),
            ["has", node, ref rest @ ..] => self.has(node, rest.first().into_iter().flat_map(|all| all.split('+'))),
            ["rollback"] => {
                let env = *self.state().envs.keys().next().unwrap();
                self.submit(Command::Rollback { env, release: None }).unwrap();
            }
            ["limit", dimension, limit] => self.limit(dimension, limit.parse().unwrap()),
            ["force"] => drop(self.submit(Command::ForceReschedule).unwrap()),
            _ => panic!("the script says `{line}`"),
        }
    }

    pub fn pauses(&mut self, which: &str) -> Result<usize, Refusal> {
        self.submit(Command::PauseSandbox { instance: self.instance(which), why: DesiredChange::Paused })
    }

    pub fn resumes(&mut self, which: &str, seconds: u64) -> Result<usize, Refusal> {
        let (instance, timeout) = (self.instance(which), Duration::from_secs(seconds));
        self.submit(Command::ResumeSandbox { instance, timeout })
    }

    /// Ids that are greater than those of what was there before.
    fn fresh(&self, number: usize) -> InstanceId {
        InstanceId::new(Ulid::from_parts(self.facts.now.0, (self.log.len() + number) as u128))
    }

    pub fn forks(&mut self, which: &str, count: usize) -> Result<usize, Refusal> {
        let (of, snapshot, timeout) = (self.instance(which), self.fresh(0), Duration::from_secs(3_600));
        let forks = (1..=count).map(|number| self.fresh(number)).collect();
        self.submit(Command::ForkSandbox(ForkSandbox { of, snapshot, forks, timeout }))
    }

    pub fn snapshots(&mut self, which: &str, name: Option<&str>) -> Result<usize, Refusal> {
        let (of, snapshot, name) = (self.instance(which), self.fresh(0), name.map(str::to_owned));
        self.submit(Command::SnapshotSandbox { snapshot, of, name })
    }

    /// The one that there is.
    pub fn snapshot(&self) -> InstanceId {
        self.state().index().snapshots().next().unwrap()
    }

    fn is_back(&mut self, name: &str) {
        let (node, now) = (self.node(name), self.facts.now);
        self.mute.remove(&node);
        let since = Timestamp(now.0 - BACK_AFTER.as_millis() as u64);
        self.facts.heard.insert(node, Contact { since, last: now, images: Default::default() });
    }

    pub fn beat(&mut self) {
        let heard = self.sequencer.tentative().nodes.keys().filter(|id| !self.mute.contains(id));
        let heard: Vec<_> = heard.copied().collect();
        heard.into_iter().for_each(|node| self.facts.hear(node, Default::default()));
    }

    fn order(&mut self, name: &str, order: NodeOrder) {
        self.submit(Command::OrderNode { node: self.node(name), order }).unwrap();
    }

    fn limit(&mut self, dimension: &str, limit: u64) {
        let dimension = *Dimension::ALL.iter().find(|it| it.code() == dimension).unwrap();
        let limits = [(dimension, Some(limit))].into();
        self.submit(Command::SetLimits { org: self.org(), limits }).unwrap();
    }

    fn requires(&mut self, rest: &[&str]) {
        let (constraints, org) = (zone(word(rest, "zone")), self.org());
        let app = rest.first().filter(|first| !first.contains('='));
        let env = app.map(|app| self.state().env_named(self.state().app_named(org, app).unwrap(), "dev").unwrap());
        let command = match env {
            Some(env) => Command::SetEnvConstraints { env, constraints },
            None => Command::SetOrgConstraints { org, constraints },
        };
        self.submit(command).unwrap();
    }

    fn prioritizes(&mut self, app: &str, class: &str) {
        let app = self.state().app_named(self.org(), app).unwrap();
        let env = self.state().env_named(app, "dev").unwrap();
        let class = Class::ALL.into_iter().find(|it| it.code() == class).unwrap();
        self.submit(Command::SetEnvClass { env, class }).unwrap();
    }

    fn another_writer(&mut self) {
        (self.facts.writer_since, self.facts.heard) = (self.facts.now, Default::default());
        self.submit(Command::StartWriter).unwrap();
    }

    fn joins(&mut self, name: &str, rest: &[&str]) {
        let capacity = Capacity {
            arch: word(rest, "arch").unwrap_or("amd64").to_owned(),
            labels: zone(word(rest, "zone")),
            ..capacity(number(rest, "memory", 1024), number(rest, "disk", 50) << 10)
        };
        self.joins_as(name, capacity);
    }

    pub fn joins_as(&mut self, name: &str, capacity: Capacity) {
        let token = format!("{name} {}", self.log.len());
        let (hash, expires_at) = (Digest::of(token.as_bytes()), self.facts.now + Duration::from_secs(60));
        self.submit(Command::CreateJoinToken { hash, expires_at }).unwrap();
        self.submit(Command::JoinNode { token: hash, name: name.to_owned(), capacity }).unwrap();
    }

    fn deploys(&mut self, tag: &str, replicas: &str, rest: &[&str]) {
        let replicas = replicas.trim_start_matches('x').parse().unwrap();
        let manifest = manifest(replicas, number(rest, "memory", 64), number(rest, "disk", 1));
        let mut command = deploy(tag, manifest);
        let Command::Deploy(wanted) = &mut command else { unreachable!("it is a deploy") };
        wanted.app = word(rest, "app").unwrap_or("shop").to_owned();
        let volumes = word(rest, "volume").into_iter().flat_map(|all| all.split('+'));
        volumes.for_each(|name| mount(&mut wanted.manifest, name, number(rest, "size", 1)));
        let grace = word(rest, "grace").map(|seconds| seconds.parse().unwrap());
        let graces = wanted.manifest.processes.values_mut().map(|process| &mut process.termination_grace_seconds);
        graces.for_each(|it| *it = grace.unwrap_or(*it));
        if let Some(name) = word(rest, "process") {
            let web = wanted.manifest.processes.remove("web").unwrap();
            wanted.manifest.processes.insert(name.to_owned(), web);
        }
        self.submit(command).unwrap();
    }

    fn report_all(&mut self, phase: InstancePhase, reason: Option<&str>) {
        let starts = |it: &plfm_core::state::Instance| it.desired == Desired::Running && it.status.phase != phase;
        let instances = self.state().instances.iter();
        let heard = instances.filter(|(_, it)| it.holds_resources() && starts(it) && !self.mute.contains(&it.node));
        let heard: Vec<_> = heard.map(|(id, _)| *id).collect();
        heard.into_iter().for_each(|id| self.report(id, phase, reason));
    }

    fn all_leave(&mut self) {
        let leaving = self.state().instances.iter().filter(|(_, it)| it.desired > Desired::Paused);
        let heard = leaving.filter(|(_, it)| it.holds_resources() && !self.mute.contains(&it.node));
        let heard: Vec<_> = heard.map(|(id, _)| *id).collect();
        heard.into_iter().for_each(|id| self.report(id, InstancePhase::Gone, None));
    }

    /// A failed instance has seen a boot, and every new try is another one.
    fn report(&mut self, id: InstanceId, phase: InstancePhase, reason: Option<&str>) {
        let known = &self.state().instances[&id];
        let boot = match phase {
            InstancePhase::Preparing => None,
            _ => known.status.boot.or(Some(BootId::new(Ulid::from_parts(self.facts.now.0, self.log.len() as u128)))),
        };
        let failure = reason.map(|reason| Failure::new(parse_reason(reason), "as told"));
        let status = InstanceStatus { phase, boot, failure, exit_code: None, restarts: 0, hello_ms: None, start: None };
        let node = known.node;
        self.submit(Command::Observe { node, capacity: None, instances: vec![(id, status)], volumes: None }).unwrap();
    }

    pub fn has<'a>(&mut self, node: &str, names: impl Iterator<Item = &'a str>) {
        let names: Vec<_> = names.collect();
        let there = self.state().volumes.iter().filter(|(_, it)| names.contains(&it.name.as_str()));
        let volumes = Some(there.map(|(id, _)| *id).collect());
        let node = self.node(node);
        self.submit(Command::Observe { node, capacity: None, instances: Vec::new(), volumes }).unwrap();
    }

    /// A new one each time.
    pub fn sandbox(&self, template: &str, seconds: u64) -> Command {
        Command::CreateSandbox(Box::new(CreateSandbox {
            instance: InstanceId::new(Ulid::from_parts(self.facts.now.0, self.log.len() as u128)),
            org: "default".to_owned(),
            project: "default".to_owned(),
            template: template.to_owned(),
            vars: None,
            metadata: Default::default(),
            class: Class::Normal,
            timeout: Duration::from_secs(seconds),
            on_timeout: OnTimeout::Kill,
        }))
    }

    /// The second, third … instance ever made.
    fn instance(&self, which: &str) -> InstanceId {
        let which: usize = which.parse().unwrap();
        self.by_age()[which - 1]
    }

    fn by_age(&self) -> Vec<InstanceId> {
        let allocated = |envelope: &Envelope| match &envelope.event {
            Event::InstanceAllocated(it) => Some(it.instance),
            Event::SandboxCreated(it) => Some(it.instance),
            Event::SnapshotCreated(it) => Some(it.snapshot),
            _ => None,
        };
        self.log.iter().filter_map(allocated).collect()
    }

    pub fn node(&self, name: &str) -> NodeId {
        self.state().node_named(name).unwrap_or_else(|| panic!("there is a node {name}"))
    }

    pub fn org(&self) -> OrgId {
        self.state().org_named("default").unwrap()
    }

    /// Instances by age, then the deploys, then what waits.
    pub fn picture(&self) -> String {
        let mut text = String::new();
        for (number, id) in self.by_age().iter().enumerate() {
            let Some(it) = self.state().instances.get(id) else { continue };
            let node = &self.state().nodes[&it.node].name;
            let wish = if it.desired == Desired::Running { String::new() } else { format!(", to be {}", it.desired) };
            let what = if it.snapshot().is_some() { "snapshot" } else { "sandbox" };
            let what = it.release().map_or(what, |release| self.tag(release));
            writeln!(text, "{} {what} {node} {}{wish}", number + 1, it.status.phase).unwrap();
        }
        for deploy in self.state().deploys.values() {
            let why = deploy.failure.as_ref().map(|failure| format!(", {failure}")).unwrap_or_default();
            writeln!(text, "deploy {} {}{why}", self.tag(deploy.release), deploy.status).unwrap();
        }
        for node in self.state().nodes.values().filter(|node| node.phase != NodePhase::Active) {
            writeln!(text, "node {} {}", node.name, node.phase).unwrap();
        }
        if self.state().rescheduling.frozen_since.is_some() {
            writeln!(text, "frozen").unwrap();
        }
        for volume in self.state().volumes.values() {
            let home = volume.home.map(|home| format!(" on {}", self.state().nodes[&home].name));
            writeln!(text, "volume {} {}{}", volume.name, volume.phase, home.unwrap_or_default()).unwrap();
        }
        for group in self.state().envs.values().flat_map(|env| env.groups.values()) {
            group.waiting.iter().for_each(|waiting| writeln!(text, "waits: {waiting}").unwrap());
        }
        text
    }

    fn tag(&self, release: plfm_core::ids::ReleaseId) -> &str {
        self.state().releases[&release].image.reference.rsplit(':').next().unwrap()
    }
}

pub fn bootstrap() -> Command {
    let prefix = "fd00:706c::".parse().unwrap();
    Command::Bootstrap { domain: "example.com".to_owned(), prefix, admin: Digest::of(b"admin") }
}

pub fn template(name: &str, memory: u64) -> Command {
    let size = Size { memory: Mebibytes(memory), cpu: MilliCpu(500), disk: Mebibytes(1_024) };
    let (org, name, startup) = ("default".to_owned(), name.to_owned(), Startup::default());
    Command::CreateTemplate(Box::new(CreateTemplate { org, name, image: image("base"), size, startup }))
}

pub fn capacity(memory: u64, disk: u64) -> Capacity {
    Capacity {
        arch: "amd64".to_owned(),
        isolation: Isolation::Vm,
        cpu: MilliCpu(4_000),
        memory: Mebibytes(memory),
        disk: Mebibytes(disk),
        overhead: Mebibytes(36),
        tunnel: "[fd00::1]:7443".to_owned(),
        degraded: Default::default(),
        labels: Default::default(),
    }
}

pub fn deploy(tag: &str, manifest: Manifest) -> Command {
    let (org, app, env) = ("default".to_owned(), "shop".to_owned(), "dev".to_owned());
    Command::Deploy(Box::new(Deploy {
        org,
        app,
        env,
        image: image(tag),
        manifest,
        vars: None,
        expose: Vec::new(),
        create_volumes: true,
    }))
}

pub fn deploy_as(app: &str, manifest: Manifest) -> Command {
    let (org, app, env) = ("default".to_owned(), app.to_owned(), "dev".to_owned());
    Command::Deploy(Box::new(Deploy {
        org,
        app,
        env,
        image: image("v1"),
        manifest,
        vars: None,
        expose: Vec::new(),
        create_volumes: true,
    }))
}

pub fn exposing(tag: &str, manifest: Manifest, expose: Vec<Expose>) -> Command {
    let (org, app, env) = ("default".to_owned(), "shop".to_owned(), "dev".to_owned());
    Command::Deploy(Box::new(Deploy {
        org,
        app,
        env,
        image: image(tag),
        manifest,
        vars: None,
        expose,
        create_volumes: true,
    }))
}

/// Every process type of it has a volume of this name.
pub fn mount(manifest: &mut Manifest, name: &str, gib: u64) {
    manifest.volumes.push(Volume { name: name.to_owned(), size: Mebibytes(gib << 10), backup_enabled: true });
    let mount = Mount { volume: name.to_owned(), path: "/data".to_owned(), read_only: false };
    manifest.processes.values_mut().for_each(|process| process.mounts.push(mount.clone()));
}

pub fn expose(process: &str, port: u16, entry: Entry) -> Expose {
    Expose { entry, process: process.to_owned(), port, tls: Tls::Terminated }
}

pub fn image(tag: &str) -> ReleaseImage {
    let digest = Digest::of(tag.as_bytes());
    let platforms = [("amd64".to_owned(), digest)].into();
    ReleaseImage { reference: format!("registry.example.com/shop:{tag}"), digest, platforms }
}

pub fn manifest(replicas: u32, memory: u64, disk: u64) -> Manifest {
    let most = replicas.max(1);
    let text = format!(
        "schema_version = \"v1\"\n[processes.web]\nresources = {{ memory = \"{memory}Mi\", disk = \"{disk}Gi\" }}\n\
         scaling = {{ min = {replicas}, max = {most} }}\nports = [{{ name = \"http\", internal = 8080 }}]\n"
    );
    Manifest::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

pub fn parse_reason(code: &str) -> Reason {
    *Reason::ALL.iter().find(|reason| reason.code() == code).unwrap_or_else(|| panic!("`{code}` is a reason"))
}

fn word<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn number(words: &[&str], key: &str, default: u64) -> u64 {
    word(words, key).map_or(default, |word| word.parse().unwrap())
}

/// The only label of scripts.
pub fn zone(zone: Option<&str>) -> Labels {
    Labels(zone.into_iter().map(|zone| ("zone".to_owned(), zone.to_owned())).collect())
}
