use std::net::Ipv6Addr;
use std::time::Duration;

use expect_test::{Expect, expect};
use ulid::Ulid;

use super::*;
use crate::command::{Command, Deploy};
use crate::decide::decide;
use crate::digest::Digest;
use crate::event::{Actor, Capacity, Envelope, Event, InstanceStatus, Isolation, ReleaseImage};
use crate::evolve::evolve;
use crate::fair::Class;
use crate::manifest::Manifest;
use crate::reason::{Failure, Reason};
use crate::reconcile::reconcile;
use crate::units::{Mebibytes, MilliCpu, Seq, Timestamp};

/// A cluster that is driven by commands, as a server would.
struct World {
    state: State,
    facts: Facts,
    closed: ClosedPorts,
}

impl World {
    fn new() -> Self {
        let facts = Facts { now: Timestamp(1_000_000), ..Facts::default() };
        let mut world = Self { state: State::default(), facts, closed: ClosedPorts::new() };
        let prefix = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0);
        world.command(Command::Bootstrap { domain: "plfm.localhost".to_owned(), prefix, admin: Digest::of(b"admin") });
        world
    }

    fn command(&mut self, command: Command) {
        self.facts.entropy += 1;
        for event in decide(&self.state, command, &self.facts).expect("the command is sound") {
            let envelope = envelope(self.state.seq.next(), self.facts.now, event);
            evolve(&mut self.state, &envelope);
        }
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            let (commands, _) = reconcile(&self.state, &self.facts);
            if commands.is_empty() {
                return;
            }
            commands.into_iter().for_each(|command| self.command(command));
        }
        panic!("reconcile does not come to rest");
    }

    fn join(mut self, name: &str, arch: &str, memory: u64) -> Self {
        let hash = Digest::of(name.as_bytes());
        self.command(Command::CreateJoinToken { hash, expires_at: self.facts.now + Duration::from_secs(60) });
        self.command(Command::JoinNode { token: hash, name: name.to_owned(), capacity: capacity(arch, memory) });
        let node = self.state.node_named(name).expect("it has joined");
        self.facts.hear(node, Default::default());
        self
    }

    fn deploy(self, count: u32) -> Self {
        self.deploy_app("shop", count)
    }

    fn deploy_app(mut self, app: &str, count: u32) -> Self {
        let manifest = format!(
            "schema_version = \"v1\"\n[processes.web]\nresources.memory = \"256Mi\"\nscaling.min = {count}\nscaling.max = 9\n"
        );
        let digest = Digest::of(b"image");
        self.command(Command::Deploy(Box::new(Deploy {
            org: "default".to_owned(),
            app: app.to_owned(),
            env: "dev".to_owned(),
            image: ReleaseImage {
                reference: "shop:1".to_owned(),
                digest,
                platforms: [("amd64".to_owned(), digest)].into(),
            },
            manifest: Manifest::parse(manifest.as_bytes()).expect("the manifest is sound"),
            vars: None,
            expose: Vec::new(),
            create_volumes: true,
        })));
        self.settle();
        self
    }

    /// What the node says of the first instance.
    fn report(mut self, phase: InstancePhase, failure: Option<Failure>, restarts: u32) -> Self {
        let (id, instance) = self.state.instances.iter().next().expect("an instance is placed");
        let boot = Some(BootId::new(Ulid::from_parts(1, u128::from(restarts))));
        let exit_code = failure.as_ref().filter(|it| it.reason == Reason::WorkloadExited).map(|_| 1);
        let status = InstanceStatus { phase, boot, failure, exit_code, restarts, hello_ms: Some(5), start: None };
        let command =
            Command::Observe { node: instance.node, capacity: None, instances: vec![(*id, status)], volumes: None };
        self.command(command);
        self.settle();
        self
    }

    fn later(mut self, wait: Duration) -> Self {
        self.facts.now = self.facts.now + wait;
        self
    }

    fn check_env(&self, expected: Expect) {
        let (id, _) = self.state.envs.iter().next().expect("it is deployed");
        expected.assert_eq(&text(&env(&self.state, &self.facts, &self.closed, *id).expect("the env is there")));
    }

    /// The first that has joined.
    fn check_node(&self, expected: Expect) {
        let (id, _) = self.state.nodes.iter().next().expect("a node has joined");
        expected.assert_eq(&text(&node(&self.state, &self.facts, *id).expect("the node is there")));
    }

    fn check_instance(&self, expected: Expect) {
        let (id, _) = self.state.instances.iter().next().expect("an instance is placed");
        expected.assert_eq(&text(&instance(&self.state, &self.facts, *id).expect("the instance is there")));
    }
}

