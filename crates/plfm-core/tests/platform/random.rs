//! Any commands in any order, from people, nodes and the platform itself, sound or not: the invariants hold, nothing panics, the log
//! replays to the same state, and the platform comes to rest.

use std::time::Duration;

use plfm_core::command::{Command, CreateSandbox, Deploy, Expose, ForkSandbox, NodeOrder};
use plfm_core::digest::Digest;
use plfm_core::event::{Capacity, DesiredChange, Entry, Envelope, InstanceStatus, Scope, Tls, Waiting};
use plfm_core::evolve::evolve;
use plfm_core::facts::Facts;
use plfm_core::fair::Class;
use plfm_core::ids::{BootId, InstanceId};
use plfm_core::labels::Labels;
use plfm_core::phase::{DeployStatus, Desired, InstancePhase, NodePhase};
use plfm_core::quota::Dimension;
use plfm_core::reason::{Failure, Reason};
use plfm_core::reconcile::reconcile;
use plfm_core::state::State;
use plfm_core::units::{Mebibytes, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use ulid::Ulid;

use crate::fleet::{Fleet, bootstrap, capacity, image, manifest, mount, template};

/// A step of a sequence. Ids are chosen among those that exist when it is its turn, or are of nobody.
#[derive(Debug, Clone)]
enum Step {
    Given(Command),
    Observe {
        node: Which,
        capacity: Option<Capacity>,
        lines: Vec<(Which, InstanceStatus)>,
        volumes: Option<Vec<Which>>,
    },
    Phase(Which, NodePhase),
    Order(Which, NodeOrder),
    /// Of an env, or of the org; in one zone or anywhere.
    Constrain(Option<Which>, Option<&'static str>),
    Revoke(Which),
    DeleteVolume(Which),
    Force,
    Freeze(bool),
    Limit(Dimension, u64),
    Weights(Which, u32),
    Rollback(Which, Option<Which>),
    Allocate {
        env: Which,
        process: &'static str,
        release: Which,
        node: Which,
    },
    Waiting(Which, Option<Waiting>),
    Desired(Which, Desired),
    Status(Which, DeployStatus),
    Forget(Which),
    Unroute(Which),
    Pass(u64),
    Hear(Which),
    Writer,
    Reconcile,
}

const ORDERS: &[NodeOrder] = &[
    NodeOrder::Drain,
    NodeOrder::Disable,
    NodeOrder::Activate,
    NodeOrder::Decommission,
    NodeOrder::Tolerate,
    NodeOrder::Distrust,
];

/// One that exists, or none.
#[derive(Debug, Clone)]
struct Which(Option<Index>);

impl Which {
    fn of<I: Copy + From<Ulid>>(&self, known: impl Iterator<Item = I>) -> I {
        let known: Vec<_> = known.collect();
        let chosen = self.0.as_ref().filter(|_| !known.is_empty());
        chosen.map_or_else(|| Ulid::nil().into(), |index| *index.get(&known))
    }
}

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![9 => any::<Index>().prop_map(|index| Which(Some(index))), 1 => Just(Which(None))]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..60)
}

fn step() -> impl Strategy<Value = Step> {
    let phase = select(NodePhase::ALL);
    prop_oneof![
        6 => given().prop_map(Step::Given),
        10 => (which(), proptest::option::weighted(0.2, claimed()), vec((which(), status()), 0..5), proptest::option::of(vec(which(), 0..3)))
            .prop_map(|(node, capacity, lines, volumes)| Step::Observe { node, capacity, lines, volumes }),
        1 => (which(), phase).prop_map(|(node, phase)| Step::Phase(node, phase)),
        2 => (which(), select(ORDERS)).prop_map(|(node, order)| Step::Order(node, order)),
        1 => (proptest::option::of(which()), proptest::option::of(select(vec!["a", "b"]))).prop_map(|(env, zone)| Step::Constrain(env, zone)),
        1 => which().prop_map(Step::Revoke),
        1 => which().prop_map(Step::DeleteVolume),
        1 => prop_oneof![Just(Step::Force), any::<bool>().prop_map(Step::Freeze)],
        1 => (select(Dimension::ALL), 0..6u64).prop_map(|(dimension, limit)| Step::Limit(dimension, limit << (limit * 3))),
        1 => (which(), 0..5u32).prop_map(|(project, weight)| Step::Weights(project, weight)),
        1 => (which(), proptest::option::of(which())).prop_map(|(env, release)| Step::Rollback(env, release)),
        2 => (which(), select(vec!["web", "worker"]), which(), which())
            .prop_map(|(env, process, release, node)| Step::Allocate { env, process, release, node }),
        1 => (which(), proptest::option::of(Just(Waiting::NoNodesActive))).prop_map(|(env, why)| Step::Waiting(env, why)),
        2 => (which(), select(Desired::ALL)).prop_map(|(instance, desired)| Step::Desired(instance, desired)),
        1 => (which(), select(DeployStatus::ALL)).prop_map(|(deploy, status)| Step::Status(deploy, status)),
        1 => which().prop_map(Step::Forget),
        1 => which().prop_map(Step::Unroute),
        3 => (0..100u64).prop_map(Step::Pass),
        3 => which().prop_map(Step::Hear),
        1 => Just(Step::Writer),
        6 => Just(Step::Reconcile),
    ]
}

