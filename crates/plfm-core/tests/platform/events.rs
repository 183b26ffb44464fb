//! The JSON of every event, as it is stored for ever. A changed line in the golden file is a changed promise.

use std::collections::BTreeSet;

use expect_test::expect_file;
use plfm_core::digest::Digest;
use plfm_core::event::*;
use plfm_core::fair::Class;
use plfm_core::ids::*;
use plfm_core::labels::Labels;
use plfm_core::manifest::Resources as Size;
use plfm_core::phase::{DeployStatus, Desired, InstancePhase, NodePhase, VolumePhase};
use plfm_core::quota::{Dimension, Excess, Limits};
use plfm_core::reason::{Failure, Reason};
use plfm_core::units::{Mebibytes, MilliCpu, Seq, Term, Timestamp};
use ulid::Ulid;

use crate::fleet::{capacity, image, manifest};

fn id<I: From<Ulid>>(number: u128) -> I {
    Ulid::from_parts(1_767_225_600_000, number).into()
}

fn one_of_each() -> Vec<Event> {
    let (org, app, env, release, deploy) = (id(1), id(3), id(4), id(5), id(6));
    let (instance, node, route, token) = (id(7), id(8), id(9), id(10));
    let failure = Failure::new(Reason::WorkloadExited, "exit code 1");
    let memory = Waiting::NoCapacityMemory { wanted: Mebibytes(512), largest_free: Mebibytes(100) };
    let disk = Waiting::NoCapacityDisk { wanted: Mebibytes(2048), largest_free: Mebibytes(1024) };
    let platform =
        Waiting::ImagePlatformUnavailable { offered: vec!["amd64".to_owned()], nodes: vec!["arm64".to_owned()] };
    let process = || "web".to_owned();
    let waiting = |waiting| Event::GroupWaiting { env, process: process(), waiting };
    let entry = |entry| Event::RouteCreated { route, org, app, env, entry };
    vec![
        Event::LogStarted { log: id(20) },
        Event::WriterStarted { term: Term(2) },
        Event::ClusterCreated { domain: "example.com".to_owned(), prefix: "fd00:706c::".parse().unwrap() },
        Event::OrgCreated { org, name: "default".to_owned() },
        Event::ProjectCreated { project: id(2), org, name: "default".to_owned() },
        Event::TokenCreated { token, org: None, hash: Digest::of(b"admin"), scopes: Scope::ALL.to_vec() },
        Event::AppCreated { app, org, project: id(2), name: "shop".to_owned() },
        Event::EnvCreated { env, org, app, name: "dev".to_owned() },
        Event::ReleaseCreated(Box::new(release_created(release, org, app))),
        Event::DeployCreated { deploy, org, app, env, release, processes: vec![process()] },
        Event::DeployStatusChanged { deploy, status: DeployStatus::Rolling, failure: None },
        Event::DeployStatusChanged { deploy, status: DeployStatus::Failed, failure: Some(failure.clone()) },
        entry(Entry::Hostname("shop.example.com".to_owned())),
        entry(Entry::TcpPort(5432)),
        Event::RouteDeleted { route, org, env },
        waiting(Some(Waiting::NoNodesActive)),
        waiting(Some(memory)),
        waiting(Some(disk)),
        waiting(Some(platform)),
        waiting(None),
        Event::InstanceAllocated(Box::new(allocated(instance, node, release, deploy))),
        Event::InstanceDesiredChanged { instance, desired: Desired::Draining, why: DesiredChange::RolloutReplace },
        Event::InstanceStatusChanged { instance, node, status: status(InstancePhase::Ready, None) },
        Event::InstanceStatusChanged { instance, node, status: status(InstancePhase::Failed, Some(failure)) },
        Event::InstanceForgotten { instance },
        template_created(org, Startup::default()),
        Event::SandboxCreated(Box::new(sandbox_created(instance, org, node))),
        Event::SandboxTimeoutSet { instance, ends_at: Timestamp(1_767_225_900_000) },
        Event::InstanceDesiredChanged { instance, desired: Desired::Stopped, why: DesiredChange::Killed },
        Event::InstanceDesiredChanged { instance, desired: Desired::Stopped, why: DesiredChange::TimedOut },
        Event::InstanceDesiredChanged { instance, desired: Desired::Stopped, why: DesiredChange::Failed },
        Event::JoinTokenCreated { token: id(11), hash: Digest::of(b"join"), expires_at: Timestamp(1_767_225_660_000) },
        Event::NodeJoined {
            node,
            token: id(11),
            name: "node-a".to_owned(),
            number: 1,
            capacity: capacity(1024, 10_240),
        },
        Event::NodePhaseChanged { node, phase: NodePhase::Offline },
        Event::NodeCapacityChanged { node, capacity: capacity(512, 10_240) },
        Event::NodePhaseChanged { node, phase: NodePhase::Decommissioned },
        Event::ReschedulingFrozen { silent: 4, nodes: 10 },
        Event::ReschedulingResumed { forced: true },
        Event::OrgLimitsSet { org, limits: Limits([(Dimension::Instances, 100), (Dimension::Memory, 1 << 20)].into()) },
        Event::OrgWeightSet { org, weight: 2 },
        Event::ProjectWeightSet { project: id(2), weight: 3 },
        waiting(Some(Waiting::Reserved)),
        waiting(Some(Waiting::OrgQuotaExceeded(Excess {
            dimension: Dimension::Instances,
            limit: 50,
            current: 50,
            requested: 1,
        }))),
        waiting(Some(Waiting::NoCapacityInstances { most: 1_000 })),
        Event::InstanceDesiredChanged { instance, desired: Desired::Draining, why: DesiredChange::NodeDraining },
        Event::InstanceDesiredChanged { instance, desired: Desired::Stopped, why: DesiredChange::DrainDeadline },
        Event::NodeCapacityChanged {
            node,
            capacity: Capacity { degraded: [Degradation::DiskPressure].into(), ..capacity(512, 10_240) },
        },
        Event::OrgConstraintsSet { org, constraints: labels("zone=a") },
        Event::EnvConstraintsSet { env: id(4), org, constraints: labels("disk=ssd") },
        waiting(Some(Waiting::NoNodeLabelled { asked: vec!["zone=a".to_owned()] })),
        Event::NodeCapacityChanged { node, capacity: Capacity { labels: labels("zone=a"), ..capacity(512, 10_240) } },
        Event::TokenRevoked { token, org: Some(org) },
        Event::RouteTargetSet { route, org, env, target: target(release, Tls::Terminated) },
        Event::SnapshotCreated(Box::new(SnapshotCreated {
            snapshot: id(14),
            org,
            of: instance,
            name: Some("ready".to_owned()),
            kept: true,
            node,
            address: "fd00:706c:0:1::3".parse().unwrap(),
        })),
        Event::SnapshotReleased { snapshot: id(14) },
        Event::SandboxCreated(Box::new(SandboxCreated {
            from: Some(Origin { snapshot: id(14), generation: 1 }),
            ..sandbox_created(id(15), org, node)
        })),
        Event::InstanceDesiredChanged { instance: id(14), desired: Desired::Stopped, why: DesiredChange::Unused },
        Event::InstanceStatusChanged {
            instance: id(15),
            node,
            status: InstanceStatus {
                start: Some(Start {
                    way: StartWay::Parked,
                    prepare_ms: 2,
                    network_ms: 14,
                    machine_ms: 9,
                    identity_ms: 31,
                }),
                ..status(InstancePhase::Ready, None)
            },
        },
        Event::EnvClassSet { env: id(4), org, class: Class::High },
        waiting(Some(Waiting::VolumeHomeNodeOffline { node: "node-a".to_owned() })),
        waiting(Some(Waiting::VolumeLocalityNoNode { node: "node-a".to_owned() })),
        waiting(Some(Waiting::VolumeConstraintsInvalid)),
        Event::NodeCapacityChanged {
            node,
            capacity: Capacity { degraded: [Degradation::KvmLoss].into(), ..capacity(512, 10_240) },
        },
        template_created(org, startup()),
        Event::SandboxCreated(Box::new(SandboxCreated { startup: startup(), ..sandbox_created(instance, org, node) })),
        Event::NodeDegradationTolerated { node, degraded: [Degradation::DiskPressure].into() },
        Event::RouteTargetSet { route, org, env, target: target(release, Tls::Passthrough) },
        Event::VolumeCreated {
            volume: id(40),
            org,
            env,
            name: "data".to_owned(),
            size: Mebibytes(1024),
            backup_enabled: true,
        },
        Event::VolumePhaseChanged { volume: id(40), org, node, phase: VolumePhase::Available },
        Event::VolumeDeleted { volume: id(40), org },
    ]
}

