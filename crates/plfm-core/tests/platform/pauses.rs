//! Sandboxes that are paused: what room they leave and need, and when they may go on.

use std::time::Duration;

use expect_test::expect;
use plfm_core::command::Command;
use plfm_core::event::{InstanceStatus, OnTimeout, Waiting};
use plfm_core::phase::{Desired, InstancePhase};
use plfm_core::reason::{Failure, Reason};
use plfm_core::refusal::Refusal;
use plfm_core::state::Footprint;

use crate::fleet::{Fleet, check_script};

fn fleet(script: &str) -> Fleet {
    let mut fleet = Fleet::new();
    script.split(';').map(str::trim).for_each(|line| fleet.follow(line));
    fleet
}

const ONE: &str = "node a memory=400 disk=4; template 256; sandbox 60; ready";

#[test]
fn its_memory_is_free_when_its_node_has_said_so() {
    let mut fleet = fleet(&format!("{ONE}; pause 1"));
    let another = |fleet: &mut Fleet| fleet.submit(fleet.sandbox("base", 60));
    assert!(matches!(another(&mut fleet), Err(Refusal::NoRoom(_))));
    fleet.follow("paused 1");
    assert_eq!(another(&mut fleet), Ok(1));
    let held = fleet.state().index().held(fleet.node("a"));
    assert_eq!((held.memory.0, held.disk.0, held.instances), (256 + 36, 2 * 1_024 + 256, 2));
    let denied = fleet.resumes("1", 60).unwrap_err();
    let Refusal::NoRoomThere { waiting: Waiting::NoCapacityMemory { wanted, largest_free }, .. } = denied else {
        panic!("its place is taken: {denied}");
    };
    assert_eq!((wanted.0, largest_free.0), (292, 108));
    fleet.follow("kill 2");
    fleet.follow("leave");
    assert_eq!(fleet.resumes("1", 60), Ok(2));
}

#[test]
fn it_needs_disk_to_be_kept_on() {
    let mut full = fleet("node a memory=400 disk=1; template 256; sandbox 60; ready");
    assert!(matches!(full.pauses("1"), Err(Refusal::NoRoomThere { waiting: Waiting::NoCapacityDisk { .. }, .. })));
}

#[test]
fn each_word_waits_for_the_node_to_have_done_the_one_before() {
    let mut fleet = fleet("node a memory=400 disk=4; template 256; sandbox 60");
    let busy = |outcome| matches!(outcome, Err(Refusal::SandboxBusy { .. }));
    assert!(busy(fleet.pauses("1")), "it does not run yet");
    fleet.follow("ready");
    assert!(matches!(fleet.resumes("1", 60), Err(Refusal::SandboxNotPaused(_))));
    fleet.follow("pause 1");
    assert!(matches!(fleet.pauses("1"), Err(Refusal::SandboxPaused(_))));
    assert!(busy(fleet.resumes("1", 60)), "its node may be about to pause it");
    fleet.follow("paused 1");
    let (now, it) = (fleet.facts.now, *fleet.state().instances.keys().next().unwrap());
    let timeout = Command::SetSandboxTimeout { instance: it, ends_at: now + Duration::from_secs(9), at_least: false };
    assert!(matches!(fleet.submit(timeout), Err(Refusal::SandboxPaused(_))), "it has no time that could end");
    fleet.follow("resume 1 60");
    assert!(busy(fleet.pauses("1")), "its node may be about to let it go on");
    fleet.follow("ready");
    assert_eq!(fleet.state().instances[&it].footprint, Footprint::AwakeAndKept, "it maps the file");
    assert_eq!(fleet.pauses("1"), Ok(1));
}

