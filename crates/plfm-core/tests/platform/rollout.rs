use expect_test::expect;
use plfm_core::fair::Class;

use crate::fleet::{Fleet, check_script, deploy, manifest};

const THREE: &str = "node a; node b; node c; deploy v1 x3; ready;";

fn after_three(script: &str, expected: expect_test::Expect) {
    check_script(&format!("{THREE} {script}"), expected);
}

#[test]
fn a_first_deploy_succeeds_when_all_are_ready() {
    check_script(
        "node a; deploy v1 x2; ready 1",
        expect![[r#"
        1 v1 a ready
        2 v1 a allocated
        deploy v1 rolling
    "#]],
    );
    check_script(
        "node a; deploy v1 x2; ready",
        expect![[r#"
        1 v1 a ready
        2 v1 a ready
        deploy v1 succeeded
    "#]],
    );
}

#[test]
fn a_rollback_deploys_what_ran_before() {
    check_script(
        "node a; deploy v1 x1; ready; deploy v2 x1; ready; leave; rollback; ready; leave",
        expect![[r#"
        1 v1 a gone, to be draining
        2 v2 a gone, to be draining
        3 v1 a ready
        deploy v1 succeeded
        deploy v2 succeeded
        deploy v1 succeeded
    "#]],
    );
    // In the middle of a rollout it is given up.
    check_script(
        "node a; deploy v1 x1; ready; deploy v2 x1; fail 2 image_pull_failed; rollback",
        expect![[r#"
        1 v1 a ready
        2 v2 a failed, to be draining
        deploy v1 succeeded
        deploy v2 superseded
        deploy v1 rolling
    "#]],
    );
    check_script(
        "node a; deploy v1 x1; ready; deploy v2 x1; ready; leave; rollback; ready; leave; rollback; ready; leave",
        expect![[r#"
            1 v1 a gone, to be draining
            2 v2 a gone, to be draining
            3 v1 a gone, to be draining
            4 v2 a ready
            deploy v1 succeeded
            deploy v2 succeeded
            deploy v1 succeeded
            deploy v2 succeeded
        "#]],
    );
}

#[test]
fn a_rollout_adds_one_and_takes_one() {
    after_three(
        "deploy v2 x3",
        expect![[r#"
            1 v1 a ready
            2 v1 b ready
            3 v1 c ready
            4 v2 a allocated
            deploy v1 succeeded
            deploy v2 rolling
        "#]],
    );
    after_three(
        "deploy v2 x3; ready",
        expect![[r#"
            1 v1 a ready
            2 v1 b ready, to be draining
            3 v1 c ready
            4 v2 a ready
            5 v2 b allocated
            deploy v1 succeeded
            deploy v2 rolling
        "#]],
    );
    after_three(
        "deploy v2 x3; ready; leave",
        expect![[r#"
            1 v1 a ready
            2 v1 b gone, to be draining
            3 v1 c ready
            4 v2 a ready
            5 v2 b allocated
            deploy v1 succeeded
            deploy v2 rolling
        "#]],
    );
    after_three(
        "deploy v2 x3; ready; ready; leave; ready; leave",
        expect![[r#"
            1 v1 a gone, to be draining
            2 v1 b gone, to be draining
            3 v1 c gone, to be draining
            4 v2 a ready
            5 v2 b ready
            6 v2 c ready
            deploy v1 succeeded
            deploy v2 succeeded
        "#]],
    );
}

#[test]
fn a_deploy_is_not_done_while_the_old_still_leaves() {
    check_script(
        "node a; deploy v1 x1; ready; deploy v2 x1; ready",
        expect![[r#"
            1 v1 a ready, to be draining
            2 v2 a ready
            deploy v1 succeeded
            deploy v2 rolling
        "#]],
    );
    check_script(
        "node a; deploy v1 x1; ready; deploy v2 x1; ready; leave",
        expect![[r#"
            1 v1 a gone, to be draining
            2 v2 a ready
            deploy v1 succeeded
            deploy v2 succeeded
        "#]],
    );
}

#[test]
fn another_number_of_replicas_is_another_release() {
    after_three(
        "fail 2 workload_exited; unready 3; deploy v1 x1",
        expect![[r#"
        1 v1 a ready
        2 v1 b failed, to be draining
        3 v1 c unready, to be draining
        4 v1 a allocated
        deploy v1 succeeded
        deploy v1 rolling
    "#]],
    );
    after_three(
        "deploy v1 x0; leave",
        expect![[r#"
        1 v1 a gone, to be draining
        2 v1 b gone, to be draining
        3 v1 c gone, to be draining
        deploy v1 succeeded
        deploy v1 succeeded
    "#]],
    );
}

#[test]
fn of_too_many_the_failed_go_first_then_the_unready_then_the_oldest() {
    let drained = |script: &str| {
        let mut fleet = Fleet::new();
        "node a; node b; deploy v1 x2; ready".split("; ").for_each(|line| fleet.follow(line));
        for _ in 0..3 {
            fleet.submit(allocate(&fleet)).unwrap();
        }
        script.split("; ").for_each(|line| fleet.report_only(line));
        fleet.settle();
        fleet.picture()
    };
    expect![[r#"
        1 v1 a ready, to be draining
        2 v1 b ready, to be draining
        3 v1 a ready
        4 v1 a ready
        5 v1 a ready, to be draining
        deploy v1 succeeded
    "#]]
    .assert_eq(&drained("ready 3; ready 4; ready 5"));
    expect![[r#"
        1 v1 a ready, to be draining
        2 v1 b ready, to be draining
        3 v1 a ready
        4 v1 a failed, to be draining
        5 v1 a ready
        deploy v1 succeeded
    "#]]
    .assert_eq(&drained("ready 3; fail 4 workload_exited; ready 5"));
    expect![[r#"
        1 v1 a unready, to be draining
        2 v1 b ready
        3 v1 a unready, to be draining
        4 v1 a failed, to be draining
        5 v1 a ready
        deploy v1 succeeded
    "#]]
    .assert_eq(&drained("unready 3; fail 4 workload_exited; ready 5; unready 1"));
    expect![[r#"
        1 v1 a failed, to be draining
        2 v1 b failed, to be draining
        3 v1 a allocated
        4 v1 a allocated
        5 v1 a allocated, to be draining
        deploy v1 succeeded
    "#]]
    .assert_eq(&drained("fail 1 workload_exited; fail 2 workload_exited"));
}

fn allocate(fleet: &Fleet) -> plfm_core::command::Command {
    let (env, owner) = fleet.state().envs.iter().next().unwrap();
    let (release, node) = (owner.groups["web"].release, fleet.node("a"));
    plfm_core::command::Command::Allocate { env: *env, process: "web".to_owned(), release, node, class: Class::Normal }
}

#[test]
fn what_is_not_ready_goes_first() {
    after_three(
        "unready 2; deploy v2 x3; ready 4",
        expect![[r#"
            1 v1 a ready
            2 v1 b unready, to be draining
            3 v1 c ready
            4 v2 a ready
            5 v2 b allocated
            deploy v1 succeeded
            deploy v2 rolling
        "#]],
    );
}

#[test]
fn what_restarts_while_its_successor_waits_stays() {
    check_script(
        "node a zone=x; deploy v1 x1; ready; require zone=y; deploy v2 x1; unready 1",
        expect![[r#"
            1 v1 a unready
            deploy v1 succeeded
            deploy v2 rolling
            waits: no node that takes work and could run it is labelled zone=y
        "#]],
    );
}

#[test]
fn what_is_not_ready_stays_until_another_is() {
    after_three(
        "unready 1; deploy v2 x3",
        expect![[r#"
            1 v1 a unready
            2 v1 b ready
            3 v1 c ready
            4 v2 a allocated
            deploy v1 succeeded
            deploy v2 rolling
        "#]],
    );
}

#[test]
fn a_failed_deploy_keeps_the_old_and_stops_the_new() {
    after_three(
        "deploy v2 x3; fail 4 workload_start_failed",
        expect![[r#"
            1 v1 a ready
            2 v1 b ready
            3 v1 c ready
            4 v2 a failed, to be stopped
            deploy v1 succeeded
            deploy v2 failed, workload_start_failed: as told
        "#]],
    );
    after_three(
        "deploy v2 x3; ready; leave; fail 5 startup_timeout",
        expect![[r#"
            1 v1 a ready
            2 v1 b gone, to be draining
            3 v1 c ready
            4 v2 a ready
            5 v2 b failed, to be stopped
            deploy v1 succeeded
            deploy v2 failed, startup_timeout: as told
        "#]],
    );
}

#[test]
fn what_a_failed_deploy_made_ready_may_stumble() {
    after_three(
        "deploy v2 x3; ready; leave; fail 5 startup_timeout; leave; unready 4",
        expect![[r#"
            1 v1 a ready
            2 v1 b gone, to be draining
            3 v1 c ready
            4 v2 a unready
            5 v2 b gone, to be stopped
            deploy v1 succeeded
            deploy v2 failed, startup_timeout: as told
        "#]],
    );
}

#[test]
fn a_new_deploy_supersedes_the_one_before() {
    after_three(
        "deploy v2 x3; deploy v3 x3",
        expect![[r#"
            1 v1 a ready
            2 v1 b ready
            3 v1 c ready
            4 v2 a allocated, to be draining
            5 v3 b allocated
            deploy v1 succeeded
            deploy v2 superseded
            deploy v3 rolling
        "#]],
    );
}

#[test]
fn only_what_the_user_must_mend_fails_a_deploy_at_once() {
    let one = |reason: &str| format!("node a; deploy v1 x1; fail 1 {reason}");
    check_script(
        &one("image_layer_invalid"),
        expect![[r#"
        1 v1 a failed, to be stopped
        deploy v1 failed, image_layer_invalid: as told
    "#]],
    );
    check_script(
        &one("oom_killed"),
        expect![[r#"
        1 v1 a failed, to be stopped
        deploy v1 failed, oom_killed: as told
    "#]],
    );
    check_script(
        &one("image_pull_failed"),
        expect![[r#"
        1 v1 a failed
        deploy v1 rolling
    "#]],
    );
    check_script(
        &one("workload_exited"),
        expect![[r#"
        1 v1 a failed
        deploy v1 rolling
    "#]],
    );
    check_script(
        &one("guest_protocol_mismatch"),
        expect![[r#"
        1 v1 a failed
        deploy v1 rolling
    "#]],
    );
}

#[test]
fn the_third_failure_fails_the_deploy_whatever_it_is() {
    let again = "prepare 1; fail 1 image_pull_failed;";
    check_script(
        &format!("node a; deploy v1 x1; {again} {again}"),
        expect![[r#"
        1 v1 a failed
        deploy v1 rolling
    "#]],
    );
    check_script(
        &format!("node a; deploy v1 x1; {again} {again} {again}"),
        expect![[r#"
        1 v1 a failed, to be stopped
        deploy v1 failed, image_pull_failed: as told
    "#]],
    );
}

#[test]
fn a_deploy_that_takes_too_long_fails_and_says_what_it_waited_for() {
    check_script(
        "node a; deploy v1 x1; pass 599",
        expect![[r#"
        1 v1 a allocated
        deploy v1 rolling
    "#]],
    );
    check_script(
        "node a; deploy v1 x1; pass 600",
        expect![[r#"
            1 v1 a allocated, to be stopped
            deploy v1 failed, startup_timeout: not ready in 10 minutes
        "#]],
    );
    check_script(
        "node a memory=64; deploy v1 x1; pass 600",
        expect![[r#"
            deploy v1 failed, startup_timeout: not ready in 10 minutes: no node has 100 MiB of memory free (the most is 64 MiB)
        "#]],
    );
}

#[test]
fn where_there_is_no_room_for_a_surge_one_goes_first() {
    let full = "node a memory=100; node b memory=100; deploy v1 x2; ready; deploy v2 x2;";
    check_script(
        full,
        expect![[r#"
            1 v1 a ready
            2 v1 b ready, to be draining
            deploy v1 succeeded
            deploy v2 rolling
            waits: no node has 100 MiB of memory free (the most is 0 MiB)
        "#]],
    );
    check_script(
        &format!("{full} leave"),
        expect![[r#"
            1 v1 a ready
            2 v1 b gone, to be draining
            3 v2 b allocated
            deploy v1 succeeded
            deploy v2 rolling
            waits: no node has 100 MiB of memory free (the most is 0 MiB)
        "#]],
    );
    check_script(
        &format!("{full} leave; ready; leave; ready"),
        expect![[r#"
            1 v1 a gone, to be draining
            2 v1 b gone, to be draining
            3 v2 b ready
            4 v2 a ready
            deploy v1 succeeded
            deploy v2 succeeded
        "#]],
    );
}

#[test]
fn nothing_goes_first_for_what_will_never_fit() {
    check_script(
        "node a memory=100; deploy v1 x1; ready; deploy v2 x1 memory=512",
        expect![[r#"
            1 v1 a ready
            deploy v1 succeeded
            deploy v2 rolling
            waits: no node has 548 MiB of memory free (the most is 0 MiB)
        "#]],
    );
}

#[test]
fn nobody_goes_first_for_an_image_that_cannot_run_there() {
    let full = "node a memory=100 arch=arm64; node b memory=100";
    check_script(
        &format!("{full}; deploy v1 x1; ready; deploy v2 x1 memory=65"),
        expect![[r#"
        1 v1 b ready
        deploy v1 succeeded
        deploy v2 rolling
        waits: no node has 101 MiB of memory free (the most is 0 MiB)
    "#]],
    );
}

#[test]
fn a_new_deploy_tries_anew_what_an_earlier_one_gave_up() {
    check_script(
        "node a; deploy v1 x1; fail 1 workload_start_failed; leave; deploy v1 x1",
        expect![[r#"
        1 v1 a gone, to be stopped
        2 v1 a allocated
        deploy v1 failed, workload_start_failed: as told
        deploy v1 rolling
    "#]],
    );
    check_script(
        "node a; deploy v1 x1; ready; fail 1 workload_exited; deploy v1 x1",
        expect![[r#"
            1 v1 a failed
            2 v1 a allocated
            deploy v1 succeeded
            deploy v1 rolling
        "#]],
    );
}

#[test]
fn what_fails_after_the_same_was_deployed_again_is_its_nodes_to_restart() {
    check_script(
        "node a; deploy v1 x1; ready; pass 1; deploy v1 x1; pass 1; fail 1 workload_exited",
        expect![[r#"
        1 v1 a failed
        deploy v1 succeeded
        deploy v1 succeeded
    "#]],
    );
    check_script(
        "node a; node b; deploy v1 x1; ready; pass 1; deploy v1 x1; pass 1; fail 1 vmm_start_failed",
        expect![[r#"
            1 v1 a failed, to be stopped
            2 v1 b allocated
            deploy v1 succeeded
            deploy v1 succeeded
        "#]],
    );
}

#[test]
fn a_release_is_told_by_its_image_and_its_manifest() {
    let mut fleet = Fleet::new();
    for (tag, replicas, releases) in [("v1", 1, 1), ("v1", 1, 1), ("v1", 2, 2), ("v2", 2, 3), ("v1", 1, 3)] {
        fleet.submit(deploy(tag, manifest(replicas, 64, 1))).unwrap();
        assert_eq!(fleet.state().releases.len(), releases, "{tag} x{replicas}");
    }
}

#[test]
fn an_image_that_moved_is_pulled_from_where_it_is_now() {
    let mut fleet = Fleet::new();
    let moved = |reference: &str| {
        let mut command = deploy("v1", manifest(1, 64, 1));
        let plfm_core::command::Command::Deploy(wanted) = &mut command else { unreachable!("it is a deploy") };
        wanted.image.reference = reference.to_owned();
        command
    };
    fleet.submit(moved("old.example.com/shop:v1")).unwrap();
    fleet.submit(moved("new.example.com/shop:v1")).unwrap();
    let group = fleet.state().envs.values().next().and_then(|env| env.groups.get("web")).unwrap();
    assert_eq!(fleet.state().releases[&group.release].image.reference, "new.example.com/shop:v1");
}

#[test]
fn what_cannot_start_here_is_tried_elsewhere() {
    let first = "node a; node b; deploy v1 x1; fail 1 image_pull_failed;";
    check_script(
        first,
        expect![[r#"
        1 v1 a failed, to be stopped
        2 v1 b allocated
        deploy v1 rolling
    "#]],
    );
    check_script(
        &format!("{first} fail 2 image_pull_failed; leave; fail 3 image_pull_failed"),
        expect![[r#"
        1 v1 a gone, to be stopped
        2 v1 b gone, to be stopped
        3 v1 a gone, to be stopped
        deploy v1 failed, image_pull_failed: as told
    "#]],
    );
}

#[test]
fn after_a_failed_deploy_one_is_tried_every_five_minutes() {
    let failed = "node a; deploy v1 x2; fail 1 workload_start_failed; leave;";
    check_script(
        &format!("{failed} pass 299"),
        expect![[r#"
        1 v1 a gone, to be stopped
        2 v1 a gone, to be stopped
        deploy v1 failed, workload_start_failed: as told
    "#]],
    );
    check_script(
        &format!("{failed} pass 300"),
        expect![[r#"
        1 v1 a gone, to be stopped
        2 v1 a gone, to be stopped
        3 v1 a allocated
        deploy v1 failed, workload_start_failed: as told
    "#]],
    );
    check_script(
        &format!("{failed} pass 300; fail 3 oom_killed; leave; pass 299"),
        expect![[r#"
            1 v1 a gone, to be stopped
            2 v1 a gone, to be stopped
            3 v1 a gone, to be stopped
            deploy v1 failed, workload_start_failed: as told
        "#]],
    );
    check_script(
        &format!("{failed} pass 300; ready"),
        expect![[r#"
        1 v1 a gone, to be stopped
        2 v1 a gone, to be stopped
        3 v1 a ready
        4 v1 a allocated
        deploy v1 failed, workload_start_failed: as told
    "#]],
    );
}

#[test]
fn a_node_where_boots_fail_is_the_last_choice() {
    let trouble = "node a; deploy v1 x1; fail 1 vmm_start_failed; prepare 1; fail 1 vmm_start_failed; prepare 1; \
        fail 1 vmm_start_failed; leave; deploy v1 x0; node b;";
    check_script(
        &format!("{trouble} deploy v2 x1 app=other"),
        expect![[r#"
        1 v1 a gone, to be stopped
        2 v2 b allocated
        deploy v1 failed, vmm_start_failed: as told
        deploy v1 succeeded
        deploy v2 rolling
    "#]],
    );
    check_script(
        &format!("{trouble} pass 600; deploy v2 x1 app=other"),
        expect![[r#"
        1 v1 a gone, to be stopped
        2 v2 a allocated
        deploy v1 failed, vmm_start_failed: as told
        deploy v1 succeeded
        deploy v2 rolling
    "#]],
    );
}

#[test]
fn what_has_a_volume_leaves_before_its_successor_comes() {
    let first = "node a; node b; deploy v1 x1 volume=data; ready;";
    check_script(
        &format!("{first} deploy v2 x1 volume=data"),
        expect![[r#"
            1 v1 a ready, to be draining
            deploy v1 succeeded
            deploy v2 rolling
            volume data creating on a
        "#]],
    );
    check_script(
        &format!("{first} deploy v2 x1 volume=data; leave"),
        expect![[r#"
            1 v1 a gone, to be draining
            2 v2 a allocated
            deploy v1 succeeded
            deploy v2 rolling
            volume data creating on a
        "#]],
    );
    check_script(
        &format!("{first} drain a"),
        expect![[r#"
            1 v1 a ready
            deploy v1 succeeded
            node a draining
            volume data creating on a
        "#]],
    );
    check_script(
        &format!("{first} mute a; pass 60"),
        expect![[r#"
            1 v1 a ready
            deploy v1 succeeded
            node a offline
            volume data creating on a
        "#]],
    );
}

#[test]
fn whoever_takes_the_place_that_was_given_up_gets_one_alone() {
    let full = "node a memory=200; deploy v1 x2; ready; deploy b x2 app=other; deploy v2 x2";
    check_script(
        &format!("{full}; leave; leave; pass 61; leave"),
        expect![[r#"
        1 v1 a ready
        2 v1 a gone, to be draining
        3 b a allocated
        deploy v1 succeeded
        deploy b rolling
        deploy v2 rolling
        waits: no node has 100 MiB of memory free (the most is 0 MiB)
        waits: no node has 100 MiB of memory free (the most is 0 MiB)
    "#]],
    );
}

#[test]
fn nobody_gives_way_for_room_that_the_org_may_not_have() {
    let script = "node a memory=200; limit memory 200; deploy v1 x2; ready; deploy v2 x2; limit memory 100";
    check_script(
        &format!("{script}; leave; leave"),
        expect![[r#"
        1 v1 a gone, to be draining
        2 v1 a ready
        deploy v1 succeeded
        deploy v2 rolling
        waits: the org's limit for memory in MiB is 100: 100 are asked for, 100 are taken
    "#]],
    );
}

#[test]
fn a_volume_keeps_its_home() {
    let first = "node a; node b; deploy v1 x1 volume=data; ready;";
    // `b` is emptier, and not its home.
    check_script(
        &format!(
            "{first} deploy v2 x1 volume=data; leave; ready; deploy other x3 app=other; deploy v3 x1 volume=data; leave"
        ),
        expect![[r#"
            1 v1 a gone, to be draining
            2 v2 a gone, to be draining
            3 other b allocated
            4 other a allocated
            5 other b allocated
            6 v3 a allocated
            deploy v1 succeeded
            deploy v2 succeeded
            deploy other rolling
            deploy v3 rolling
            volume data creating on a
        "#]],
    );
    check_script(
        &format!("{first} drain a; deploy v2 x1 volume=data; leave"),
        expect![[r#"
            1 v1 a gone, to be draining
            deploy v1 succeeded
            deploy v2 rolling
            node a draining
            volume data creating on a
            waits: its volumes are on a, which takes no new work
        "#]],
    );
    check_script(
        "node a memory=200; node b; deploy v1 x1 volume=data; ready; deploy v2 x1 volume=data memory=300; leave",
        expect![[r#"
            1 v1 a gone, to be draining
            deploy v1 succeeded
            deploy v2 rolling
            volume data creating on a
            waits: its volumes are on a, which has no room for it
        "#]],
    );
    check_script(
        &format!("{first} require zone=x; deploy v2 x1 volume=data; leave"),
        expect![[r#"
            1 v1 a gone, to be draining
            deploy v1 succeeded
            deploy v2 rolling
            volume data creating on a
            waits: no node that takes work and could run it is labelled zone=x
        "#]],
    );
}

#[test]
fn volumes_of_different_nodes_have_no_place_together() {
    check_script(
        "node a; node b; deploy v1 x1 volume=data; ready; drain a; deploy v2 x1 volume=logs; leave; ready; activate a; \
         deploy v3 x1 volume=data+logs; leave",
        expect![[r#"
            1 v1 a gone, to be draining
            2 v2 b gone, to be draining
            deploy v1 succeeded
            deploy v2 superseded
            deploy v3 rolling
            volume data creating on a
            volume logs creating on b
            waits: its volumes are on different nodes
        "#]],
    );
}

#[test]
fn a_volume_that_another_process_has_still_is_waited_for() {
    let moved = "node a; deploy v1 x1 volume=data; ready; deploy v2 x1 volume=data process=store";
    check_script(
        moved,
        expect![[r#"
            1 v1 a ready, to be draining
            deploy v1 succeeded
            deploy v2 rolling
            volume data creating on a
        "#]],
    );
    check_script(
        &format!("{moved}; leave"),
        expect![[r#"
            1 v1 a gone, to be draining
            2 v2 a allocated
            deploy v1 succeeded
            deploy v2 rolling
            volume data creating on a
        "#]],
    );
}

#[test]
fn what_its_node_does_not_take_up_goes_elsewhere() {
    check_script(
        "node a; node b; deploy v1 x1; pass 119",
        expect![[r#"
        1 v1 a allocated
        deploy v1 rolling
    "#]],
    );
    check_script(
        "node a; node b; deploy v1 x1; pass 120",
        expect![[r#"
        1 v1 a allocated, to be stopped
        2 v1 b allocated
        deploy v1 rolling
    "#]],
    );
    check_script(
        "node a; deploy v1 x1; pass 120",
        expect![[r#"
        1 v1 a allocated
        deploy v1 rolling
    "#]],
    );
}

#[test]
fn who_takes_leave_has_the_time_that_was_promised() {
    let leaves = "node a; deploy v1 x1 grace=300; ready; deploy v2 x1; ready 2";
    check_script(
        &format!("{leaves}; pass 304"),
        expect![[r#"
        1 v1 a ready, to be draining
        2 v2 a ready
        deploy v1 succeeded
        deploy v2 rolling
    "#]],
    );
    check_script(
        &format!("{leaves}; pass 305"),
        expect![[r#"
        1 v1 a ready, to be stopped
        2 v2 a ready
        deploy v1 succeeded
        deploy v2 succeeded
    "#]],
    );
}

#[test]
fn the_urgent_are_served_more_often() {
    let both = "node a memory=100; deploy v0 x1 app=full; ready; deploy v1 x8 app=low; deploy v2 x8 app=high; \
                priority low low; priority high critical";
    check_script(
        &format!("{both}; node b memory=900"),
        expect![[r#"
        1 v0 a ready
        2 v2 b allocated
        3 v1 b allocated
        4 v2 b allocated
        5 v2 b allocated
        6 v2 b allocated
        7 v2 b allocated
        8 v2 b allocated
        9 v2 b allocated
        10 v2 b allocated
        deploy v0 succeeded
        deploy v1 rolling
        deploy v2 rolling
        waits: no node has 100 MiB of memory free (the most is 0 MiB)
    "#]],
    );
}
