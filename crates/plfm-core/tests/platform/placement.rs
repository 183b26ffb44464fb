use expect_test::expect;

use crate::fleet::check_script;

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
fn without_nodes_everything_waits() {
    check_script(
        "deploy v1 x2",
        expect![[r#"
        deploy v1 rolling
        waits: no node is active
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
