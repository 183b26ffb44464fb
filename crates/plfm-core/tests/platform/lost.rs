use expect_test::expect;

use crate::fleet::check_script;

#[test]
fn a_silent_node_is_lost_after_a_minute_and_its_work_goes_elsewhere() {
    check_script(
        "node a; node b; deploy v1 x2; ready; mute b; pass 59",
        expect![[r#"
            1 v1 a ready
            2 v1 b ready
            deploy v1 succeeded
        "#]],
    );
    check_script(
        "node a; node b; deploy v1 x2; ready; mute b; pass 60",
        expect![[r#"
            1 v1 a ready
            2 v1 b ready, to be stopped
            3 v1 a allocated
            deploy v1 succeeded
            node b offline
        "#]],
    );
}

#[test]
fn what_comes_back_late_is_stopped() {
    check_script(
        "node a; node b; deploy v1 x2; ready; mute b; pass 60; ready; hear b; leave",
        expect![[r#"
            1 v1 a ready
            2 v1 b gone, to be stopped
            3 v1 a ready
            deploy v1 succeeded
        "#]],
    );
}

#[test]
fn a_new_writer_waits_a_minute_of_its_own() {
    check_script(
        "node a; node b; deploy v1 x2; ready; mute b; pass 59; writer; pass 59",
        expect![[r#"
            1 v1 a ready
            2 v1 b ready
            deploy v1 succeeded
        "#]],
    );
    check_script(
        "node a; node b; deploy v1 x2; ready; mute b; pass 59; writer; pass 60",
        expect![[r#"
            1 v1 a ready
            2 v1 b ready, to be stopped
            3 v1 a allocated
            deploy v1 succeeded
            node b offline
        "#]],
    );
}

#[test]
fn what_was_ready_on_lost_nodes_is_neither_counted_nor_taken_while_nothing_is_moved() {
    check_script(
        "node a; node b; node c; deploy v1 x3; ready; mute b; mute c; pass 60; deploy v2 x2",
        expect![[r#"
            1 v1 a ready
            2 v1 b ready
            3 v1 c ready
            deploy v1 succeeded
            deploy v2 rolling
            node b offline
            node c offline
            frozen
        "#]],
    );
}

#[test]
fn one_word_of_a_lost_node_does_not_bring_it_back() {
    check_script(
        "node a; mute a; pass 61; deploy v1 x1; murmur a",
        expect![[r#"
            deploy v1 rolling
            node a offline
            waits: no node takes new work
        "#]],
    );
}

#[test]
fn a_new_writer_takes_nobody_for_back_whom_it_has_not_heard() {
    check_script(
        "node a; mute a; pass 60; writer; deploy v1 x1",
        expect![[r#"
            deploy v1 rolling
            node a offline
            waits: no node takes new work
        "#]],
    );
}

#[test]
fn a_lost_node_does_not_hold_up_a_later_deploy() {
    check_script(
        "node a; node b; deploy v1 x2; ready; mute b; pass 60; ready; deploy v2 x1; ready; leave",
        expect![[r#"
            1 v1 a gone, to be draining
            2 v1 b ready, to be stopped
            3 v1 a gone, to be draining
            4 v2 a ready
            deploy v1 succeeded
            deploy v2 succeeded
            node b offline
        "#]],
    );
}

#[test]
fn what_drained_on_a_node_that_is_lost_does_not_hold_up_its_deploy() {
    check_script(
        "node a; node b; deploy v1 x2; ready; deploy v2 x2; ready; mute b; pass 60; leave; ready; leave",
        expect![[r#"
            1 v1 a gone, to be draining
            2 v1 b ready, to be stopped
            3 v2 a ready
            4 v2 b allocated, to be stopped
            5 v2 a ready
            deploy v1 succeeded
            deploy v2 succeeded
            node b offline
        "#]],
    );
}

#[test]
fn nobody_is_drained_on_account_of_one_who_is_lost() {
    let late = "node a; node b; node c; deploy v1 x3; ready; deploy v2 x3; mute c; pass 60";
    check_script(
        late,
        expect![[r#"
            1 v1 a ready
            2 v1 b ready
            3 v1 c ready, to be stopped
            4 v2 a allocated
            5 v2 b allocated
            deploy v1 succeeded
            deploy v2 rolling
            node c offline
        "#]],
    );
    check_script(
        &format!("{late}; ready"),
        expect![[r#"
            1 v1 a ready
            2 v1 b ready, to be draining
            3 v1 c ready, to be stopped
            4 v2 a ready
            5 v2 b ready
            6 v2 a allocated
            deploy v1 succeeded
            deploy v2 rolling
            node c offline
        "#]],
    );
}

#[test]
fn the_silence_of_decommissioned_nodes_is_no_mass_failure() {
    check_script(
        "node a; node b; node c; node d; deploy v1 x1; ready; drain c; drain d; mute c; mute d;
         decommission c; decommission d; mute b; pass 60",
        expect![[r#"
            1 v1 a ready
            deploy v1 succeeded
            node b offline
            node c decommissioned
            node d decommissioned
        "#]],
    );
}
