use expect_test::{Expect, expect};
use plfm_core::command::{Command, NodeOrder};
use plfm_core::event::{Capacity, Degradation, Event, InstanceStatus};
use plfm_core::ids::{BootId, LogId};
use plfm_core::phase::{InstancePhase, NodePhase};
use plfm_core::reason::Reason;
use plfm_core::refusal::Refusal;
use plfm_core::units::Mebibytes;
use ulid::Ulid;

use crate::fleet::{Fleet, capacity, check_script, deploy, manifest};

const TWO: &str = "node a; node b; deploy v1 x2; ready;";
const TEN: &str =
    "node a; node b; node c; node d; node e; node f; node g; node h; node i; node j; deploy v1 x10; ready;";

fn after(begin: &str, script: &str, expected: Expect) {
    check_script(&format!("{begin} {script}"), expected);
}

#[test]
fn an_operator_may_tolerate_that_a_node_is_degraded_as_it_is() {
    let mut fleet = Fleet::new();
    fleet.follow("node a");
    let node = fleet.node("a");
    let is = |fleet: &mut Fleet, degraded: &[Degradation]| {
        let capacity = Capacity { degraded: degraded.iter().copied().collect(), ..capacity(4096, 10_240) };
        fleet
            .submit(Command::Observe { node, capacity: Some(capacity), instances: Vec::new(), volumes: None })
            .unwrap();
        fleet.beat();
    };
    let order = |fleet: &mut Fleet, order| fleet.submit(Command::OrderNode { node, order });
    let takes_work = |fleet: &Fleet| fleet.state().nodes[&node].takes_work();
    assert_eq!(order(&mut fleet, NodeOrder::Tolerate), Err(Refusal::NodeNotDegraded(node)));

    is(&mut fleet, &[Degradation::DiskPressure]);
    fleet.submit(deploy("v1", manifest(1, 64, 1))).unwrap();
    fleet.settle();
    assert!(!takes_work(&fleet) && fleet.state().live_on(node).count() == 0);
    assert_eq!([order(&mut fleet, NodeOrder::Tolerate), order(&mut fleet, NodeOrder::Tolerate)], [Ok(1), Ok(0)]);
    fleet.settle();
    assert!(takes_work(&fleet) && fleet.state().live_on(node).count() == 1);

    // What comes on top of it nobody has tolerated.
    is(&mut fleet, &[Degradation::DiskPressure, Degradation::KvmLoss]);
    assert!(!takes_work(&fleet));
    is(&mut fleet, &[Degradation::DiskPressure]);
    assert!(takes_work(&fleet));
    assert_eq!([order(&mut fleet, NodeOrder::Distrust), order(&mut fleet, NodeOrder::Distrust)], [Ok(1), Ok(0)]);
    assert!(!takes_work(&fleet));

    // It was said of that trouble, not of the next one.
    order(&mut fleet, NodeOrder::Tolerate).unwrap();
    is(&mut fleet, &[]);
    is(&mut fleet, &[Degradation::DiskPressure]);
    assert!(!takes_work(&fleet));
}

