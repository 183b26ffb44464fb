use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use expect_test::expect;
use plfm_core::command::Command;
use plfm_core::event::{Capacity, Degradation, Waiting};
use plfm_core::facts::INELIGIBLE_AFTER;
use plfm_core::fair::Class;
use plfm_core::labels::Labels;
use plfm_core::place::report::{Verdict, report};
use plfm_core::place::{Choice, NoPlace, Wanted, Wish, one, place};
use plfm_core::refusal::Refusal;
use plfm_core::units::MilliCpu;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::fleet::{Fleet, capacity, check_script, deploy_as, manifest, template, zone};

#[test]
fn replicas_spread_before_they_pack() {
    check_script(
        "node a memory=4096; node b; node c; deploy v1 x4",
        expect![[r#"
            1 v1 a allocated
            2 v1 b allocated
            3 v1 c allocated
            4 v1 a allocated
            deploy v1 rolling
        "#]],
    );
}

#[test]
fn where_the_image_is_already_is_better_than_elsewhere() {
    let mut fleet = Fleet::new();
    for line in ["node a", "node b", "node c", "deploy v1 x1 app=one"] {
        fleet.follow(line);
    }
    let (node, held) = (fleet.node("c"), ["a", "b"].map(|name| fleet.node(name)));
    let wanted = everything(&fleet);
    assert_ne!(asked_all(&fleet, &wanted[0]), Some(node));
    let images = fleet.state().releases.values().flat_map(|it| it.image.platforms.values().copied()).collect();
    fleet.facts.hear(node, Arc::new(images));
    assert_eq!(place(fleet.state(), &fleet.facts, &wanted).choices[0].node, node);
    assert!(!held.contains(&node));
}

#[test]
fn who_has_not_been_heard_for_thirty_seconds_gets_nothing() {
    let mut fleet = Fleet::new();
    fleet.report_only("node a");
    fleet.report_only("deploy v1 x1");
    fleet.beat();
    let (wanted, heard) = (everything(&fleet), fleet.facts.now);
    let mut choices = |silent: Duration| {
        fleet.facts.now = heard + silent;
        place(fleet.state(), &fleet.facts, &wanted).choices.len()
    };
    assert_eq!(choices(INELIGIBLE_AFTER - Duration::from_millis(1)), 1);
    assert_eq!(choices(INELIGIBLE_AFTER), 0);
}

#[test]
fn of_equal_nodes_the_smallest_id_is_taken() {
    check_script(
        "node a; node b; node c; deploy v1 x1",
        expect![[r#"
            1 v1 a allocated
            deploy v1 rolling
        "#]],
    );
}

#[test]
fn memory_counts_with_the_overhead_of_the_machine() {
    check_script(
        "node a memory=199; node b memory=200; deploy v1 x3",
        expect![[r#"
            1 v1 a allocated
            2 v1 b allocated
            3 v1 b allocated
            deploy v1 rolling
        "#]],
    );
}

#[test]
fn who_waits_for_memory_is_told_how_much_there_is() {
    check_script(
        "node a memory=300; node b memory=200; deploy v1 x1 memory=512",
        expect![[r#"
        deploy v1 rolling
        waits: no node has 548 MiB of memory free (the most is 300 MiB)
    "#]],
    );
}

#[test]
fn who_waits_for_disk_is_told_how_much_there_is() {
    check_script(
        "node a disk=9; node b disk=8; deploy v1 x1 disk=10",
        expect![[r#"
        deploy v1 rolling
        waits: no node has 10240 MiB of disk free (the most is 9216 MiB)
    "#]],
    );
}

#[test]
fn an_image_for_a_platform_that_no_node_has_is_not_waited_with() {
    check_script(
        "node a arch=arm64; deploy v1 x1",
        expect![[r#"
        deploy v1 failed, image_platform_unavailable: the image is made for amd64, the nodes are arm64
    "#]],
    );
    check_script(
        "node a arch=arm64; node b; mute b; pass 61; deploy v1 x1",
        expect![[r#"
            deploy v1 rolling
            node b offline
            waits: the image is made for amd64, the nodes are arm64
        "#]],
    );
    check_script(
        "node a arch=arm64; node b; deploy v1 x1",
        expect![[r#"
        1 v1 b allocated
        deploy v1 rolling
    "#]],
    );
}

#[test]
fn new_work_goes_to_nodes_with_the_labels_that_are_asked_for() {
    check_script(
        "node a; node b zone=x; node c zone=y; require zone=x; deploy v1 x2",
        expect![[r#"
        1 v1 b allocated
        2 v1 b allocated
        deploy v1 rolling
    "#]],
    );
    check_script(
        "node a; node b zone=x; deploy v1 x1; require shop zone=y; deploy v2 x1; node c zone=y; ready; pass 10; leave",
        expect![[r#"
        1 v1 a gone, to be draining
        2 v2 c ready
        deploy v1 superseded
        deploy v2 succeeded
    "#]],
    );
    check_script(
        "node a zone=x; require zone=x; deploy v1 x1; require shop zone=y; ready; pass 1000",
        expect![[r#"
        1 v1 a ready
        deploy v1 succeeded
    "#]],
    );
    check_script(
        "node a; require zone=x; deploy v1 x1",
        expect![[r#"
            deploy v1 rolling
            waits: no node that takes work and could run it is labelled zone=x
        "#]],
    );
}

#[test]
fn nothing_gives_way_where_its_successor_may_not_go() {
    // On b, which is wanted, is too little room; on a there is enough.
    check_script(
        "node a; deploy v1 x2 memory=100; ready; node b zone=x memory=120; require shop zone=x; deploy v2 x2 memory=100; pass 60",
        expect![[r#"
            1 v1 a ready
            2 v1 a ready
            deploy v1 succeeded
            deploy v2 rolling
            waits: no node has 136 MiB of memory free (the most is 120 MiB)
        "#]],
    );
    check_script(
        "limit instances 2; node a; deploy v1 x2; ready; node b zone=x; require shop zone=x; deploy v2 x2; ready; leave; ready; leave",
        expect![[r#"
            1 v1 a gone, to be draining
            2 v1 a gone, to be draining
            3 v2 b ready
            4 v2 b allocated
            deploy v1 succeeded
            deploy v2 rolling
        "#]],
    );
}

#[test]
fn what_cannot_start_stays_where_no_other_node_is_wanted() {
    check_script(
        "node a zone=x; node b; require zone=x; deploy v1 x1; fail 1 vmm_start_failed",
        expect![[r#"
        1 v1 a failed
        deploy v1 rolling
    "#]],
    );
}

#[test]
fn a_node_can_be_labelled_later() {
    let mut fleet = Fleet::new();
    fleet.follow("node a");
    fleet.follow("require zone=x");
    fleet.follow("deploy v1 x1");
    assert!(fleet.state().instances.is_empty());
    let node = fleet.node("a");
    let known = fleet.state().nodes[&node].capacity.clone();
    let junk = ("no label".to_owned(), "x".to_owned());
    let labels = Labels(zone(Some("x")).0.into_iter().chain([junk]).collect());
    let capacity = Some(Capacity { labels, ..known });
    fleet.submit(Command::Observe { node, capacity, instances: Vec::new(), volumes: None }).unwrap();
    assert_eq!(fleet.state().nodes[&node].capacity.labels, zone(Some("x")), "what is none is left out");
    fleet.settle();
    assert_eq!(fleet.state().instances.len(), 1);
}

#[test]
fn labels_that_contradict_each_other_are_both_named() {
    check_script(
        "node a zone=x; require zone=x; deploy v1 x1; require shop zone=y; deploy v2 x2",
        expect![[r#"
            1 v1 a allocated
            deploy v1 superseded
            deploy v2 rolling
            waits: no node that takes work and could run it is labelled zone=x, zone=y
        "#]],
    );
}

#[test]
fn a_sandbox_too_goes_where_its_org_wants_it() {
    let mut fleet = Fleet::new();
    fleet.joins_as("a", capacity(4_000, 20_000));
    fleet.beat();
    fleet.submit(template("base", 128)).unwrap();
    fleet.submit(Command::SetOrgConstraints { org: fleet.org(), constraints: zone(Some("x")) }).unwrap();
    let refused = fleet.submit(fleet.sandbox("base", 60)).unwrap_err();
    assert_eq!(refused, Refusal::NoRoom(Waiting::NoNodeLabelled { asked: vec!["zone=x".to_owned()] }));
    let junk = ("no label".to_owned(), "x".to_owned());
    let labels = Labels(zone(Some("x")).0.into_iter().chain([junk]).collect());
    fleet.joins_as("b", Capacity { labels, ..capacity(4_000, 20_000) });
    assert_eq!(fleet.state().nodes[&fleet.node("b")].capacity.labels, zone(Some("x")));
    fleet.beat();
    fleet.submit(fleet.sandbox("base", 60)).unwrap();
    assert_eq!(fleet.state().instances.values().next().unwrap().node, fleet.node("b"));
}

#[test]
fn without_nodes_everything_waits() {
    check_script(
        "deploy v1 x2",
        expect![[r#"
        deploy v1 rolling
        waits: no node takes new work
    "#]],
    );
    check_script(
        "deploy v1 x2; node a",
        expect![[r#"
        1 v1 a allocated
        2 v1 a allocated
        deploy v1 rolling
    "#]],
    );
}

#[test]
fn a_silent_node_gets_nothing_new() {
    check_script(
        "node a; node b; mute a; pass 31; deploy v1 x2",
        expect![[r#"
        1 v1 b allocated
        2 v1 b allocated
        deploy v1 rolling
    "#]],
    );
}

/// Replicas, MiB of memory, GiB of disk.
type Group = (u32, u64, u64);

/// Nodes and groups of any size, and the zone that the first group wants; nothing is placed yet.
fn crowd() -> impl Strategy<Value = (Vec<Capacity>, Vec<Group>, Option<&'static str>)> {
    let node = (
        select(vec![400, 1_000, 4_000]),
        1..40u64,
        select(vec![0, 1_000, 8_000]),
        select(vec!["amd64", "arm64"]),
        0..8u8,
        select(vec![None, Some("a"), Some("b")]),
    );
    let node = node.prop_map(|(memory, disk, cpu, arch, luck, of)| Capacity {
        arch: arch.to_owned(),
        cpu: MilliCpu(cpu),
        degraded: (luck == 0).then_some(Degradation::DiskPressure).into_iter().collect(),
        labels: zone(of),
        ..capacity(memory, disk << 10)
    });
    let groups = vec((0..7u32, select(vec![64, 100, 700]), 1..9u64), 1..5);
    (vec(node, 0..8), groups, select(vec![None, None, Some("a")]))
}

fn fleet_of(nodes: Vec<Capacity>, groups: &[Group]) -> Fleet {
    let mut fleet = Fleet::new();
    nodes.into_iter().zip('a'..).for_each(|(capacity, name)| fleet.joins_as(&name.to_string(), capacity));
    for ((replicas, memory, disk), name) in groups.iter().zip('a'..) {
        fleet.submit(deploy_as(&name.to_string(), manifest(*replicas, *memory, *disk))).unwrap();
    }
    fleet.beat();
    fleet
}

/// Of the first app; the others may be anywhere.
fn requires(fleet: &mut Fleet, asked: Option<&str>) {
    let env = *fleet.state().envs.keys().next().unwrap();
    fleet.submit(Command::SetEnvConstraints { env, constraints: zone(asked) }).unwrap();
}

fn everything(fleet: &Fleet) -> Vec<Wanted> {
    let groups = fleet.state().envs.iter().flat_map(|(env, it)| it.groups.iter().map(move |group| (*env, group)));
    let wanted = groups.map(|(env, (process, group))| {
        let count = fleet.state().process(group.release, process).unwrap().scaling.min;
        let (class, since) = (Class::Normal, None);
        Wanted { env, process: process.clone(), release: group.release, count, class, since }
    });
    wanted.filter(|want| want.count > 0).collect()
}

/// The best node as one finds it who asks every node.
fn asked_all(fleet: &Fleet, want: &Wanted) -> Option<plfm_core::ids::NodeId> {
    let report = report(fleet.state(), &fleet.facts, want.clone());
    let siblings = |node| fleet.state().live_on(node).filter(|(_, it)| it.is_of(want.env, &want.process)).count();
    let fits = report.nodes.iter().filter_map(|(node, verdict)| match verdict {
        Verdict::Fits { score } => Some((*score, *node)),
        _ => None,
    });
    let key = |(score, node): &(i64, _)| (siblings(*node) == 0, *score, std::cmp::Reverse(*node));
    fits.max_by_key(key).map(|(_, node)| node)
}

/// Every other node has every other image.
fn holds_images(fleet: &mut Fleet) {
    let releases = fleet.state().releases.values().step_by(2);
    let images: Arc<BTreeSet<_>> = Arc::new(releases.flat_map(|it| it.image.platforms.values().copied()).collect());
    let nodes: Vec<_> = fleet.state().nodes.keys().copied().step_by(2).collect();
    nodes.into_iter().for_each(|node| fleet.facts.hear(node, images.clone()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn who_looks_at_few_nodes_chooses_as_who_looks_at_all((nodes, groups, asked) in crowd()) {
        let mut fleet = fleet_of(nodes, &groups);
        requires(&mut fleet, asked);
        holds_images(&mut fleet);
        let wanted = everything(&fleet);
        let placement = place(fleet.state(), &fleet.facts, &wanted);
        prop_assert_eq!(&placement, &place(fleet.state(), &fleet.facts, &wanted));
        for Choice { env, process, release, node, class } in placement.choices {
            let want = wanted.iter().find(|want| want.env == env).unwrap();
            prop_assert_eq!(asked_all(&fleet, want), Some(node));
            let wish = Wish::of(fleet.state(), want).unwrap();
            prop_assert_eq!(one(fleet.state(), &fleet.facts, wish).map(|(node, _)| node), Ok(node));
            fleet.submit(Command::Allocate { env, process, release, node, class }).unwrap();
        }
        for (env, _, why) in placement.waiting {
            let want = wanted.iter().find(|want| want.env == env).unwrap();
            prop_assert_eq!(asked_all(&fleet, want), None);
            let wish = Wish::of(fleet.state(), want).unwrap();
            prop_assert_eq!(one(fleet.state(), &fleet.facts, wish), Err(NoPlace::Waits(why)));
        }
    }
}