fn envelope(seq: Seq, at: Timestamp, event: Event) -> Envelope {
    let request = RequestId::new(Ulid::from_parts(1, 1));
    Envelope { seq, at, org: None, actor: Actor::System, request, cause: None, event }
}

fn capacity(arch: &str, memory: u64) -> Capacity {
    Capacity {
        arch: arch.to_owned(),
        isolation: Isolation::Emulated,
        cpu: MilliCpu(2000),
        memory: Mebibytes(memory),
        disk: Mebibytes(100_000),
        overhead: Mebibytes(50),
        tunnel: "127.0.0.1:1".to_owned(),
        degraded: Default::default(),
        labels: Default::default(),
    }
}

/// Ids without their numbers, so that a change of how they are drawn changes nothing here.
fn text(explanation: &Explanation) -> String {
    let lines = explanation.findings.iter().map(|it| format!("- {}\n  {}\n  {}\n", it.what, it.why, it.next));
    let text = format!("{}: {}\n{}", explanation.subject, explanation.answer, lines.collect::<String>());
    let words = text.split_inclusive([' ', '\n', ':', '`']).map(|word| match word.split_once('_') {
        Some((kind @ ("inst" | "dep"), rest)) => format!("{kind}_…{}", &rest[26..]),
        _ => word.to_owned(),
    });
    words.collect()
}

fn failed(reason: Reason, detail: &str) -> Option<Failure> {
    Some(Failure::new(reason, detail))
}