#[test]
fn a_drained_node_is_replaced_before_it_is_left() {
    after(
        TWO,
        "drain a",
        expect![[r#"
        1 v1 a ready
        2 v1 b ready
        3 v1 b allocated
        deploy v1 succeeded
        node a draining
    "#]],
    );
    after(
        TWO,
        "drain a; ready",
        expect![[r#"
        1 v1 a ready, to be draining
        2 v1 b ready
        3 v1 b ready
        deploy v1 succeeded
        node a draining
    "#]],
    );
    after(
        TWO,
        "drain a; ready; leave",
        expect![[r#"
        1 v1 a gone, to be draining
        2 v1 b ready
        3 v1 b ready
        deploy v1 succeeded
        node a draining
    "#]],
    );
}

#[test]
fn a_node_that_says_it_has_less_keeps_what_is_promised_on_it() {
    let mut fleet = Fleet::new();
    ["node a", "deploy v1 x1", "ready"].iter().for_each(|line| fleet.follow(line));
    let node = fleet.node("a");
    let (held, capacity) = (fleet.state().index().held(node), fleet.state().nodes[&node].capacity.clone());
    let told = Capacity { memory: Mebibytes(1), disk: Mebibytes(2), ..capacity };
    fleet.submit(Command::Observe { node, capacity: Some(told), instances: Vec::new(), volumes: None }).unwrap();
    let kept = &fleet.state().nodes[&node].capacity;
    assert_eq!((kept.memory, kept.disk), (held.memory, held.disk));
    assert!(held.memory > Mebibytes(1) && held.disk > Mebibytes(2));
}

#[test]
fn a_way_back_is_news_of_another_boot_only() {
    let mut fleet = Fleet::new();
    ["node a", "deploy v1 x1", "ready"].iter().for_each(|line| fleet.follow(line));
    let (instance, it) = fleet.state().instances.iter().next().unwrap();
    let (instance, node, known) = (*instance, it.node, it.status.clone());
    let mut events_of = |boot| {
        let status = InstanceStatus { phase: InstancePhase::Booting, boot, ..known.clone() };
        fleet
            .submit(Command::Observe { node, capacity: None, instances: vec![(instance, status)], volumes: None })
            .unwrap()
    };
    assert_eq!(events_of(known.boot), 0, "it says late what was so before");
    assert_eq!(events_of(Some(BootId::new(ulid::Ulid::from_parts(7, 7)))), 1);
}

#[test]
fn what_was_to_be_stopped_on_a_lost_node_ends_with_it() {
    let mut fleet = Fleet::new();
    let script = ["node a", "node b", "deploy v1 x1", "ready", "mute a", "pass 60", "ready"];
    script.iter().for_each(|line| fleet.follow(line));
    let node = fleet.node("a");
    fleet.follow("decommission a");
    let (lost, status) = fleet.state().instances.iter().map(|(_, it)| (it.node, it.status.clone())).next().unwrap();
    assert_eq!((lost, status.phase), (node, InstancePhase::Gone));
    assert_eq!(status.failure.unwrap().reason, Reason::NodeLost);
}

#[test]
fn of_one_node_five_are_in_motion_at_once() {
    let apps = ["a", "b", "c", "d", "e", "f", "g"].map(|app| format!("deploy v1 x1 app={app};")).concat();
    after(
        &format!("node a memory=2048; {apps} ready; node b;"),
        "drain a",
        expect![[r#"
            1 v1 a ready
            2 v1 a ready
            3 v1 a ready
            4 v1 a ready
            5 v1 a ready
            6 v1 a ready
            7 v1 a ready
            8 v1 b allocated
            9 v1 b allocated
            10 v1 b allocated
            11 v1 b allocated
            12 v1 b allocated
            deploy v1 succeeded
            deploy v1 succeeded
            deploy v1 succeeded
            deploy v1 succeeded
            deploy v1 succeeded
            deploy v1 succeeded
            deploy v1 succeeded
            node a draining
        "#]],
    );
}

#[test]
fn without_room_the_drain_waits_and_says_so() {
    after(
        "node a memory=100; node b memory=100; deploy v1 x2; ready;",
        "drain a; pass 300",
        expect![[r#"
        1 v1 a ready
        2 v1 b ready
        deploy v1 succeeded
        node a draining
        waits: no node has 100 MiB of memory free (the most is 0 MiB)
    "#]],
    );
    after(
        "node a memory=100; node b memory=100; deploy v1 x2; ready;",
        "drain a; pass 300; activate a",
        expect![[r#"
        1 v1 a ready
        2 v1 b ready
        deploy v1 succeeded
    "#]],
    );
}

#[test]
fn a_disabled_node_is_left_after_a_minute_come_what_may() {
    let full = "node a memory=100; node b memory=100; deploy v1 x2; ready;";
    after(
        full,
        "disable a; pass 59",
        expect![[r#"
        1 v1 a ready
        2 v1 b ready
        deploy v1 succeeded
        node a disabled
        waits: no node has 100 MiB of memory free (the most is 0 MiB)
    "#]],
    );
    after(
        full,
        "disable a; pass 60",
        expect![[r#"
        1 v1 a ready, to be stopped
        2 v1 b ready
        deploy v1 succeeded
        node a disabled
        waits: no node has 100 MiB of memory free (the most is 0 MiB)
    "#]],
    );
}

#[test]
fn an_empty_node_is_decommissioned_and_its_name_is_free() {
    after(
        TWO,
        "drain a; ready; leave; decommission a",
        expect![[r#"
        1 v1 a gone, to be draining
        2 v1 b ready
        3 v1 b ready
        deploy v1 succeeded
        node a decommissioned
    "#]],
    );
    after(
        TWO,
        "drain a; ready; leave; decommission a; node a; deploy v1 x4",
        expect![[r#"
        1 v1 a gone, to be draining
        2 v1 b ready
        3 v1 b ready
        4 v1 a allocated
        5 v1 a allocated
        6 v1 b allocated
        deploy v1 succeeded
        deploy v1 rolling
        node a decommissioned
    "#]],
    );
}

#[test]
fn what_was_lost_with_a_node_ends_with_it() {
    after(
        TWO,
        "mute b; pass 60; ready; decommission b",
        expect![[r#"
        1 v1 a ready
        2 v1 b gone, to be stopped
        3 v1 a ready
        deploy v1 succeeded
        node b decommissioned
    "#]],
    );
}

#[test]
fn a_node_comes_back_as_what_it_was() {
    after(
        "node a; node b; drain b;",
        "mute b; pass 60",
        expect![[r#"
        node b offline
    "#]],
    );
    after(
        "node a; node b; drain b;",
        "mute b; pass 60; hear b",
        expect![[r#"
        node b draining
    "#]],
    );
}

#[test]
fn when_many_fall_silent_at_once_nothing_moves() {
    let four = "mute a; mute b; mute c; mute d; pass 60";
    after(
        TEN,
        "mute a; mute b; mute c; pass 60",
        expect![[r#"
        1 v1 a ready, to be stopped
        2 v1 b ready, to be stopped
        3 v1 c ready, to be stopped
        4 v1 d ready
        5 v1 e ready
        6 v1 f ready
        7 v1 g ready
        8 v1 h ready
        9 v1 i ready
        10 v1 j ready
        11 v1 d allocated
        12 v1 e allocated
        13 v1 f allocated
        deploy v1 succeeded
        node a offline
        node b offline
        node c offline
    "#]],
    );
    after(
        TEN,
        four,
        expect![[r#"
        1 v1 a ready
        2 v1 b ready
        3 v1 c ready
        4 v1 d ready
        5 v1 e ready
        6 v1 f ready
        7 v1 g ready
        8 v1 h ready
        9 v1 i ready
        10 v1 j ready
        deploy v1 succeeded
        node a offline
        node b offline
        node c offline
        node d offline
        frozen
    "#]],
    );
    after(
        TEN,
        &format!("{four}; hear d"),
        expect![[r#"
        1 v1 a ready, to be stopped
        2 v1 b ready, to be stopped
        3 v1 c ready, to be stopped
        4 v1 d ready
        5 v1 e ready
        6 v1 f ready
        7 v1 g ready
        8 v1 h ready
        9 v1 i ready
        10 v1 j ready
        11 v1 d allocated
        12 v1 e allocated
        13 v1 f allocated
        deploy v1 succeeded
        node a offline
        node b offline
        node c offline
    "#]],
    );
    after(
        TEN,
        &format!("{four}; force"),
        expect![[r#"
        1 v1 a ready, to be stopped
        2 v1 b ready, to be stopped
        3 v1 c ready, to be stopped
        4 v1 d ready, to be stopped
        5 v1 e ready
        6 v1 f ready
        7 v1 g ready
        8 v1 h ready
        9 v1 i ready
        10 v1 j ready
        11 v1 e allocated
        12 v1 f allocated
        13 v1 g allocated
        14 v1 h allocated
        deploy v1 succeeded
        node a offline
        node b offline
        node c offline
        node d offline
    "#]],
    );
}

#[test]
fn one_after_the_other_within_a_minute_is_at_once() {
    let script = "mute a; pass 10; mute b; pass 10; mute c; pass 10; mute d; pass 59";
    after(
        TEN,
        script,
        expect![[r#"
        1 v1 a ready
        2 v1 b ready
        3 v1 c ready
        4 v1 d ready
        5 v1 e ready
        6 v1 f ready
        7 v1 g ready
        8 v1 h ready
        9 v1 i ready
        10 v1 j ready
        deploy v1 succeeded
        node a offline
        node b offline
        node c offline
        frozen
    "#]],
    );
}

#[test]
fn who_takes_leave_too_long_is_stopped() {
    let script = "deploy v2 x2; ready;";
    after(
        TWO,
        &format!("{script} pass 14"),
        expect![[r#"
        1 v1 a ready
        2 v1 b ready, to be draining
        3 v2 a ready
        4 v2 b allocated
        deploy v1 succeeded
        deploy v2 rolling
    "#]],
    );
    after(
        TWO,
        &format!("{script} pass 15"),
        expect![[r#"
        1 v1 a ready
        2 v1 b ready, to be stopped
        3 v2 a ready
        4 v2 b allocated
        deploy v1 succeeded
        deploy v2 rolling
    "#]],
    );
}

/// Of what is wrong with it a node has to say something.
#[test]
fn a_failure_without_a_reason_is_none() {
    let mut fleet = Fleet::new();
    ["node a", "deploy v1 x1"].iter().for_each(|line| fleet.follow(line));
    let (id, it) = fleet.state().instances.iter().next().map(|(id, it)| (*id, it.clone())).unwrap();
    for phase in [InstancePhase::Failed, InstancePhase::Unready] {
        let status = InstanceStatus { phase, failure: None, ..it.status.clone() };
        let told = fleet.submit(Command::Observe {
            node: it.node,
            capacity: None,
            instances: vec![(id, status)],
            volumes: None,
        });
        assert_eq!(told, Err(Refusal::StatusUnexplained { instance: id, phase }));
    }
}

#[test]
fn a_restored_log_gives_out_no_address_that_the_lost_end_of_the_other_may_have_given() {
    let mut fleet = Fleet::new();
    fleet.follow("node a");
    let next = |fleet: &Fleet| fleet.state().nodes[&fleet.node("a")].next_host;
    let before = next(&fleet);
    fleet.happens(Event::LogStarted { log: LogId::new(Ulid::from_parts(9, 9)) });
    assert!(next(&fleet) > before + u64::from(u32::MAX));
}

#[test]
fn a_lost_node_that_was_heard_once_is_not_what_it_was() {
    let mut fleet = Fleet::new();
    ["node a", "mute a", "pass 61", "murmur a"].iter().for_each(|line| fleet.follow(line));
    let node = fleet.node("a");
    let back = fleet.submit(Command::SetNodePhase { node, phase: NodePhase::Active });
    assert!(matches!(back, Err(Refusal::Stale { .. })), "{back:?}");
}
