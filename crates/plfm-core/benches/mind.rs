//! How fast the platform thinks: one JSON line for each set of samples.

use std::time::Instant;

use plfm_core::command::{Command, Deploy};
use plfm_core::decide::decide;
use plfm_core::digest::Digest;
use plfm_core::event::{Actor, Capacity, Envelope, InstanceStatus, Isolation, ReleaseImage};
use plfm_core::evolve::evolve;
use plfm_core::facts::Facts;
use plfm_core::fair::Class;
use plfm_core::ids::{BootId, RequestId};
use plfm_core::manifest::Manifest;
use plfm_core::phase::InstancePhase;
use plfm_core::place::{Wanted, place};
use plfm_core::quota::Dimension;
use plfm_core::reconcile::reconcile;
use plfm_core::state::State;
use plfm_core::units::{Mebibytes, MilliCpu, Timestamp};
use ulid::Ulid;

type Row<'a> = (&'a str, &'a dyn Fn(&str));

fn main() {
    // What cargo passes on is for harnesses.
    let filter = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    let rows: [Row<'_>; 5] = [
        ("placement.100x50", &|name| placement(name, World::of(100, 1, 50), 30)),
        ("placement.10000x1000", &|name| placement(name, World::of(1_000, 10, 1_000), 10)),
        ("placement.100000x5000", &|name| placement(name, World::of(10_000, 10, 5_000), 3)),
        ("decide.rate", &decide_rate),
        ("reconcile.idle10000", &reconcile_idle),
    ];
    rows.iter().filter(|(name, _)| name.contains(&filter)).for_each(|(name, run)| run(name));
}

fn placement(name: &str, world: World, rounds: usize) {
    let wanted = world.wanted();
    let instances: u32 = wanted.iter().map(|want| want.count).sum();
    let samples = (0..rounds).map(|_| {
        let begun = Instant::now();
        let placement = place(&world.state, &world.facts, &wanted);
        let took = begun.elapsed().as_secs_f64() * 1e3;
        assert_eq!(placement.choices.len(), instances as usize, "all have a place");
        took
    });
    print(name, "ms", "lower", samples);
}

/// Commands decided and folded, one after another: what a busy fleet says most, a phase of an instance.
fn decide_rate(name: &str) {
    let mut world = World::of(1_000, 10, 1_000);
    world.start_all();
    let instances: Vec<_> = world.state.instances.iter().map(|(id, it)| (*id, it.node)).collect();
    let samples = (0..10).map(|round| {
        let begun = Instant::now();
        for (id, node) in &instances {
            let phase = if round % 2 == 0 { InstancePhase::Unready } else { InstancePhase::Ready };
            world.command(Command::Observe {
                node: *node,
                capacity: None,
                instances: vec![(*id, status(phase))],
                volumes: None,
            });
        }
        instances.len() as f64 / begun.elapsed().as_secs_f64()
    });
    print(name, "/s", "higher", samples.collect::<Vec<_>>().into_iter());
}

fn reconcile_idle(name: &str) {
    let mut world = World::of(1_000, 10, 1_000);
    world.start_all();
    let samples = (0..30).map(|_| {
        let begun = Instant::now();
        let (commands, _) = reconcile(&world.state, &world.facts);
        let took = begun.elapsed().as_secs_f64() * 1e3;
        assert_eq!(commands, [], "nothing is left to do");
        took
    });
    print(name, "ms", "lower", samples);
}

fn print(name: &str, unit: &str, better: &str, samples: impl Iterator<Item = f64>) {
    let samples: Vec<_> = samples.map(|sample| (sample * 1e4).round() / 1e4).collect();
    println!("{{\"name\":\"{name}\",\"unit\":\"{unit}\",\"better\":\"{better}\",\"samples\":{samples:?}}}");
}

/// So many groups on so many nodes, and nothing placed yet.
struct World {
    state: State,
    facts: Facts,
}

impl World {
    fn of(groups: u32, replicas: u32, nodes: u32) -> Self {
        let facts = Facts { now: Timestamp(1_767_225_600_000), ..Facts::default() };
        let mut world = Self { state: State::default(), facts };
        let prefix = "fd00:706c::".parse().expect("it is an address");
        world.command(Command::Bootstrap { domain: "example.com".to_owned(), prefix, admin: Digest::of(b"admin") });
        let org = world.state.org_named("default").expect("it is there from the beginning");
        let limits = Dimension::ALL.iter().map(|dimension| (*dimension, Some(u64::MAX))).collect();
        world.command(Command::SetLimits { org, limits });
        (0..nodes).for_each(|number| world.join(number));
        (0..groups).for_each(|number| world.deploy(number, replicas));
        world
    }

