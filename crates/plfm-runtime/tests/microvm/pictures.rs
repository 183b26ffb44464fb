//! Snapshots, forks and pauses, of machines without a workload.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use plfm_core::units::Mebibytes;
use plfm_runtime::{MachineSpec, Runtime, RuntimeError};

use crate::house::*;

/// KiB of the guest's memory that belong to this monitor alone, and all of it.
fn private_kib(pid: i32) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let of_memory = maps.lines().skip_while(|line| !line.ends_with("/memory"));
    let field = of_memory.skip(1).find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    field.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn a_machine_is_forked_and_so_are_its_forks() {
    let Some(house) = House::build("a_machine_is_forked_and_so_are_its_forks") else { return };
    let runtime = Arc::new(house.open().await);
    let (first, [one, two, three]) = (house.spec(20), [21, 22, 23].map(|number| house.spec(number)));
    runtime.create(&first).await.unwrap();
    runtime.start(first.id, boot(1), None).await.unwrap();
    let booted = asked(&runtime, first.id).await;
    let begun = Instant::now();
    runtime.snapshot(first.id, snapshot(1), false).await.unwrap();
    eprintln!("snapshot: {:?}", begun.elapsed());
    assert!(matches!(runtime.snapshot(first.id, snapshot(1), false).await, Err(RuntimeError::SnapshotExists(_))));
    assert_eq!(asked(&runtime, first.id).await.kernel_boot_id, booted.kernel_boot_id, "it goes on");

    for (number, spec) in [(2, &one), (3, &two)] {
        let begun = Instant::now();
        runtime.restore(spec, snapshot(1), boot(number), None).await.unwrap();
        eprintln!("restore: {:?}", begun.elapsed());
        let found = asked(&runtime, spec.id).await;
        assert_eq!(found.kernel_boot_id, booted.kernel_boot_id, "the same boot goes on");
        let [pid] = monitors(spec.id)[..] else { panic!("one monitor: {:?}", monitors(spec.id)) };
        check_wall(pid);
        eprintln!("private: {} KiB of {}", private_kib(pid), spec.memory);
    }
    runtime.snapshot(one.id, snapshot(2), false).await.unwrap();
    runtime.forget(snapshot(1)).await.unwrap();
    runtime.restore(&three, snapshot(2), boot(4), None).await.unwrap();
    assert_eq!(asked(&runtime, three.id).await.kernel_boot_id, booted.kernel_boot_id, "a fork of a fork");
    runtime.snapshot(two.id, snapshot(3), false).await.unwrap();
    assert_eq!(
        asked(&runtime, two.id).await.kernel_boot_id,
        booted.kernel_boot_id,
        "its base is gone from the list only"
    );

    let other = MachineSpec { memory: Mebibytes(256), ..house.spec(24) };
    assert!(matches!(runtime.restore(&other, snapshot(2), boot(5), None).await, Err(RuntimeError::Misfit { .. })));
    let missing = runtime.restore(&house.spec(25), snapshot(9), boot(5), None).await;
    assert!(matches!(missing, Err(RuntimeError::NoSuchSnapshot(_))), "{missing:?}");
    let mut kept = runtime.snapshots().await.unwrap();
    kept.sort();
    assert_eq!(kept, [snapshot(2), snapshot(3)]);
    for spec in [&first, &one, &two, &three, &other] {
        runtime.destroy(spec.id).await.unwrap();
        assert!(monitors(spec.id).is_empty() && cgroups(spec.id).is_empty());
    }
    for number in [1, 2, 3] {
        runtime.forget(snapshot(number)).await.unwrap();
    }
    for left in ["machines", "snapshots"] {
        assert_eq!(fs::read_dir(house.dir.path().join("runtime").join(left)).unwrap().count(), 0, "{left}");
    }
}

#[tokio::test]
async fn a_paused_machine_goes_on_where_it_was_whoever_owns_it() {
    let Some(house) = House::build("a_paused_machine_goes_on_where_it_was_whoever_owns_it") else { return };
    let runtime = Arc::new(house.open().await);
    let spec = house.spec(30);
    runtime.create(&spec).await.unwrap();
    assert!(matches!(runtime.resume(spec.id, None).await, Err(RuntimeError::NotPaused(_))));
    assert!(matches!(runtime.pause(spec.id).await, Err(RuntimeError::NotRunning(_))));
    runtime.start(spec.id, boot(1), None).await.unwrap();
    let booted = asked(&runtime, spec.id).await;
    runtime.pause(spec.id).await.unwrap();
    runtime.pause(spec.id).await.unwrap();
    assert!(monitors(spec.id).is_empty());
    let paused = only(&runtime).await;
    assert_eq!((paused.boot, paused.alive, paused.paused), (Some(boot(1)), false, true));
    drop(runtime);

    let runtime = Arc::new(house.open().await);
    assert!(only(&runtime).await.paused);
    for round in 0..2 {
        let begun = Instant::now();
        runtime.resume(spec.id, None).await.unwrap();
        eprintln!("resume {round}: {:?}", begun.elapsed());
        let found = only(&runtime).await;
        assert_eq!((found.boot, found.alive, found.paused), (Some(boot(1)), true, false));
        assert_eq!(asked(&runtime, spec.id).await.kernel_boot_id, booted.kernel_boot_id);
        let begun = Instant::now();
        runtime.pause(spec.id).await.unwrap();
        eprintln!("pause {round}: {:?}", begun.elapsed());
    }
    runtime.start(spec.id, boot(2), None).await.unwrap();
    assert_ne!(asked(&runtime, spec.id).await.kernel_boot_id, booted.kernel_boot_id, "a start is a new boot");
    assert!(!only(&runtime).await.paused);
    runtime.destroy(spec.id).await.unwrap();
}
