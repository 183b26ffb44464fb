//! Snapshots of sandboxes, and sandboxes that go on from one: where they are, what they hold, how long they stay.

use std::time::Duration;

use expect_test::expect;
use plfm_core::command::{Command, ForkSandbox};
use plfm_core::digest::Digest;
use plfm_core::event::{OnTimeout, Waiting};
use plfm_core::fair::RESERVE_AFTER;
use plfm_core::ids::InstanceId;
use plfm_core::phase::{Desired, InstancePhase};
use plfm_core::quota::Dimension;
use plfm_core::refusal::Refusal;
use ulid::Ulid;

use crate::fleet::{Fleet, check_script, template};

fn fleet(script: &str) -> Fleet {
    let mut fleet = Fleet::new();
    script.split(';').map(str::trim).for_each(|line| fleet.follow(line));
    fleet
}

/// Each of it takes 292 MiB of memory and 1 GiB of disk, a snapshot of it 1280 MiB of disk.
const ONE: &str = "node a memory=1000 disk=8; node b memory=4000; template 256; drain b; sandbox 60; ready; activate b";

#[test]
fn forks_are_where_it_is_and_each_has_its_own() {
    let mut fleet = fleet(ONE);
    assert_eq!(fleet.forks("1", 3), Ok(3), "the snapshot and two of three: there is room for no more");
    let held = fleet.state().index().held(fleet.node("a"));
    assert_eq!((held.memory.0, held.disk.0, held.instances), (3 * 292, 3 * 1_024 + 1_280, 4));
    assert_eq!(fleet.state().index().forks_of(fleet.snapshot()), 2);
    let denied = fleet.forks("1", 1).unwrap_err();
    assert!(matches!(denied, Refusal::NoRoomThere { waiting: Waiting::NoCapacityMemory { .. }, .. }), "{denied}");
    let from = |id: &InstanceId| fleet.state().instances[id].sandbox().unwrap().from.map(|from| from.generation);
    let generations = fleet.state().index().sandboxes().map(|id| from(&id)).collect::<Vec<_>>();
    assert_eq!(generations, [None, Some(1), Some(1)]);
}

/// P-SCH-20: it would be on a node that the org does not want.
#[test]
fn forks_are_not_where_their_org_does_not_want_them() {
    let mut fleet = fleet(&format!("{ONE}; require zone=x"));
    let denied = fleet.forks("1", 1).unwrap_err();
    assert!(matches!(denied, Refusal::NoRoomThere { waiting: Waiting::NoNodeLabelled { .. }, .. }), "{denied}");
    assert_eq!(fleet.state().index().sandboxes().count(), 1);
}

/// A-TEN-12.
#[test]
fn neither_forks_nor_who_is_resumed_pass_by_one_that_has_waited_long() {
    let mut fleet =
        fleet("node a memory=1000; template 256; sandbox 9000; sandbox 9000; ready; deploy v1 x1 memory=700; pass 60");
    let denied = fleet.forks("1", 1).unwrap_err();
    assert!(matches!(denied, Refusal::NoRoomThere { waiting: Waiting::Reserved, .. }), "{denied}");
    fleet.pauses("2").unwrap();
    fleet.follow("paused 2");
    let denied = fleet.resumes("2", 60).unwrap_err();
    assert!(matches!(denied, Refusal::NoRoomThere { waiting: Waiting::Reserved, .. }), "{denied}");
    let since = fleet.state().envs.values().flat_map(|env| env.groups.values()).find_map(|group| group.waiting_since);
    fleet.facts.now = since.unwrap() + RESERVE_AFTER;
    assert_eq!(fleet.resumes("2", 60), Ok(2), "not before it has waited longer than that");
}