fn given() -> impl Strategy<Value = Command> {
    let token = select(vec!["a", "b", "c", "d"]);
    prop_oneof![
        1 => Just(bootstrap()),
        1 => Just(Command::CreateToken { org: None, hash: Digest::of(b"reader"), scopes: vec![Scope::AppsRead] }),
        4 => (token.clone(), 0..300u64).prop_map(|(token, seconds)| Command::CreateJoinToken {
            hash: Digest::of(token.as_bytes()),
            expires_at: Timestamp(1_767_225_600_000) + Duration::from_secs(seconds),
        }),
        6 => (token, select(vec!["a", "b", "c", "-"]), claimed()).prop_map(|(token, name, capacity)| Command::JoinNode {
            token: Digest::of(token.as_bytes()),
            name: name.to_owned(),
            capacity,
        }),
        6 => deploy(),
        1 => select(vec![64, 128, 700]).prop_map(|memory| template("base", memory)),
        4 => (0..20u128, 0..200u64).prop_map(|(number, seconds)| sandbox(number, seconds)),
        1 => (0..20u128, 0..400u64).prop_map(|(number, seconds)| Command::SetSandboxTimeout {
            instance: sandbox_id(number),
            ends_at: Timestamp(1_767_225_600_000) + Duration::from_secs(seconds),
            at_least: seconds % 2 == 0,
        }),
        1 => (0..20u128).prop_map(|number| Command::KillSandbox { instance: sandbox_id(number) }),
        2 => (0..20u128).prop_map(|number| {
            Command::PauseSandbox { instance: sandbox_id(number), why: DesiredChange::Paused }
        }),
        2 => (0..20u128).prop_map(|number| {
            Command::ResumeSandbox { instance: sandbox_id(number), timeout: Duration::from_secs(60) }
        }),
        2 => (0..20u128, 20..30u128, proptest::option::of(Just("ready".to_owned()))).prop_map(|(of, number, name)| {
            Command::SnapshotSandbox { snapshot: sandbox_id(number), of: sandbox_id(of), name }
        }),
        1 => (20..30u128).prop_map(|number| Command::ReleaseSnapshot { snapshot: sandbox_id(number) }),
        2 => (0..20u128, 20..30u128, vec(0..20u128, 0..4)).prop_map(|(of, number, forks)| {
            let forks = forks.into_iter().map(sandbox_id).collect();
            let (of, snapshot, timeout) = (sandbox_id(of), sandbox_id(number), Duration::from_secs(60));
            Command::ForkSandbox(ForkSandbox { of, snapshot, forks, timeout })
        }),
    ]
}

fn sandbox_id(number: u128) -> InstanceId {
    InstanceId::new(Ulid::from_parts(2, number))
}

fn sandbox(number: u128, seconds: u64) -> Command {
    Command::CreateSandbox(Box::new(CreateSandbox {
        instance: sandbox_id(number),
        org: "default".to_owned(),
        project: "default".to_owned(),
        template: "base".to_owned(),
        vars: None,
        metadata: Default::default(),
        class: Default::default(),
        timeout: Duration::from_secs(seconds),
        on_timeout: Default::default(),
    }))
}