#[test]
fn its_time_stands_still() {
    let paused = format!("{ONE}; pass 50; pause 1; paused 1; pass 600000");
    check_script(
        &paused,
        expect![[r#"
        1 sandbox a paused, to be paused
    "#]],
    );
    check_script(
        &format!("{paused}; resume 1 60; ready; pass 59"),
        expect![[r#"
        1 sandbox a ready
    "#]],
    );
    check_script(
        &format!("{paused}; resume 1 60; ready; pass 60"),
        expect![[r#"
        1 sandbox a ready, to be stopped
    "#]],
    );
}

#[test]
fn at_the_end_of_its_time_it_is_paused_if_that_was_asked_for() {
    let run = |disk: u64, lines: &[&str]| {
        let mut fleet = fleet(&format!("node a memory=400 disk={disk}; template 256"));
        let Command::CreateSandbox(mut wanted) = fleet.sandbox("base", 60) else { unreachable!("it is one") };
        wanted.on_timeout = OnTimeout::Pause;
        fleet.submit(Command::CreateSandbox(wanted)).unwrap();
        lines.iter().for_each(|line| fleet.follow(line));
        fleet.state().instances.values().next().unwrap().desired
    };
    assert_eq!(run(4, &["ready", "pass 60"]), Desired::Paused);
    assert_eq!(run(1, &["ready", "pass 60"]), Desired::Stopped, "there is no room to keep it");
    assert_eq!(run(4, &["pass 600"]), Desired::Stopped, "it never ran");
}

#[test]
fn what_could_not_be_paused_runs_on() {
    let mut fleet = fleet(&format!("{ONE}; pause 1"));
    let (id, it) = fleet.state().instances.iter().next().map(|(id, it)| (*id, it.clone())).unwrap();
    let failure = Some(Failure::new(Reason::SnapshotFailed, "the disk is full"));
    let status = InstanceStatus { phase: InstancePhase::Ready, failure, ..it.status };
    fleet
        .submit(Command::Observe { node: it.node, capacity: None, instances: vec![(id, status)], volumes: None })
        .unwrap();
    assert_eq!(fleet.state().instances[&id].desired, Desired::Running);
}

#[test]
fn where_its_node_is_lost_or_to_be_empty_it_stays() {
    check_script(
        &format!("{ONE}; node b; pause 1; paused 1; mute a; pass 61; pass 61"),
        expect![[r#"
        1 sandbox a paused, to be paused
        node a offline
    "#]],
    );
    check_script(
        &format!("{ONE}; pause 1; paused 1; drain a; pass 600; disable a; pass 600"),
        expect![[r#"
        1 sandbox a paused, to be paused
        node a disabled
    "#]],
    );
    let mut fleet = fleet(&format!("{ONE}; pause 1; paused 1; drain a"));
    assert!(matches!(fleet.resumes("1", 60), Err(Refusal::NoRoomThere { waiting: Waiting::NoNodesActive, .. })));
}

#[test]
fn one_that_is_ended_while_it_is_paused_needs_no_memory_for_that() {
    let mut fleet = fleet(&format!("{ONE}; pause 1; paused 1; sandbox 60; ready; kill 1"));
    let held = fleet.state().index().held(fleet.node("a"));
    assert_eq!((held.memory.0, held.instances), (292, 2));
    fleet.follow("leave");
    assert_eq!(fleet.state().index().held(fleet.node("a")).disk.0, 1_024);
}

#[test]
fn one_that_goes_on_has_its_time_from_when_it_runs() {
    let asked = format!("{ONE}; pause 1; paused 1; resume 1 60; pass 600");
    check_script(
        &asked,
        expect![[r#"
        1 sandbox a paused
    "#]],
    );
    check_script(
        &format!("{asked}; ready; pass 59"),
        expect![[r#"
        1 sandbox a ready
    "#]],
    );
    check_script(
        &format!("{asked}; ready; pass 60"),
        expect![[r#"
        1 sandbox a ready, to be stopped
    "#]],
    );
    let mut fleet = fleet(&asked);
    assert!(matches!(fleet.resumes("1", 0), Err(Refusal::InvalidSandbox(_))), "no time at all is none");
    assert_eq!(
        (fleet.resumes("1", 1), fleet.resumes("1", 900)),
        (Ok(0), Ok(1)),
        "who asks too gets more time, not less"
    );
}

#[test]
fn a_node_that_is_lost_while_it_goes_on_keeps_it() {
    check_script(
        &format!("{ONE}; node b; pause 1; paused 1; resume 1 60; mute a; pass 61; pass 61"),
        expect![[r#"
        1 sandbox a paused
        node a offline
    "#]],
    );
}

#[test]
fn what_can_never_be_paused_is_stopped_in_the_end() {
    let mut fleet = fleet("node a memory=400 disk=4; template 256");
    let Command::CreateSandbox(mut wanted) = fleet.sandbox("base", 60) else { unreachable!("it is one") };
    wanted.on_timeout = OnTimeout::Pause;
    fleet.submit(Command::CreateSandbox(wanted)).unwrap();
    ["ready", "pass 60"].into_iter().for_each(|line| fleet.follow(line));
    for tries in 1..=3 {
        let (id, it) = fleet.state().instances.iter().next().map(|(id, it)| (*id, it.clone())).unwrap();
        assert_eq!(it.desired, Desired::Paused, "try {tries}");
        for (phase, failure) in [(InstancePhase::Pausing, None), (InstancePhase::Ready, Some("the disk is full"))] {
            let failure = failure.map(|why| Failure::new(Reason::SnapshotFailed, why));
            let status = InstanceStatus { phase, failure, ..it.status.clone() };
            fleet
                .submit(Command::Observe {
                    node: it.node,
                    capacity: None,
                    instances: vec![(id, status)],
                    volumes: None,
                })
                .unwrap();
        }
        fleet.settle();
    }
    assert_eq!(fleet.state().instances.values().next().unwrap().desired, Desired::Stopped);
}

#[test]
fn who_asks_again_for_no_more_time_is_given_none() {
    let mut fleet = fleet(&format!("{ONE}; pause 1; paused 1"));
    assert_eq!(fleet.resumes("1", 60), Ok(2));
    assert_eq!(fleet.resumes("1", 60), Ok(0));
    assert_eq!(fleet.resumes("1", 59), Ok(0));
    assert_eq!(fleet.resumes("1", 61), Ok(1));
}
