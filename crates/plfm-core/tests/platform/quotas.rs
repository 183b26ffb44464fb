use expect_test::expect;
use plfm_core::command::Command;
use plfm_core::fair::Class;
use plfm_core::place::{Wanted, place};
use plfm_core::quota::{Dimension, Limits};
use plfm_core::refusal::Refusal;

use crate::fleet::{Fleet, check_script, deploy, deploy_as, manifest};

#[test]
fn who_asks_for_more_than_the_org_may_have_is_denied() {
    let mut fleet = Fleet::new();
    fleet.follow("limit instances 3");
    let denied = |outcome| match outcome {
        Err(Refusal::QuotaExceeded(excess)) => (excess.dimension, excess.limit, excess.current, excess.requested),
        other => panic!("{other:?}"),
    };
    assert_eq!(denied(fleet.submit(deploy("v1", manifest(4, 64, 1)))), (Dimension::Instances, 3, 0, 4));
    fleet.submit(deploy("v1", manifest(2, 64, 1))).unwrap();
    // Nothing is placed yet, and still it counts.
    assert_eq!(denied(fleet.submit(deploy_as("other", manifest(2, 64, 1)))), (Dimension::Instances, 3, 2, 2));
    fleet.submit(deploy_as("other", manifest(1, 64, 1))).unwrap();
    fleet.follow("limit apps 2");
    assert_eq!(denied(fleet.submit(deploy_as("third", manifest(0, 64, 1)))), (Dimension::Apps, 2, 2, 1));
    fleet.follow("limit memory 200");
    assert_eq!(denied(fleet.submit(deploy("v2", manifest(2, 100, 1)))), (Dimension::Memory, 200, 192, 72));
    // Less is not denied, if it can be started at all; and what is wanted already is not started.
    fleet.follow("limit instances 1");
    assert_eq!(denied(fleet.submit(deploy("v1", manifest(1, 64, 1)))), (Dimension::Instances, 1, 1, 1));
    fleet.submit(deploy("v1", manifest(2, 64, 1))).unwrap();
    fleet.follow("limit instances 2");
    fleet.submit(deploy("v1", manifest(1, 64, 1))).unwrap();
}

