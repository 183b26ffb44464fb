use expect_test::expect;
use plfm_core::command::Command;
use plfm_core::ids::VolumeId;
use plfm_core::refusal::Refusal;
use plfm_core::units::Mebibytes;

use crate::fleet::{Fleet, check_script, deploy, manifest, mount};

fn after(script: &str) -> Fleet {
    let mut fleet = Fleet::new();
    script.split(';').map(str::trim).filter(|line| !line.is_empty()).for_each(|line| fleet.follow(line));
    fleet
}

fn volume(fleet: &Fleet) -> VolumeId {
    *fleet.state().volumes.keys().next().expect("there is one")
}

fn delete(fleet: &mut Fleet) -> Result<usize, Refusal> {
    let volume = volume(fleet);
    fleet.submit(Command::DeleteVolume { volume })
}

#[test]
fn a_volume_comes_to_be_where_its_first_instance_is_placed() {
    check_script(
        "node a; node b; deploy v1 x1 volume=data",
        expect![[r#"
            1 v1 a allocated
            deploy v1 rolling
            volume data creating on a
        "#]],
    );
    check_script(
        "node a; node b; deploy v1 x1 volume=data; has a data; ready; deploy v2 x1 volume=data; leave; ready",
        expect![[r#"
            1 v1 a gone, to be draining
            2 v2 a ready
            deploy v1 succeeded
            deploy v2 succeeded
            volume data available on a
        "#]],
    );
}

#[test]
fn what_its_node_had_and_has_no_more_is_missing_and_may_come_back() {
    let script = "node a; deploy v1 x1 volume=data; has a data; ready; has a";
    check_script(
        script,
        expect![[r#"
            1 v1 a ready
            deploy v1 succeeded
            volume data missing on a
        "#]],
    );
    check_script(
        &format!("{script}; has a data"),
        expect![[r#"
            1 v1 a ready
            deploy v1 succeeded
            volume data available on a
        "#]],
    );
    // Another node's word about it says nothing.
    check_script(
        "node a; node b; deploy v1 x1 volume=data; has a data; has b; has b data",
        expect![[r#"
            1 v1 a allocated
            deploy v1 rolling
            volume data available on a
        "#]],
    );
}

#[test]
fn a_volume_takes_its_room_with_its_instance_and_without() {
    // 10 GiB of disk: 6 of the volume, 1 of the instance.
    check_script(
        "node a disk=10; deploy v1 x1 volume=data size=6; has a data; ready; deploy v1 x4 app=other",
        expect![[r#"
            1 v1 a ready
            2 v1 a allocated
            3 v1 a allocated
            4 v1 a allocated
            deploy v1 succeeded
            deploy v1 rolling
            volume data available on a
            waits: no node has 1024 MiB of disk free (the most is 0 MiB)
        "#]],
    );
    check_script(
        "node a disk=10; deploy v1 x1 volume=data size=6; has a data; ready; deploy v2 x0; leave; deploy v1 x5 app=other",
        expect![[r#"
            1 v1 a gone, to be draining
            2 v1 a allocated
            3 v1 a allocated
            4 v1 a allocated
            5 v1 a allocated
            deploy v1 succeeded
            deploy v2 succeeded
            deploy v1 rolling
            volume data available on a
            waits: no node has 1024 MiB of disk free (the most is 0 MiB)
        "#]],
    );
    check_script(
        "node a disk=10; node b disk=20; deploy v1 x1 volume=data size=12",
        expect![[r#"
            1 v1 b allocated
            deploy v1 rolling
            volume data creating on b
        "#]],
    );
    check_script(
        "node a disk=10; deploy v1 x1 volume=data size=12",
        expect![[r#"
            deploy v1 rolling
            volume data creating
            waits: no node has 13312 MiB of disk free (the most is 10240 MiB)
        "#]],
    );
}

#[test]
fn a_volume_that_is_not_there_is_made_only_if_that_is_said() {
    let mut fleet = after("node a");
    let Command::Deploy(mut wanted) = deploy("v1", manifest(1, 64, 1)) else { unreachable!("it is a deploy") };
    mount(&mut wanted.manifest, "data", 1);
    wanted.create_volumes = false;
    let refused = fleet.submit(Command::Deploy(wanted.clone())).unwrap_err();
    assert_eq!(refused, Refusal::VolumeMissing("data".to_owned()));
    assert!(fleet.state().apps.is_empty(), "nothing of it came to be");
    wanted.create_volumes = true;
    fleet.submit(Command::Deploy(wanted.clone())).unwrap();
    // What is there is not made again, and is as large as it is.
    fleet.submit(Command::Deploy(wanted.clone())).unwrap();
    assert_eq!(fleet.state().volumes.len(), 1);
    wanted.manifest.volumes[0].size = Mebibytes(2048);
    let refused = fleet.submit(Command::Deploy(wanted)).unwrap_err();
    assert_eq!(refused.to_string(), "the volume `data` has 1024 MiB, not 2048 MiB");
}

#[test]
fn a_volume_is_removed_when_nobody_has_it_or_is_to_have_it() {
    let mut fleet = after("node a; deploy v1 x1 volume=data; has a data; ready");
    let in_use = Refusal::VolumeInUse { name: "data".to_owned(), process: "web".to_owned() };
    assert_eq!(delete(&mut fleet), Err(in_use.clone()), "it is wanted");
    fleet.follow("deploy v2 x1");
    assert_eq!(delete(&mut fleet), Err(in_use), "it is still there");
    fleet.follow("ready");
    fleet.follow("leave");
    assert_eq!(delete(&mut fleet), Ok(1));
    fleet.follow("has a data");
    assert!(fleet.picture().contains("volume data deleting on a"), "{}", fleet.picture());
    let again = volume(&fleet);
    assert_eq!(delete(&mut fleet), Err(Refusal::VolumeNotFound(again)));
    // One of the same name can be made at once, and is another.
    fleet.follow("deploy v3 x1 volume=data");
    assert_eq!(fleet.state().volumes.len(), 2);
    fleet.follow("has a");
    expect![[r#"
        1 v1 a gone, to be draining
        2 v2 a ready
        3 v3 a allocated
        deploy v1 succeeded
        deploy v2 succeeded
        deploy v3 rolling
        volume data creating on a
    "#]]
    .assert_eq(&fleet.picture());
}

#[test]
fn one_that_was_never_anywhere_is_gone_at_once() {
    let mut fleet = after("deploy v1 x1 volume=data; deploy v2 x1");
    assert_eq!(delete(&mut fleet), Ok(1));
    assert!(fleet.state().volumes.is_empty());
}

#[test]
fn a_node_is_not_given_up_with_what_it_keeps() {
    let mut fleet = after("node a; deploy v1 x1 volume=data; has a data; ready; deploy v2 x0; leave; drain a");
    let order = Command::OrderNode { node: fleet.node("a"), order: plfm_core::command::NodeOrder::Decommission };
    let refused = fleet.submit(order.clone()).unwrap_err();
    assert_eq!(refused, Refusal::NodeHasVolumes { node: fleet.node("a"), volumes: 1 });
    delete(&mut fleet).unwrap();
    fleet.submit(order).expect("what it still has to remove goes with it");
    assert!(fleet.state().volumes.is_empty());
}

#[test]
fn a_rollback_to_what_had_a_volume_that_is_gone_is_refused() {
    let mut fleet = after("node a; deploy v1 x1 volume=data; has a data; ready; deploy v2 x1; leave; ready; leave");
    delete(&mut fleet).unwrap();
    let env = *fleet.state().envs.keys().next().unwrap();
    let refused = fleet.submit(Command::Rollback { env, release: None }).unwrap_err();
    assert_eq!(refused, Refusal::VolumeMissing("data".to_owned()));
}

#[test]
fn volumes_count_against_what_an_org_may_have() {
    let mut fleet = after("node a; limit volume_size 1024; deploy v1 x1 volume=data");
    let Command::Deploy(mut more) = deploy("v2", manifest(1, 64, 1)) else { unreachable!("it is a deploy") };
    more.app = "other".to_owned();
    mount(&mut more.manifest, "data", 1);
    let refused = fleet.submit(Command::Deploy(more.clone())).unwrap_err();
    assert_eq!(refused.to_string(), "the org's limit for volumes in MiB is 1024: 1024 are asked for, 1024 are taken");
    fleet.follow("limit volume_size 4096");
    fleet.follow("limit volumes 2");
    mount(&mut more.manifest, "logs", 1);
    assert!(matches!(fleet.submit(Command::Deploy(more)), Err(Refusal::QuotaExceeded(_))));
}