fn deploy() -> impl Strategy<Value = Command> {
    let app = select(vec!["shop", "blog", "No Name"]);
    let expose = (select(vec!["web", "worker"]), select(vec![8080, 81]), 0..3u16);
    let shape = (0..4u32, select(vec![64, 512, 4096]), select(vec![1, 40]));
    (app, select(vec!["v1", "v2"]), shape, vec(expose, 0..3)).prop_map(
        |(app, tag, (replicas, memory, disk), expose)| {
            let expose = expose.into_iter().map(|(process, port, entry)| Expose {
                entry: if entry == 0 { Entry::Hostname("shop.example.com".to_owned()) } else { Entry::TcpPort(entry) },
                process: process.to_owned(),
                port,
                tls: if entry == 0 && replicas % 2 == 0 { Tls::Passthrough } else { Tls::Terminated },
            });
            let mut manifest = manifest(replicas, memory, disk);
            if replicas == 1 {
                mount(&mut manifest, "data", disk);
            }
            Command::Deploy(Box::new(Deploy {
                org: "default".to_owned(),
                app: app.to_owned(),
                env: "dev".to_owned(),
                image: image(tag),
                manifest,
                vars: None,
                expose: expose.collect(),
                create_volumes: true,
            }))
        },
    )
}

fn claimed() -> impl Strategy<Value = Capacity> {
    let amount = || select(vec![0, 200, 1_024, 100_000, u64::MAX]);
    let zone =
        select(vec!["a", "b", "no label"]).prop_map(|zone| Labels([("zone".to_owned(), zone.to_owned())].into()));
    (amount(), amount(), amount(), select(vec!["amd64", "arm64", ""]), zone).prop_map(
        |(memory, disk, overhead, arch, labels)| {
            let (arch, overhead) = (arch.to_owned(), Mebibytes(overhead));
            Capacity { arch, overhead, labels, ..capacity(memory, disk) }
        },
    )
}

fn status() -> impl Strategy<Value = InstanceStatus> {
    let reason = select(Reason::ALL).prop_map(|reason| Failure::new(reason, "as told"));
    let boot = (1..4u128).prop_map(|boot| BootId::new(Ulid::from_parts(1, boot)));
    let (boot, failure) = (proptest::option::of(boot), proptest::option::of(reason));
    (select(InstancePhase::ALL), boot, failure, any::<Option<i32>>(), any::<u32>()).prop_map(
        |(phase, boot, failure, exit_code, restarts)| InstanceStatus {
            phase,
            boot,
            failure,
            exit_code,
            restarts,
            hello_ms: None,
            start: None,
        },
    )
}

impl Step {
    fn act(self, fleet: &mut Fleet) {
        let Some(command) = self.command(fleet) else { return };
        // Most of it is refused; what counts is what becomes of the rest.
        let _ = fleet.submit(command);
    }

