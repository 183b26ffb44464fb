//! Sandboxes: accepted and placed at once or refused at once, their time, their end.

use std::time::Duration;

use expect_test::expect;
use plfm_core::command::{Command, CreateTemplate};
use plfm_core::decide::sandboxes::{METADATA_MAX, TIMEOUT_MAX};
use plfm_core::event::{InstanceStatus, Startup, Waiting};
use plfm_core::ids::{BootId, InstanceId};
use plfm_core::manifest::Resources as Size;
use plfm_core::phase::InstancePhase;
use plfm_core::quota::Dimension;
use plfm_core::reconcile::reconcile;
use plfm_core::refusal::{Refusal, RefusalClass};
use plfm_core::units::{Mebibytes, MilliCpu};

use crate::fleet::{Fleet, check_script, template};

#[test]
fn it_is_placed_in_the_decision_that_accepts_it() {
    let mut fleet = Fleet::new();
    fleet.follow("node a");
    fleet.follow("template 256");
    assert_eq!(fleet.submit(fleet.sandbox("base", 60)), Ok(1), "one event says all");
    let (_, it) = fleet.state().instances.iter().next().unwrap();
    assert_eq!((it.node, it.resources.memory.0, it.resources.overhead.0), (fleet.node("a"), 256, 36));
    assert_eq!(it.sandbox().unwrap().ends_at, None, "its time has not begun");
}

#[test]
fn no_room_is_not_a_denial() {
    let mut fleet = Fleet::new();
    fleet.follow("node a memory=400");
    fleet.follow("template 256");
    fleet.follow("sandbox 60");
    let full = fleet.submit(fleet.sandbox("base", 60)).unwrap_err();
    assert!(matches!(full, Refusal::NoRoom(Waiting::NoCapacityMemory { .. })), "{full}");
    assert_eq!(full.class(), RefusalClass::Unavailable);
    fleet.follow("limit instances 1");
    let both = fleet.submit(fleet.sandbox("base", 60)).unwrap_err();
    assert!(matches!(both, Refusal::QuotaExceeded(_)), "waiting would not help: {both}");
    fleet.follow("node b");
    let denied = fleet.submit(fleet.sandbox("base", 60)).unwrap_err();
    let is_quota = |excess: &plfm_core::quota::Excess| excess.dimension == Dimension::Instances;
    assert!(matches!(&denied, Refusal::QuotaExceeded(excess) if is_quota(excess)), "{denied}");
    fleet.follow("limit instances 2");
    assert_eq!(fleet.submit(fleet.sandbox("base", 60)), Ok(1));
}

#[test]
fn who_asks_again_does_not_get_another() {
    let mut fleet = Fleet::new();
    fleet.follow("node a");
    fleet.follow("template 256");
    let asked = fleet.sandbox("base", 60);
    fleet.submit(asked.clone()).unwrap();
    assert!(matches!(fleet.submit(asked), Err(Refusal::SandboxExists(_))));
}

#[test]
fn apps_and_sandboxes_share_what_an_org_may_have() {
    let mut fleet = Fleet::new();
    fleet.follow("node a");
    fleet.follow("template 256");
    fleet.follow("limit instances 2");
    fleet.follow("deploy v1 x1");
    fleet.follow("sandbox 60");
    assert!(matches!(fleet.submit(fleet.sandbox("base", 60)), Err(Refusal::QuotaExceeded(_))));
    fleet.follow("kill 2");
    assert_eq!(fleet.submit(fleet.sandbox("base", 60)), Ok(1), "what is to be stopped counts no more");
}

#[test]
fn who_has_waited_long_for_room_is_not_passed_by() {
    let mut fleet = Fleet::new();
    fleet.follow("node a memory=700 disk=1000");
    fleet.follow("template 256");
    fleet.follow("sandbox 600");
    fleet.follow("deploy v1 x1 memory=600");
    fleet.follow("pass 20");
    assert_eq!(fleet.submit(fleet.sandbox("base", 1)), Ok(1), "what does not fit is passed over for a while");
    fleet.follow("kill 2");
    fleet.follow("leave");
    fleet.follow("pass 20");
    assert!(matches!(fleet.submit(fleet.sandbox("base", 1)), Err(Refusal::NoRoom(Waiting::Reserved))));
    fleet.follow("kill 1");
    fleet.follow("leave");
    let placed = |fleet: &Fleet| fleet.state().instances.values().any(|it| it.replica().is_some());
    assert!(placed(&fleet), "{}", fleet.picture());
}