#[test]
fn what_was_taken_for_forks_goes_with_the_last_of_them() {
    check_script(
        &format!("{ONE}; fork 1 2; paused 2; ready; kill 1; leave"),
        expect![[r#"
            1 sandbox a gone, to be stopped
            2 snapshot a paused, to be paused
            3 sandbox a ready
            4 sandbox a ready
        "#]],
    );
    check_script(
        &format!("{ONE}; fork 1 2; paused 2; ready; kill 3; leave; kill 4; leave; leave"),
        expect![[r#"
            1 sandbox a ready
            2 snapshot a gone, to be stopped
            3 sandbox a gone, to be stopped
            4 sandbox a gone, to be stopped
        "#]],
    );
}

#[test]
fn what_could_not_be_taken_goes_and_its_forks_fail_with_their_node() {
    check_script(
        &format!("{ONE}; fork 1 1; fail 2 snapshot_failed; fail 3 restore_failed; leave"),
        expect![[r#"
            1 sandbox a ready
            2 snapshot a gone, to be stopped
            3 sandbox a gone, to be stopped
        "#]],
    );
    check_script(
        &format!("{ONE}; snapshot 1 ready; timeout 1 900; pass 300"),
        expect![[r#"
            1 sandbox a ready
            2 snapshot a allocated, to be stopped
        "#]],
    );
}

#[test]
fn only_what_runs_can_be_taken_and_it_is_not_paused_meanwhile() {
    let mut fleet = fleet("node a; template 256; sandbox 60");
    assert!(matches!(fleet.snapshots("1", None), Err(Refusal::SandboxBusy { .. })), "it does not run yet");
    fleet.follow("ready");
    fleet.follow("snapshot 1 ready");
    assert!(matches!(fleet.pauses("1"), Err(Refusal::SnapshotPending { .. })));
    fleet.follow("paused 2");
    assert_eq!(fleet.pauses("1"), Ok(1));
    assert!(matches!(fleet.snapshots("1", None), Err(Refusal::SandboxPaused(_))));
    assert!(matches!(fleet.forks("1", 1), Err(Refusal::SandboxPaused(_))));
}

#[test]
fn a_name_is_the_newest_that_is_there() {
    let mut fleet = fleet(&format!("{ONE}; snapshot 1 ready; paused 2; snapshot 1 ready"));
    let org = fleet.org();
    let named = |fleet: &Fleet| fleet.state().snapshot_named(org, "ready").map(|(id, _)| id);
    let first = named(&fleet).unwrap();
    fleet.follow("paused 3");
    let second = named(&fleet).unwrap();
    assert_ne!(first, second);
    assert_eq!(fleet.state().instances[&first].desired, Desired::Stopped, "nobody is left who wants it");
    assert_eq!(fleet.submit(fleet.sandbox("ready", 60)), Ok(1));
    fleet.submit(Command::ReleaseSnapshot { snapshot: second }).unwrap();
    fleet.settle();
    assert_eq!(fleet.state().instances[&second].desired, Desired::Paused, "one goes on from it");
    assert!(matches!(fleet.submit(fleet.sandbox("ready", 60)), Err(Refusal::TemplateNotFound(_))));
    let again = fleet.submit(Command::ReleaseSnapshot { snapshot: second });
    assert!(matches!(again, Err(Refusal::SnapshotNotFound(_))));
}

#[test]
fn what_is_taken_late_does_not_take_its_name_back() {
    let mut fleet = fleet(&format!("{ONE}; snapshot 1 ready; snapshot 1 ready; paused 3"));
    let newest = fleet.state().snapshot_named(fleet.org(), "ready").unwrap().0;
    fleet.follow("paused 2");
    assert_eq!(fleet.state().snapshot_named(fleet.org(), "ready").unwrap().0, newest);
    let kept = fleet.state().index().snapshots().filter(|id| fleet.state().instances[id].desired == Desired::Paused);
    assert_eq!(kept.collect::<Vec<_>>(), [newest]);
}

#[test]
fn templates_and_snapshots_share_their_names() {
    let mut fleet = fleet(&format!("{ONE}; snapshot 1 ready; paused 2"));
    assert!(matches!(fleet.snapshots("1", Some("base")), Err(Refusal::NameTaken { .. })));
    let id = fleet.snapshot().ulid().to_string().to_lowercase();
    assert!(matches!(fleet.snapshots("1", Some(&id)), Err(Refusal::InvalidSandbox(_))), "it would be two");
    assert!(matches!(fleet.submit(template("ready", 256)), Err(Refusal::NameTaken { .. })));
}

/// What it holds in memory is lost with it.
#[test]
fn what_is_to_be_paused_is_taken_first() {
    let mut fleet = fleet("node a; template 256");
    let Command::CreateSandbox(mut wanted) = fleet.sandbox("base", 60) else { unreachable!("it is one") };
    wanted.on_timeout = OnTimeout::Pause;
    fleet.submit(Command::CreateSandbox(wanted)).unwrap();
    ["ready", "snapshot 1 kept", "pass 61"].iter().for_each(|line| fleet.follow(line));
    let desired = |fleet: &Fleet| fleet.state().instances.values().next().unwrap().desired;
    assert_eq!(desired(&fleet), Desired::Running);
    fleet.follow("paused 2");
    assert_eq!(desired(&fleet), Desired::Paused);
}

#[test]
fn a_lost_node_with_forks_can_be_dismissed() {
    let mut fleet = fleet(&format!("{ONE}; fork 1 1; paused 2; ready; mute a; pass 61; pass 61"));
    fleet.follow("decommission a");
    assert!(fleet.state().instances.values().all(|it| !it.holds_resources()));
}

#[test]
fn what_a_sandbox_did_to_its_forks_is_not_its_nodes_fault() {
    let mut fleet = fleet(&format!("{ONE}; fork 1 1; fail 2 snapshot_failed; fail 3 restore_failed"));
    let node = fleet.node("a");
    assert_eq!(fleet.state().nodes[&node].failed_boots, []);
    fleet.follow("sandbox 60");
    fleet.follow("fail 4 vmm_start_failed");
    assert_eq!(fleet.state().nodes.values().map(|it| it.failed_boots.len()).sum::<usize>(), 1);
}

#[test]
fn the_orgs_limits_hold() {
    let denied = |script: &str| {
        let mut fleet = fleet(&format!("{ONE}; {script}"));
        match fleet.forks("1", 2) {
            Err(Refusal::QuotaExceeded(excess)) => Err(excess.dimension),
            other => Ok(other.unwrap()),
        }
    };
    assert_eq!(denied("limit snapshots 0"), Err(Dimension::Snapshots));
    assert_eq!(denied("limit instances 1"), Err(Dimension::Instances));
    assert_eq!(denied("limit instances 2"), Ok(2), "one of two");
    assert_eq!(denied("limit starts_per_minute 1"), Err(Dimension::StartsPerMinute));
    assert_eq!(denied("limit starts_per_minute 2"), Ok(2), "one of two");
}

#[test]
fn how_many_at_once_is_limited() {
    let mut fleet = fleet(ONE);
    assert!(matches!(fleet.forks("1", 0), Err(Refusal::InvalidSandbox(_))));
    let of = *fleet.state().instances.keys().next().unwrap();
    let forks = vec![InstanceId::new(Ulid::from_parts(9, 8))];
    let snapshot = InstanceId::new(Ulid::from_parts(9, 7));
    let brief = ForkSandbox { of, snapshot, forks, timeout: Duration::ZERO };
    assert!(matches!(fleet.submit(Command::ForkSandbox(brief)), Err(Refusal::InvalidSandbox(_))));
    assert!(matches!(fleet.forks("1", 101), Err(Refusal::InvalidSandbox(_))));
    let twin = InstanceId::new(Ulid::from_parts(9, 9));
    let wanted = ForkSandbox { of, snapshot: twin, forks: vec![twin], timeout: Duration::from_secs(60) };
    assert!(matches!(fleet.submit(Command::ForkSandbox(wanted)), Err(Refusal::SandboxExists(_))));
}

#[test]
fn where_its_node_is_to_be_empty_it_stays() {
    let mut fleet = fleet(&format!("{ONE}; snapshot 1 ready; paused 2; drain a; pass 700; leave; pass 600"));
    let kept = fleet.snapshot();
    let phase = |fleet: &Fleet| fleet.state().instances[&kept].status.phase;
    assert_eq!(phase(&fleet), InstancePhase::Paused);
    let denied = fleet.submit(fleet.sandbox("ready", 60)).unwrap_err();
    assert!(matches!(denied, Refusal::NoRoomThere { waiting: Waiting::NoNodesActive, .. }), "{denied}");
    fleet.follow("activate a");
    assert_eq!(fleet.submit(fleet.sandbox("ready", 60)), Ok(1));
}

#[test]
fn it_needs_disk_for_itself_and_for_its_memory() {
    let mut short = fleet("node a disk=2; template 256; sandbox 60; ready");
    let denied = short.snapshots("1", None).unwrap_err();
    let Refusal::NoRoomThere { waiting: Waiting::NoCapacityDisk { wanted, largest_free }, .. } = denied else {
        panic!("there is none: {denied}");
    };
    assert_eq!((wanted.0, largest_free.0), (1_280, 1_024));
}

/// What never runs takes no processors of what the org may have.
#[test]
fn a_snapshot_takes_no_processor() {
    let mut fleet = fleet(ONE);
    let cpu = fleet.state().instances.values().next().unwrap().resources.cpu.0;
    fleet.follow(&format!("limit cpu {}", 2 * cpu));
    assert_eq!(fleet.forks("1", 1), Ok(2));
}

/// What is kept for its forks alone is nobody's to name.
#[test]
fn nothing_goes_on_from_what_was_taken_for_forks() {
    let mut fleet = fleet(&format!("{ONE}; fork 1 1; paused 2; ready"));
    let id = fleet.snapshot().to_string();
    assert!(matches!(fleet.submit(fleet.sandbox(&id, 60)), Err(Refusal::TemplateNotFound(_))));
}

#[test]
fn who_goes_on_from_a_snapshot_has_its_variables_unless_it_brings_its_own() {
    let mut fleet = fleet("node a memory=4000; template 256");
    let with = |fleet: &mut Fleet, from: &str, vars: Option<Digest>| {
        let Command::CreateSandbox(mut wanted) = fleet.sandbox(from, 60) else { unreachable!("it is one") };
        wanted.vars = vars;
        let instance = wanted.instance;
        fleet.submit(Command::CreateSandbox(wanted)).unwrap();
        instance
    };
    let (first, own) = (Digest::of(b"first"), Digest::of(b"own"));
    with(&mut fleet, "base", Some(first));
    ["ready", "snapshot 1 kept", "paused 2"].iter().for_each(|line| fleet.follow(line));
    for (brought, expected) in [(None, first), (Some(own), own)] {
        let instance = with(&mut fleet, "kept", brought);
        assert_eq!(fleet.state().instances[&instance].sandbox().unwrap().vars, Some(expected));
    }
}