#[test]
fn where_the_quota_leaves_nothing_for_a_surge_one_goes_first() {
    let full = "node a; node b; limit instances 2; deploy v1 x2; ready; deploy v2 x2;";
    check_script(
        full,
        expect![[r#"
            1 v1 a ready, to be draining
            2 v1 b ready
            deploy v1 succeeded
            deploy v2 rolling
            waits: the org's limit for instances is 2: 1 is asked for, 2 are taken
        "#]],
    );
    check_script(
        &format!("{full} leave; ready; leave; ready; leave"),
        expect![[r#"
        1 v1 a gone, to be draining
        2 v1 b gone, to be draining
        3 v2 a ready
        4 v2 b ready
        deploy v1 succeeded
        deploy v2 succeeded
    "#]],
    );
}

#[test]
fn nobody_goes_first_under_a_limit_that_was_lowered_too_far() {
    check_script(
        "node a; node b; deploy v1 x3; ready; deploy v2 x3; limit instances 2; ready; leave",
        expect![[r#"
            1 v1 a ready
            2 v1 b gone, to be draining
            3 v1 a ready
            4 v2 b ready
            deploy v1 succeeded
            deploy v2 rolling
            waits: the org's limit for instances is 2: 1 is asked for, 3 are taken
        "#]],
    );
}

#[test]
fn so_many_starts_in_a_minute() {
    let begin = "node a; limit starts_per_minute 2; deploy v1 x3;";
    check_script(
        begin,
        expect![[r#"
            1 v1 a allocated
            2 v1 a allocated
            deploy v1 rolling
            waits: the org's limit for starts in a minute is 2: 1 is asked for, 2 are taken
        "#]],
    );
    check_script(
        &format!("{begin} pass 59"),
        expect![[r#"
            1 v1 a allocated
            2 v1 a allocated
            deploy v1 rolling
            waits: the org's limit for starts in a minute is 2: 1 is asked for, 2 are taken
        "#]],
    );
    check_script(
        &format!("{begin} pass 60"),
        expect![[r#"
        1 v1 a allocated
        2 v1 a allocated
        3 v1 a allocated
        deploy v1 rolling
    "#]],
    );
}

#[test]
fn a_limit_is_said_once() {
    let mut fleet = Fleet::new();
    fleet.follow("limit instances 3");
    let says = |limits: &[(Dimension, Option<u64>)]| Command::SetLimits {
        org: fleet.org(),
        limits: limits.iter().copied().collect(),
    };
    let (same, memory) = (says(&[(Dimension::Instances, Some(3))]), says(&[(Dimension::Memory, Some(4_096))]));
    let back = says(&[(Dimension::Instances, None)]);
    assert_eq!(fleet.submit(same), Ok(0));
    assert_eq!(fleet.submit(memory), Ok(1));
    assert_eq!(fleet.submit(back), Ok(1));
    let limits = fleet.state().orgs[&fleet.org()].limits.clone();
    assert_eq!(limits, Limits([(Dimension::Memory, 4_096)].into()), "what is not named stays");
}

/// Between the choice and the decision someone else may have taken the last of it.
#[test]
fn an_instance_is_held_against_the_limit_once_more() {
    let mut fleet = Fleet::new();
    fleet.follow("node a");
    fleet.follow("deploy v1 x1");
    fleet.follow("limit instances 1");
    let it = fleet.state().instances.values().next().unwrap().clone();
    let replica = it.replica().unwrap();
    let (env, process, release, node) = (replica.env, replica.process.clone(), replica.release, it.node);
    let refused = fleet.submit(Command::Allocate { env, process, release, node, class: Class::Normal });
    assert!(matches!(refused, Err(Refusal::QuotaExceeded(_))), "{refused:?}");
}

#[test]
fn a_weight_is_said_once() {
    let mut fleet = Fleet::new();
    let (org, project) = (fleet.org(), *fleet.state().projects.keys().next().unwrap());
    for (weight, events) in [(1, Ok(0)), (2, Ok(1)), (2, Ok(0))] {
        assert_eq!(fleet.submit(Command::SetOrgWeight { org, weight }), events, "{weight}");
        assert_eq!(fleet.submit(Command::SetProjectWeight { project, weight }), events, "{weight}");
    }
}

#[test]
fn what_a_deploy_makes_counts_before_it_is_made() {
    let denied = |limit: &str, command| {
        let mut fleet = Fleet::new();
        fleet.follow(limit);
        match fleet.submit(command) {
            Err(Refusal::QuotaExceeded(excess)) => (excess.dimension, excess.requested),
            other => panic!("{other:?}"),
        }
    };
    let plain = || deploy("v1", manifest(0, 64, 1));
    assert_eq!(denied("limit apps 0", plain()), (Dimension::Apps, 1));
    assert_eq!(denied("limit envs 0", plain()), (Dimension::Envs, 1));
    assert_eq!(denied("limit routes 0", plain()), (Dimension::Routes, 1), "its host name");
}

#[test]
fn what_a_machine_costs_its_node_counts_before_it_is_started() {
    // Two of 64 MiB, each with the 36 MiB of its machine.
    for (limit, denied) in [("limit memory 199", Some((199, 200))), ("limit memory 200", None)] {
        let mut fleet = Fleet::new();
        fleet.follow("node a memory=4096");
        fleet.follow(limit);
        let said = match fleet.submit(deploy("v1", manifest(2, 64, 1))) {
            Err(Refusal::QuotaExceeded(excess)) => Some((excess.limit, excess.requested)),
            other => other.map(|_| None).unwrap(),
        };
        assert_eq!(said, denied, "{limit}");
    }
}

#[test]
fn one_decision_does_not_spend_a_quota_twice() {
    for (limit, most) in [("limit instances 3", 3), ("limit starts_per_minute 2", 2)] {
        let mut fleet = Fleet::new();
        fleet.report_only("node a memory=4096");
        fleet.report_only("deploy v1 x5");
        fleet.report_only(limit);
        fleet.beat();
        let (env, group) = fleet.state().envs.iter().map(|(id, env)| (*id, env.groups["web"].clone())).next().unwrap();
        let (process, class) = ("web".to_owned(), Class::Normal);
        let wanted = [Wanted { env, process, release: group.release, count: 5, class, since: None }];
        assert_eq!(place(fleet.state(), &fleet.facts, &wanted).choices.len(), most, "{limit}");
    }
}