#[test]
fn its_time_begins_when_it_is_ready() {
    check_script(
        "node a; template 256; sandbox 60; pass 120; ready; pass 59",
        expect![[r#"
            1 sandbox a ready
        "#]],
    );
    check_script(
        "node a; template 256; sandbox 60; pass 120; ready; pass 61",
        expect![[r#"
            1 sandbox a ready, to be stopped
        "#]],
    );
}

#[test]
fn what_does_not_start_is_ended() {
    check_script(
        "node a; template 256; sandbox 60; pass 301",
        expect![[r#"
            1 sandbox a allocated, to be stopped
        "#]],
    );
}

#[test]
fn what_an_org_is_denied_keeps_nobody_else_out() {
    let mut fleet = Fleet::new();
    fleet.follow("node a memory=2000 disk=1000");
    fleet.follow("template 256");
    fleet.report_only("deploy v1 x1 memory=600");
    fleet.follow("limit memory 600");
    assert!(fleet.picture().contains("waits"), "with the overhead it is over the limit: {}", fleet.picture());
    fleet.follow("pass 60");
    fleet.follow("limit memory 2000");
    fleet.submit(fleet.sandbox("base", 60)).unwrap();
}

#[test]
fn what_has_failed_is_over() {
    check_script(
        "node a; template 256; sandbox 60; ready; fail 1 workload_exited",
        expect![[r#"
            1 sandbox a failed, to be stopped
        "#]],
    );
    check_script(
        "node a; template 256; sandbox 60; fail 1 image_pull_failed; leave",
        expect![[r#"
            1 sandbox a gone, to be stopped
        "#]],
    );
}

#[test]
fn a_node_that_is_to_be_empty_lets_it_come_to_its_end() {
    let begin = "node a; node b; template 256; sandbox 3600; ready; drain a; drain b; pass";
    check_script(
        &format!("{begin} 590"),
        expect![[r#"
            1 sandbox a ready
            node a draining
            node b draining
        "#]],
    );
    check_script(
        &format!("{begin} 610"),
        expect![[r#"
            1 sandbox a ready, to be stopped
            node a draining
            node b draining
        "#]],
    );
}

#[test]
fn on_a_lost_node_it_is_lost_and_nothing_takes_its_place() {
    check_script(
        "node a; template 256; sandbox 3600; ready; node b; mute a; pass 61",
        expect![[r#"
            1 sandbox a ready, to be stopped
            node a offline
        "#]],
    );
}

#[test]
fn more_time_and_less() {
    let mut fleet = Fleet::new();
    fleet.follow("node a");
    fleet.follow("template 256");
    fleet.follow("sandbox 60");
    fleet.follow("ready");
    let id = *fleet.state().instances.keys().next().unwrap();
    let set = |fleet: &mut Fleet, seconds| {
        let ends_at = fleet.facts.now + Duration::from_secs(seconds);
        fleet.submit(Command::SetSandboxTimeout { instance: id, ends_at, at_least: false })
    };
    assert_eq!(set(&mut fleet, 30), Ok(1));
    let (_, next_run) = reconcile(fleet.state(), &fleet.facts);
    assert_eq!(next_run, Some(fleet.facts.now + Duration::from_secs(30)), "it says when it has to look again");
    let ends_at = fleet.facts.now + Duration::from_secs(10);
    assert_eq!(fleet.submit(Command::SetSandboxTimeout { instance: id, ends_at, at_least: true }), Ok(0));
    assert!(matches!(set(&mut fleet, TIMEOUT_MAX.as_secs() + 1), Err(Refusal::InvalidSandbox(_))));
    assert_eq!(set(&mut fleet, 0), Ok(1));
    fleet.settle();
    assert!(matches!(set(&mut fleet, 600), Err(Refusal::SandboxNotFound(_))), "what is over stays over");
    assert!(matches!(fleet.submit(Command::KillSandbox { instance: id }), Err(Refusal::SandboxNotFound(_))));
}

#[test]
fn the_newest_template_has_the_name_and_sandboxes_keep_theirs() {
    let mut fleet = Fleet::new();
    fleet.follow("node a");
    fleet.follow("template 256");
    assert_eq!(fleet.submit(template("base", 256)), Ok(0), "the same again is no news");
    fleet.follow("sandbox 60");
    fleet.follow("template 512");
    assert_eq!(fleet.state().templates.len(), 1);
    let (_, it) = fleet.state().instances.iter().next().unwrap();
    assert_eq!(it.resources.memory.0, 256);
}

#[test]
fn what_cannot_be_made_is_refused() {
    let mut fleet = Fleet::new();
    fleet.follow("node a");
    assert!(matches!(fleet.submit(fleet.sandbox("base", 60)), Err(Refusal::TemplateNotFound(_))));
    for memory in [64, 1 << 30] {
        assert!(matches!(fleet.submit(template("base", memory)), Err(Refusal::InvalidSandbox(_))));
    }
    assert!(matches!(fleet.submit(template("No Name", 256)), Err(Refusal::InvalidName(_))));
    fleet.follow("template 256");
    let with = |change: &dyn Fn(&mut plfm_core::command::CreateSandbox)| {
        let mut command = fleet.sandbox("base", 60);
        let Command::CreateSandbox(wanted) = &mut command else { unreachable!("it is one") };
        change(wanted);
        command
    };
    // Each pair may be; all of them are too much.
    let large = (0..20).map(|number| (number.to_string(), "a".repeat(1_000)));
    let many = (0..=METADATA_MAX).map(|number| (number.to_string(), String::new()));
    let cases = [
        (with(&|it| it.org = "other".to_owned()), "org_not_found"),
        (with(&|it| it.project = "other".to_owned()), "project_not_found"),
        (with(&|it| it.timeout = TIMEOUT_MAX + Duration::from_secs(1)), "invalid_argument"),
        (with(&|it| it.metadata = many.clone().collect()), "invalid_argument"),
        (with(&|it| it.metadata = [("a".repeat(300), String::new())].into()), "invalid_argument"),
        (with(&|it| it.metadata = large.clone().collect()), "invalid_argument"),
    ];
    let sound = with(&|it| it.metadata = [("user".to_owned(), "ada lovelace".to_owned())].into());
    let by_id = with(&|it| it.template = fleet.state().templates.keys().next().unwrap().to_string());
    for (command, code) in cases {
        let refused = fleet.submit(command).unwrap_err();
        assert_eq!(refused.code(), code);
        assert!(!refused.to_string().contains("a sandbox is given") || refused.to_string().contains(" 7 days "));
    }
    assert_eq!(fleet.submit(sound), Ok(1));
    let again = match by_id {
        Command::CreateSandbox(wanted) => Command::CreateSandbox(Box::new(plfm_core::command::CreateSandbox {
            instance: ulid::Ulid::from_parts(7, 7).into(),
            ..*wanted
        })),
        _ => unreachable!("it is one"),
    };
    assert_eq!(fleet.submit(again), Ok(1), "a template has an id too");
    let tiny = Size { cpu: MilliCpu(50), memory: Mebibytes(256), disk: Mebibytes(1_024) };
    let Command::CreateTemplate(sound) = template("base", 256) else { unreachable!("it is one") };
    let startup = |start: &str| Startup { start: Some(start.to_owned()), ready: None };
    for wrong in [
        CreateTemplate { size: tiny, ..*sound.clone() },
        CreateTemplate { startup: startup(" "), ..*sound.clone() },
        CreateTemplate { startup: startup("serve\0"), ..*sound.clone() },
        CreateTemplate { startup: startup(&"x".repeat(4_097)), ..*sound.clone() },
        CreateTemplate { startup: Startup { ready: Some(String::new()), start: None }, ..*sound.clone() },
    ] {
        let refused = fleet.submit(Command::CreateTemplate(Box::new(wrong)));
        assert!(matches!(refused, Err(Refusal::InvalidSandbox(_))), "{refused:?}");
    }
    let other = CreateTemplate { startup: startup(&"x".repeat(4_096)), ..*sound };
    assert_eq!(
        fleet.submit(Command::CreateTemplate(Box::new(other))),
        Ok(1),
        "another one, though all else is the same"
    );
}

#[test]
fn another_boot_is_not_the_same_sandbox() {
    let mut fleet = Fleet::new();
    fleet.follow("node a");
    fleet.follow("template 256");
    fleet.follow("sandbox 60");
    fleet.follow("ready");
    let (id, known) = fleet.state().instances.iter().map(|(id, it)| (*id, it.clone())).next().unwrap();
    let boot = known.status.boot;
    let again = InstanceStatus { phase: InstancePhase::Preparing, boot: None, ..known.status };
    let report = Command::Observe { node: known.node, capacity: None, instances: vec![(id, again)], volumes: None };
    assert_eq!(fleet.submit(report), Ok(1));
    assert_eq!(again_of(&fleet, id).phase, InstancePhase::Failed, "to be made anew is its end");
    assert_eq!(again_of(&fleet, id).boot, boot, "as it was known");
    let other = BootId::new(ulid::Ulid::from_parts(9, 9));
    let again = InstanceStatus { phase: InstancePhase::Ready, boot: Some(other), ..again_of(&fleet, id) };
    let report = Command::Observe { node: known.node, capacity: None, instances: vec![(id, again)], volumes: None };
    assert_eq!(fleet.submit(report), Ok(0), "and it stays ended");
}

fn again_of(fleet: &Fleet, id: InstanceId) -> InstanceStatus {
    fleet.state().instances[&id].status.clone()
}