#[test]
fn without_a_node() {
    World::new().deploy(1).check_env(expect![[r#"
        shop in dev: shop in dev is not as it should be: web 0 of 1 ready
        - web waits for a place
          no node takes new work
          join a node: `plfm node token` prints the command
    "#]]);
}

#[test]
fn on_a_full_disk() {
    let mut world = World::new().join("a", "amd64", 4000);
    let node = world.state.node_named("a").expect("it has joined");
    let degraded = [crate::event::Degradation::DiskPressure].into();
    let full = Capacity { degraded, ..capacity("amd64", 4000) };
    world.command(Command::Observe { node, capacity: Some(full), instances: Vec::new(), volumes: None });
    world.deploy(1).check_env(expect![[r#"
        shop in dev: shop in dev is not as it should be: web 0 of 1 ready
        - web waits for a place
          no node takes new work; of 1 nodes 1 disk_pressure; nearest: a has a disk that is nearly full
          mend a node that is degraded (`plfm node explain`), or add a node: `plfm node token` prints the command
    "#]]);
}

#[test]
fn what_runs_on_a_disk_that_is_nearly_full() {
    let mut world = World::new().join("a", "amd64", 4000).deploy(1).report(InstancePhase::Ready, None, 0);
    let node = world.state.node_named("a").expect("it has joined");
    let degraded = [crate::event::Degradation::DiskPressure].into();
    let full = Capacity { degraded, ..capacity("amd64", 4000) };
    world.command(Command::Observe { node, capacity: Some(full), instances: Vec::new(), volumes: None });
    world.check_env(expect![[r#"
        shop in dev: shop in dev is not as it should be: web 1 of 1 ready
        - a is degraded
          its disk is nearly full: it takes no new work, and what runs there may fail to write
          make room on its disk
    "#]]);
    world.command(Command::OrderNode { node, order: crate::command::NodeOrder::Tolerate });
    let said = super::node(&world.state, &world.facts, node).expect("it is known");
    expect!["a takes work, and holds 1 instance"].assert_eq(&said.answer);
    expect!["its disk is nearly full: an operator lets it take new work, and what runs there may fail to write"]
        .assert_eq(&said.findings[0].why);
}

#[test]
fn a_port_of_the_edge_is_not_open() {
    let mut world = World::new().join("a", "amd64", 4000).deploy(1).report(InstancePhase::Ready, None, 0);
    let (env, org, app) = world.state.envs.iter().map(|(id, env)| (*id, env.org, env.app)).next().expect("it is there");
    let route = RouteId::new(Ulid::from_parts(1, 1));
    let event = Event::RouteCreated { route, org, app, env, entry: Entry::TcpPort(9000) };
    let envelope = envelope(world.state.seq.next(), world.facts.now, event);
    evolve(&mut world.state, &envelope);
    world.closed = [(9000, "Address already in use".to_owned()), (9001, "of another env".to_owned())].into();
    world.check_env(expect![[r#"
        shop in dev: shop in dev is not as it should be: web 1 of 1 ready
        - port 9000 of the edge is not open
          Address already in use
          make the port free for the edge, or take it away with `plfm unexpose 9000 --app shop --env dev`
    "#]]);
}

#[test]
fn without_memory() {
    World::new().join("a", "amd64", 400).deploy(2).check_env(expect![[r#"
        shop in dev: shop in dev is not as it should be: web 0 of 2 ready
        - web waits for a place
          no node has 306 MiB of memory free (the most is 94 MiB)
          lower `resources.memory`, or add a node: `plfm node token` prints the command
        - inst_… is placed on a
          the node has not taken it up yet
          wait, or look at `plfm logs --console --instance inst_…`
    "#]]);
}

#[test]
fn who_waits_knows_his_turn() {
    let mut world = World::new().join("a", "amd64", 400).deploy(2);
    world.facts.now = world.facts.now + Duration::from_secs(5);
    let world = world.deploy_app("blog", 1);
    let blog = world.state.apps.iter().find(|(_, app)| app.name == "blog").map(|(id, _)| *id).expect("it is there");
    let env = world.state.env_named(blog, "dev").expect("it is there");
    let explanation = super::env(&world.state, &world.facts, &world.closed, env).expect("it is known");
    expect!["no node has 306 MiB of memory free (the most is 94 MiB); it is about 2 of 2 in line (the share of its org, by weight, is 0.77, of its project 0.77)"]
        .assert_eq(&explanation.findings[0].why);
}

#[test]
fn a_node_that_is_to_be_empty() {
    let mut world = World::new().join("a", "amd64", 1000).deploy(2);
    let image = world.state.releases.values().next().expect("it is deployed").image.clone();
    let size = crate::manifest::Resources { cpu: MilliCpu(500), memory: Mebibytes(128), disk: Mebibytes(256) };
    let (org, name) = ("default".to_owned(), "base".to_owned());
    let startup = Default::default();
    let wanted = crate::command::CreateTemplate { org: org.clone(), name: name.clone(), image, size, startup };
    world.command(Command::CreateTemplate(Box::new(wanted)));
    world.command(Command::CreateSandbox(Box::new(crate::command::CreateSandbox {
        instance: InstanceId::new(Ulid::from_parts(2, 2)),
        org,
        project: "default".to_owned(),
        template: name,
        vars: None,
        metadata: Default::default(),
        class: Class::Normal,
        timeout: Duration::from_secs(300),
        on_timeout: Default::default(),
    })));
    world.check_node(expect![[r#"
        a: a takes work, and holds 3 instances
    "#]]);
    let node = world.state.node_named("a").expect("it has joined");
    world.command(Command::OrderNode { node, order: crate::command::NodeOrder::Drain });
    world.settle();
    world.check_node(expect![[r#"
        a: a is draining: 3 instances to go
        - inst_… is still here, a sandbox of base
          nothing can take its place; it ends at 1970-01-01T00:26:40.000Z at the latest
          wait, or end it now: `plfm sandbox kill inst_…`
        - inst_… is still here, web of shop in dev
          the one in its place waits: no node takes new work
          add a node: `plfm node token` prints the command; or let one take work again: `plfm node activate a`
        - inst_… is still here, web of shop in dev
          the one in its place waits: no node takes new work
          add a node: `plfm node token` prints the command; or let one take work again: `plfm node activate a`
    "#]]);
    let mut disabled = World { state: world.state.clone(), facts: world.facts.clone(), closed: ClosedPorts::new() };
    disabled.command(Command::OrderNode { node, order: crate::command::NodeOrder::Disable });
    disabled.check_node(expect![[r#"
        a: a is disabled: 3 instances to go
        - inst_… is still here, a sandbox of base
          nothing can take its place; it ends at 1970-01-01T00:17:40.000Z at the latest
          wait, or end it now: `plfm sandbox kill inst_…`
        - inst_… is still here, web of shop in dev
          the one in its place waits: no node takes new work
          add a node: `plfm node token` prints the command; or let one take work again: `plfm node activate a`
        - inst_… is still here, web of shop in dev
          the one in its place waits: no node takes new work
          add a node: `plfm node token` prints the command; or let one take work again: `plfm node activate a`
    "#]]);
    world.facts.now = world.facts.now + INELIGIBLE_AFTER;
    world.check_node(expect![[r#"
        a: a is draining: 3 instances to go
        - a is not heard
          its last sign of life is 30 s ago
          look at its host: whether it runs, whether it reaches the server
        - inst_… is still here, a sandbox of base
          nothing can take its place; it ends at 1970-01-01T00:26:40.000Z at the latest
          wait, or end it now: `plfm sandbox kill inst_…`
        - inst_… is still here, web of shop in dev
          the one in its place waits: no node takes new work
          add a node: `plfm node token` prints the command; or let one take work again: `plfm node activate a`
        - inst_… is still here, web of shop in dev
          the one in its place waits: no node takes new work
          add a node: `plfm node token` prints the command; or let one take work again: `plfm node activate a`
    "#]]);
}

#[test]
fn each_node_says_why_not() {
    let world = World::new().join("a", "amd64", 400).join("b", "arm64", 4000).join("c", "amd64", 200).deploy(2);
    world.check_env(expect![[r#"
        shop in dev: shop in dev is not as it should be: web 0 of 2 ready
        - web waits for a place
          no node has 306 MiB of memory free (the most is 200 MiB); of 3 nodes 2 memory, 1 platform; nearest: c lacks 106 MiB of memory
          lower `resources.memory`, or add a node: `plfm node token` prints the command
        - inst_… is placed on a
          the node has not taken it up yet
          wait, or look at `plfm logs --console --instance inst_…`
    "#]]);
}

#[test]
fn without_the_right_machine() {
    World::new().join("a", "arm64", 4000).deploy(1).check_env(expect![[r#"
        shop in dev: shop in dev is not as it should be: web 0 of 1 ready
        - dep_… has failed: it tries one instance every few minutes
          image_platform_unavailable: the image is made for amd64, the nodes are arm64
          build the image for the architecture of a node (see `plfm nodes`); then `plfm deploy`
    "#]]);
}

#[test]
fn all_well() {
    let world = World::new().join("a", "amd64", 4000).deploy(1).report(InstancePhase::Ready, None, 0);
    world.check_env(expect![[r#"
        shop in dev: shop in dev is as it should be: web 1 of 1 ready
    "#]]);
    world.check_instance(expect![[r#"
        inst_…: ready on a
    "#]]);
}

#[test]
fn on_its_way() {
    let world = World::new().join("a", "amd64", 4000).deploy(1);
    world.check_env(expect![[r#"
        shop in dev: shop in dev is not as it should be: web 0 of 1 ready
        - inst_… is placed on a
          the node has not taken it up yet
          wait, or look at `plfm logs --console --instance inst_…`
    "#]]);
    world.report(InstancePhase::Booting, None, 0).check_instance(expect![[r#"
        inst_…: booting on a
        - inst_… boots on a
          its process has not answered yet
          wait, or look at `plfm logs --console --instance inst_…`
    "#]]);
}

#[test]
fn the_image_is_missing() {
    let failure = failed(Reason::ImagePullFailed, "the registry knows no shop:1");
    let world = World::new().join("a", "amd64", 4000).deploy(1).report(InstancePhase::Failed, failure, 0);
    world.check_instance(expect![[r#"
        inst_…: failed on a
        - inst_… has failed on a
          image_pull_failed: the registry knows no shop:1
          check the reference, and that the registry holds the image as it was pushed
    "#]]);
}

#[test]
fn it_keeps_ending() {
    let failure = || failed(Reason::WorkloadExited, "it ended");
    let mut world = World::new().join("a", "amd64", 4000).deploy(1).report(InstancePhase::Ready, None, 0);
    for restart in 1..4 {
        world = world.report(InstancePhase::Failed, failure(), restart);
    }
    world.check_env(expect![[r#"
        shop in dev: shop in dev is not as it should be: web 0 of 1 ready
        - inst_… keeps ending on a
          workload_exited: it ended, exit code 1, restarted 3 times
          see `plfm logs`: the process ended
    "#]]);
}

#[test]
fn a_deploy_that_has_failed() {
    let failure = failed(Reason::WorkloadStartFailed, "no such file: /bin/shop");
    let world = World::new().join("a", "amd64", 4000).deploy(1).report(InstancePhase::Failed, failure, 0);
    world.check_env(expect![[r#"
        shop in dev: shop in dev is not as it should be: web 0 of 1 ready
        - dep_… has failed: it tries one instance every few minutes
          workload_start_failed: no such file: /bin/shop
          check `command`, `workdir` and `user` against what the image holds; then `plfm deploy`
    "#]]);
    world.check_instance(expect![[r#"
        inst_…: failed on a, and should be stopped
        - inst_… is not wanted any more
          it was told to stop; before, workload_start_failed: no such file: /bin/shop
          see what is wanted with `plfm status`
    "#]]);
}

#[test]
fn unhealthy() {
    let failure = failed(Reason::HealthcheckFailed, "3 checks failed");
    let world = World::new().join("a", "amd64", 4000).deploy(1).report(InstancePhase::Ready, None, 0);
    world.report(InstancePhase::Unready, failure, 0).check_env(expect![[r#"
        shop in dev: shop in dev is not as it should be: web 0 of 1 ready
        - inst_… does not answer on a
          healthcheck_failed: 3 checks failed
          see `plfm logs`: the process does not answer well on the port in the manifest
    "#]]);
}

#[test]
fn the_node_is_silent() {
    let world = World::new().join("a", "amd64", 4000).deploy(1).report(InstancePhase::Ready, None, 0);
    world.later(Duration::from_secs(45)).check_env(expect![[r#"
        shop in dev: shop in dev is not as it should be: web 1 of 1 ready
        - inst_… was ready when a was last heard
          a has been silent for 45 s
          look at the host of a; `plfm nodes` shows when it is back
    "#]]);
}

#[test]
fn a_rollout_says_what_its_next_step_waits_for() {
    let two = World::new().join("node-a", "amd64", 2_000).deploy(1).report(InstancePhase::Ready, None, 0).deploy(2);
    two.check_env(expect![[r#"
        shop in dev: shop in dev is not as it should be: web 1 of 2 ready
        - web is being replaced: 0 of 2 are new, old ones left: 1
          inst_… is allocated on node-a; the next old one leaves when it is ready, so that never fewer than 2 are
          wait, or go back with `plfm deploy` of what was before
        - inst_… is placed on node-a
          the node has not taken it up yet
          wait, or look at `plfm logs --console --instance inst_…`
        - inst_… is placed on node-a
          the node has not taken it up yet
          wait, or look at `plfm logs --console --instance inst_…`
    "#]]);
}

#[test]
fn what_a_finding_is_about_has_a_code() {
    let failure = Failure::new(Reason::WorkloadExited, "status 1");
    let world = World::new().join("node-a", "amd64", 2_000).deploy(1).report(InstancePhase::Failed, Some(failure), 1);
    let waits = World::new().join("node-a", "amd64", 200).deploy(1);
    let codes = |world: &World| {
        let (id, _) = world.state.envs.iter().next().expect("it is deployed");
        let explained = env(&world.state, &world.facts, &world.closed, *id).expect("the env is there");
        explained.findings.iter().map(|it| it.code).collect::<Vec<_>>()
    };
    assert_eq!((codes(&world), codes(&waits)), (vec!["workload_exited"], vec!["no_capacity_memory"]));
}

#[test]
fn every_node_says_what_it_thinks_of_one_more() {
    let world = World::new().join("node-a", "arm64", 2_000).join("node-b", "amd64", 200).join("node-c", "amd64", 900);
    let world = world.deploy(2);
    let (id, _) = world.state.instances.iter().next().expect("an instance is placed");
    let explained = instance(&world.state, &world.facts, *id).expect("the instance is there");
    let said: String = explained.places[0].nodes.iter().map(|(_, verdict)| format!("{verdict}\n")).collect();
    expect![[r#"
        lacks 18 MiB of memory
        is of another architecture than the image
        lacks 106 MiB of memory
    "#]]
    .assert_eq(&said);
}