fn target(release: ReleaseId, tls: Tls) -> Target {
    Target { release, process: "web".to_owned(), port: 8080, tls }
}

fn labels(text: &str) -> Labels {
    Labels([plfm_core::labels::label(text).unwrap()].into())
}

fn release_created(release: ReleaseId, org: OrgId, app: AppId) -> ReleaseCreated {
    let manifest = manifest(2, 512, 1);
    let manifest_hash = manifest.hash();
    ReleaseCreated { release, org, app, image: image("v1"), manifest_hash, manifest, vars: Some(Digest::of(b"vars")) }
}

fn allocated(instance: InstanceId, node: NodeId, release: ReleaseId, deploy: DeployId) -> InstanceAllocated {
    let (cpu, memory, overhead, disk) = (MilliCpu(500), Mebibytes(512), Mebibytes(36), Mebibytes(1024));
    InstanceAllocated {
        instance,
        org: id(1),
        app: id(3),
        env: id(4),
        process: "web".to_owned(),
        node,
        release,
        deploy,
        address: "fd00:706c:0:1::1".parse().unwrap(),
        resources: Resources { cpu, memory, overhead, disk },
        class: Class::Normal,
    }
}

fn size() -> Size {
    Size { cpu: MilliCpu(2_000), memory: Mebibytes(512), disk: Mebibytes(1_024) }
}