    fn command(&mut self, command: Command) {
        self.facts.entropy += 1;
        let events = decide(&self.state, command, &self.facts).expect("the command is sound");
        for event in events {
            let (seq, at, request) = (self.state.seq.next(), self.facts.now, RequestId::new(Ulid::nil()));
            let envelope = Envelope { seq, at, org: None, actor: Actor::System, request, cause: None, event };
            evolve(&mut self.state, &envelope);
        }
    }

    fn join(&mut self, number: u32) {
        let (name, expires_at) = (format!("node-{number}"), Timestamp(u64::MAX));
        let token = Digest::of(name.as_bytes());
        self.command(Command::CreateJoinToken { hash: token, expires_at });
        self.command(Command::JoinNode { token, name: name.clone(), capacity: capacity(number) });
        let node = *self.state.nodes.keys().next_back().expect("it has joined");
        let node = self.state.nodes.iter().find(|(_, it)| it.name == name).map_or(node, |(id, _)| *id);
        self.facts.hear(node, Default::default());
    }

    fn deploy(&mut self, number: u32, replicas: u32) {
        let manifest = format!(
            "schema_version = \"v1\"\n[processes.web]\nresources = {{ memory = \"{}Mi\", cpu = 0.5 }}\n\
             scaling = {{ min = {replicas}, max = {replicas} }}\n",
            128 << (number % 3),
        );
        let manifest = Manifest::parse(manifest.as_bytes()).expect("the manifest is sound");
        let (org, app, env) = ("default".to_owned(), format!("app-{number}"), "dev".to_owned());
        self.command(Command::Deploy(Box::new(Deploy {
            org,
            app,
            env,
            image: image(),
            manifest,
            vars: None,
            expose: Vec::new(),
            create_volumes: true,
        })));
    }

    fn wanted(&self) -> Vec<Wanted> {
        let groups = self.state.envs.iter().flat_map(|(env, it)| it.groups.iter().map(move |group| (*env, group)));
        let wanted = groups.map(|(env, (process, group))| {
            let count = self.state.process(group.release, process).map_or(0, |process| process.scaling.min);
            let (class, since) = (Class::Normal, None);
            Wanted { env, process: process.clone(), release: group.release, count, class, since }
        });
        wanted.collect()
    }

    /// Until the platform has nothing left to do.
    fn start_all(&mut self) {
        loop {
            let (commands, _) = reconcile(&self.state, &self.facts);
            if commands.is_empty() {
                return;
            }
            commands.into_iter().for_each(|command| self.command(command));
            let new = self.state.instances.iter().filter(|(_, it)| it.status.phase == InstancePhase::Allocated);
            let new: Vec<_> = new.map(|(id, it)| (*id, it.node)).collect();
            for (id, node) in new {
                let instances = vec![(id, status(InstancePhase::Ready))];
                self.command(Command::Observe { node, capacity: None, instances, volumes: None });
            }
        }
    }
}

fn status(phase: InstancePhase) -> InstanceStatus {
    use plfm_core::reason::{Failure, Reason};
    let failure = (phase == InstancePhase::Unready).then(|| Failure::new(Reason::HealthcheckFailed, "no answer"));
    let boot = Some(BootId::new(Ulid::nil()));
    InstanceStatus { phase, boot, failure, exit_code: None, restarts: 0, hello_ms: None, start: None }
}

fn capacity(number: u32) -> Capacity {
    Capacity {
        arch: "amd64".to_owned(),
        isolation: Isolation::Vm,
        cpu: MilliCpu(16_000 << (number % 3)),
        memory: Mebibytes(65_536 << (number % 2)),
        disk: Mebibytes(4 << 20),
        overhead: Mebibytes(64),
        tunnel: "[fd00::1]:7443".to_owned(),
        degraded: Default::default(),
        labels: Default::default(),
    }
}

fn image() -> ReleaseImage {
    let digest = Digest::of(b"image");
    ReleaseImage {
        reference: "registry.example.com/app:v1".to_owned(),
        digest,
        platforms: [("amd64".to_owned(), digest)].into(),
    }
}