    /// None for what happens outside of the platform.
    fn command(self, fleet: &mut Fleet) -> Option<Command> {
        let state = fleet.state().clone();
        let nodes = || state.nodes.keys().copied();
        let instances = || state.instances.keys().copied();
        Some(match self {
            Self::Given(command) => command,
            Self::Observe { node, capacity, lines, volumes } => {
                let there = || state.volumes.keys().copied();
                let volumes = volumes.map(|which| which.into_iter().map(|which| which.of(there())).collect());
                let instances = lines.into_iter().map(|(which, status)| (which.of(instances()), status)).collect();
                Command::Observe { node: node.of(nodes()), capacity, instances, volumes }
            }
            Self::DeleteVolume(which) => Command::DeleteVolume { volume: which.of(state.volumes.keys().copied()) },
            Self::Phase(node, phase) => Command::SetNodePhase { node: node.of(nodes()), phase },
            Self::Order(node, order) => Command::OrderNode { node: node.of(nodes()), order },
            Self::Limit(dimension, limit) => Command::SetLimits {
                org: state.org_named("default").unwrap_or(Ulid::nil().into()),
                limits: [(dimension, Some(limit))].into(),
            },
            Self::Rollback(env, release) => Command::Rollback {
                env: env.of(state.envs.keys().copied()),
                release: release.map(|which| which.of(state.releases.keys().copied())),
            },
            Self::Weights(project, weight) => {
                Command::SetProjectWeight { project: project.of(state.projects.keys().copied()), weight }
            }
            Self::Constrain(env, zone) => {
                let constraints = Labels(zone.into_iter().map(|zone| ("zone".to_owned(), zone.to_owned())).collect());
                match env {
                    Some(env) => Command::SetEnvConstraints { env: env.of(state.envs.keys().copied()), constraints },
                    None => Command::SetOrgConstraints {
                        org: state.org_named("default").unwrap_or(Ulid::nil().into()),
                        constraints,
                    },
                }
            }
            Self::Revoke(token) => Command::RevokeToken { token: token.of(state.tokens.keys().copied()) },
            Self::Force => Command::ForceReschedule,
            Self::Freeze(frozen) => Command::SetRescheduling { frozen },
            Self::Allocate { env, process, release, node } => Command::Allocate {
                env: env.of(state.envs.keys().copied()),
                process: process.to_owned(),
                release: release.of(state.releases.keys().copied()),
                node: node.of(nodes()),
                class: Class::Low,
            },
            Self::Waiting(env, waiting) => {
                Command::NoteWaiting { env: env.of(state.envs.keys().copied()), process: "web".to_owned(), waiting }
            }
            Self::Desired(instance, desired) => {
                Command::SetDesired { instance: instance.of(instances()), desired, why: DesiredChange::ScaleDown }
            }
            Self::Status(deploy, status) => {
                Command::SetDeployStatus { deploy: deploy.of(state.deploys.keys().copied()), status, failure: None }
            }
            Self::Forget(instance) => Command::Forget { instance: instance.of(instances()) },
            Self::Unroute(route) => Command::DeleteRoute { route: route.of(state.routes.keys().copied()) },
            Self::Pass(seconds) => {
                fleet.facts.now = fleet.facts.now + Duration::from_secs(seconds);
                return None;
            }
            Self::Hear(node) => {
                fleet.facts.hear(node.of(nodes()), Default::default());
                return None;
            }
            Self::Writer => {
                (fleet.facts.writer_since, fleet.facts.heard) = (fleet.facts.now, Default::default());
                Command::StartWriter
            }
            Self::Reconcile => {
                fleet.settle();
                return None;
            }
        })
    }
}

fn replay(log: &[Envelope]) -> State {
    let mut state = State::default();
    for envelope in log {
        let json = serde_json::to_vec(envelope).unwrap();
        evolve(&mut state, &serde_json::from_slice(&json).unwrap());
    }
    state
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// `Fleet::submit` looks at the invariants and the life cycles after every event.
    #[test]
    fn whatever_is_asked_the_platform_stays_sound(steps in steps()) {
        let mut fleet = Fleet::empty();
        fleet.submit(bootstrap()).unwrap();
        steps.into_iter().for_each(|step| step.act(&mut fleet));
        fleet.settle();

        let replayed = replay(&fleet.log);
        prop_assert_eq!(&replayed, fleet.state());
        let copy: State = serde_json::from_slice(&serde_json::to_vec(fleet.state()).unwrap()).unwrap();
        prop_assert_eq!(&copy, fleet.state());
    }

    /// With nothing else happening, the platform has nothing to say before the moment it named.
    #[test]
    fn nothing_is_missed_by_looking_again_when_it_said(steps in steps(), moments in vec(0..1_000_u64, 8)) {
        let mut fleet = Fleet::empty();
        fleet.submit(bootstrap()).unwrap();
        for step in steps {
            step.act(&mut fleet);
            fleet.settle();
            let (now, (said, next)) = (fleet.facts.now, reconcile(fleet.state(), &fleet.facts));
            prop_assert_eq!(said, &[]);
            let until = next.map_or(now + Duration::from_secs(365 * 24 * 3600), |next| Timestamp(next.0 - 1));
            prop_assert!(until >= now, "{next:?} is no later than {now}");
            let between = moments.iter().map(|part| Timestamp(now.0 + (until.0 - now.0) * part / 1_000));
            for moment in between.chain([until]) {
                let facts = Facts { now: moment, ..fleet.facts.clone() };
                let (said, _) = reconcile(fleet.state(), &facts);
                prop_assert_eq!(said, &[], "at {}, of {} until {}", moment, now, until);
            }
        }
    }

    /// Nothing comes to be without a cluster.
    #[test]
    fn an_empty_log_takes_only_the_first_command(steps in steps()) {
        let mut fleet = Fleet::empty();
        let steps = steps.into_iter().filter(|step| !matches!(step, Step::Given(Command::Bootstrap { .. })));
        steps.for_each(|step| step.act(&mut fleet));
        prop_assert_eq!(&fleet.log, &[]);
    }
}