fn startup() -> Startup {
    Startup { start: Some("serve".to_owned()), ready: Some("curl -f localhost".to_owned()) }
}

fn template_created(org: OrgId, startup: Startup) -> Event {
    let (name, image) = ("base".to_owned(), image("base"));
    Event::TemplateCreated { template: id(13), org, name, image, size: size(), startup }
}

fn sandbox_created(instance: InstanceId, org: OrgId, node: NodeId) -> SandboxCreated {
    let Size { cpu, memory, disk } = size();
    SandboxCreated {
        on_timeout: OnTimeout::Pause,
        instance,
        org,
        project: id(2),
        template: id(13),
        template_name: "base".to_owned(),
        image: image("base"),
        startup: Startup::default(),
        vars: Some(Digest::of(b"vars")),
        metadata: [("user".to_owned(), "ada".to_owned())].into(),
        timeout_seconds: 300,
        node,
        address: "fd00:706c:0:1::2".parse().unwrap(),
        resources: Resources { cpu, memory, overhead: Mebibytes(36), disk },
        class: Class::Normal,
        from: None,
    }
}

fn status(phase: InstancePhase, failure: Option<Failure>) -> InstanceStatus {
    let exit_code = failure.is_some().then_some(1);
    InstanceStatus { phase, boot: Some(id(12)), failure, exit_code, restarts: 2, hello_ms: Some(140), start: None }
}

fn envelopes() -> Vec<Envelope> {
    let actors = [Actor::System, Actor::Token(id(10)), Actor::Node(id(8)), Actor::Joining(id(11))].into_iter().cycle();
    let numbered = one_of_each().into_iter().zip(1..).zip(actors);
    let envelope = |((event, seq), actor)| {
        let (org, cause) =
            (if seq % 2 == 0 { Some(id(1)) } else { None }, if seq % 3 == 0 { Some(Seq(1)) } else { None });
        let at = Timestamp(1_767_225_600_000 + seq);
        Envelope { seq: Seq(seq), at, org, actor, request: id(30), cause, event }
    };
    numbered.map(envelope).collect()
}

#[test]
fn the_json_of_every_event_is_a_promise() {
    let lines = envelopes().iter().map(|envelope| serde_json::to_string(envelope).unwrap() + "\n").collect::<String>();
    expect_file!["../events.golden"].assert_eq(&lines);
}

#[test]
fn what_was_written_is_read_as_it_was() {
    let golden = include_str!("../events.golden");
    let read: Vec<Envelope> = golden.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read, envelopes());
}

#[test]
fn what_earlier_versions_wrote_is_still_read() {
    let golden = include_str!("../events.golden");
    let now = golden.lines().find(|line| line.contains("instance.allocated")).unwrap();
    let before = now.replace(r#","class":"normal""#, "");
    assert_ne!(before, now);
    let read = |line: &str| serde_json::from_str::<Envelope>(line).unwrap();
    assert_eq!(read(&before), read(now));
}

#[test]
fn every_kind_has_its_line() {
    let seen: BTreeSet<_> = one_of_each().iter().map(Event::kind).collect();
    assert_eq!(seen, Event::KINDS.iter().copied().collect());
    for envelope in envelopes() {
        let json = serde_json::to_value(&envelope).unwrap();
        assert_eq!(json["kind"], envelope.event.kind(), "the name in the JSON is the name of the kind");
        assert_eq!(json.as_object().unwrap().len(), 8, "{json}");
    }
}
