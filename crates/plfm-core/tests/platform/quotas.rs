use expect_test::expect;
use plfm_core::command::Command;
use plfm_core::quota::Dimension;
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
    // Less is never denied.
    fleet.follow("limit instances 0");
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
        waits: the org may have 2 instances: it has 2, and 1 more were asked for
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
fn so_many_starts_in_a_minute() {
    let begin = "node a; limit starts_per_minute 2; deploy v1 x3;";
    check_script(
        begin,
        expect![[r#"
        1 v1 a allocated
        2 v1 a allocated
        deploy v1 rolling
        waits: the org may have 2 starts in a minute: it has 2, and 1 more were asked for
    "#]],
    );
    check_script(
        &format!("{begin} pass 59"),
        expect![[r#"
        1 v1 a allocated
        2 v1 a allocated
        deploy v1 rolling
        waits: the org may have 2 starts in a minute: it has 2, and 1 more were asked for
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
    let limits = fleet.state().orgs[&fleet.org()].limits.clone();
    assert_eq!(fleet.submit(Command::SetLimits { org: fleet.org(), limits }), Ok(0));
}
