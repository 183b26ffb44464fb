//! A machine from its making to its end, whoever owns it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs};

use plfm_core::units::MilliCpu;
use plfm_runtime::microvm::{Accel, Verdict};
use plfm_runtime::{Isolation, MachineSpec, Runtime, RuntimeError};

use crate::house::*;

/// Tells `an_owner` that it is meant.
const OWNER_DIR: &str = "PLFM_TEST_OWNER_DIR";

#[tokio::test]
async fn a_machine_boots_dies_and_leaves_nothing() {
    let Some(house) = House::build("a_machine_boots_dies_and_leaves_nothing") else { return };
    let (runtime, spec) = (house.open().await, house.spec(1));
    runtime.create(&spec).await.unwrap();
    runtime.create(&spec).await.unwrap();
    let other = MachineSpec { cpu: MilliCpu(1500), ..spec.clone() };
    assert!(matches!(runtime.create(&other).await, Err(RuntimeError::SpecDiffers(id)) if id == spec.id));
    assert_eq!(only(&runtime).await.boot, None);

    let before = Instant::now();
    runtime.start(spec.id, boot(1), None).await.unwrap();
    eprintln!("start answered after {:?}", before.elapsed());
    hello(&runtime, spec.id).await;
    let [pid] = monitors(spec.id)[..] else { panic!("one monitor: {:?}", monitors(spec.id)) };
    eprintln!("boot to hello: {:?}, {} ms of processor time", before.elapsed(), processor_ms(pid));
    let memory = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    eprintln!(
        "{}",
        memory
            .lines()
            .filter(|line| line.starts_with("VmHWM") || line.starts_with("Rss"))
            .collect::<Vec<_>>()
            .join(", ")
    );
    runtime.start(spec.id, boot(1), None).await.unwrap();
    assert!(matches!(runtime.start(spec.id, boot(2), None).await, Err(RuntimeError::AlreadyRuns { .. })));
    check_wall(pid);

    kill(pid);
    let ended = tokio::time::timeout(Duration::from_secs(5), runtime.ended(spec.id)).await.unwrap().unwrap();
    assert_eq!((ended.boot, ended.alive), (Some(boot(1)), false));
    assert!(matches!(runtime.connect(spec.id, GUEST_PORT).await, Err(RuntimeError::NotRunning(_))));

    runtime.start(spec.id, boot(2), None).await.unwrap();
    hello(&runtime, spec.id).await;
    runtime.destroy(spec.id).await.unwrap();
    runtime.destroy(spec.id).await.unwrap();
    assert_eq!(runtime.list().await.unwrap(), []);
    assert!(monitors(spec.id).is_empty(), "{:?}", monitors(spec.id));
    assert!(cgroups(spec.id).is_empty(), "{:?}", cgroups(spec.id));
    assert!(!house.machine_dir(spec.id).exists());
    assert_eq!(fs::read_dir(house.dir.path().join("runtime/machines")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_machine_outlives_its_owner_and_is_taken_over() {
    let Some(house) = House::build("a_machine_outlives_its_owner_and_is_taken_over") else { return };
    let (runtime, spec) = (house.open().await, house.spec(2));
    runtime.create(&spec).await.unwrap();
    runtime.start(spec.id, boot(7), None).await.unwrap();
    hello(&runtime, spec.id).await;
    let pids = monitors(spec.id);
    drop(runtime);

    let runtime = house.open().await;
    let found = only(&runtime).await;
    assert_eq!((found.id, found.boot, found.alive), (spec.id, Some(boot(7)), true));
    assert_eq!(monitors(spec.id), pids, "the same process goes on");
    hello(&runtime, spec.id).await;
    runtime.stop(spec.id).await.unwrap();
    runtime.stop(spec.id).await.unwrap();
    assert!(monitors(spec.id).is_empty(), "{:?}", monitors(spec.id));

    drop(runtime);
    let runtime = house.open().await;
    assert!(!only(&runtime).await.alive);
    runtime.destroy(spec.id).await.unwrap();
}

/// Not a test: what the next one starts and kills, as a process of its own.
#[tokio::test]
async fn an_owner() {
    let (Some(dir), Some(house)) = (env::var_os(OWNER_DIR), House::build("an_owner")) else { return };
    let (runtime, spec) = (house.open_in(Path::new(&dir), Some(Accel::Tcg)).await, house.spec(6));
    runtime.create(&spec).await.unwrap();
    runtime.start(spec.id, boot(6), None).await.unwrap();
    fs::write(Path::new(&dir).join("started"), "").unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_owner_leaves_its_machines_to_the_next() {
    let Some(house) = House::build("a_killed_owner_leaves_its_machines_to_the_next") else { return };
    let dir = house.dir.path().join("runtime");
    fs::create_dir(&dir).unwrap();
    let mut owner = Command::new(env::current_exe().unwrap());
    owner.args(["--exact", "life::an_owner"]).env(OWNER_DIR, &dir).env("TMPDIR", house.dir.path());
    let mut owner = owner.spawn().unwrap();
    while !dir.join("started").exists() {
        assert_eq!(owner.try_wait().unwrap(), None, "the owner waits to be killed");
        tokio::task::yield_now().await;
    }
    owner.kill().unwrap();
    owner.wait().unwrap();

    let runtime = house.open().await;
    let found = only(&runtime).await;
    assert_eq!((found.boot, found.alive), (Some(boot(6)), true));
    hello(&runtime, found.id).await;
    runtime.destroy(found.id).await.unwrap();
    assert!(monitors(found.id).is_empty());
}

#[tokio::test]
async fn what_a_crash_left_half_made_is_removed() {
    let Some(house) = House::build("what_a_crash_left_half_made_is_removed") else { return };
    let machines = house.dir.path().join("runtime/machines");
    for half in ["inst_A.new", "inst_B.gone"] {
        fs::create_dir_all(machines.join(half)).unwrap();
        fs::write(machines.join(half).join("rw.ext4"), "").unwrap();
    }
    let runtime = house.open().await;
    assert_eq!(runtime.list().await.unwrap(), []);
    assert_eq!(fs::read_dir(&machines).unwrap().count(), 0);
}

/// Between the start of a monitor and the note of its process id, we may be killed.
#[tokio::test]
async fn a_monitor_that_was_not_written_down_is_found() {
    let Some(house) = House::build("a_monitor_that_was_not_written_down_is_found") else { return };
    let (runtime, spec) = (house.open().await, house.spec(3));
    runtime.create(&spec).await.unwrap();
    runtime.start(spec.id, boot(1), None).await.unwrap();
    drop(runtime);
    let file = house.machine_dir(spec.id).join("machine.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    record["run"]["process"] = serde_json::Value::Null;
    fs::write(&file, record.to_string()).unwrap();

    let runtime = house.open().await;
    assert!(only(&runtime).await.alive);
    hello(&runtime, spec.id).await;
    drop(runtime);

    monitors(spec.id).into_iter().for_each(kill);
    let runtime = house.open().await;
    assert!(!runtime.ended(spec.id).await.unwrap().alive);
    assert!(cgroups(spec.id).is_empty(), "its monitor ended while nobody looked");
    runtime.destroy(spec.id).await.unwrap();
    assert!(monitors(spec.id).is_empty(), "{:?}", monitors(spec.id));
}

#[tokio::test]
async fn a_monitor_that_does_not_start_says_why() {
    let Some(house) = House::build("a_monitor_that_does_not_start_says_why") else { return };
    let (runtime, spec) = (house.open().await, house.spec(4));
    let missing = MachineSpec { images: vec!["/not/there.erofs".into()], ..spec.clone() };
    runtime.create(&missing).await.unwrap();
    let error = runtime.start(spec.id, boot(1), None).await.unwrap_err();
    assert_eq!(
        (error.to_string(), error.reason().code()),
        (format!("cannot open image 0 of {}", spec.id), "rootfs_build_failed")
    );
    runtime.destroy(spec.id).await.unwrap();

    for asset in fs::read_dir(house.dir.path().join("runtime/assets")).unwrap().flatten() {
        fs::remove_file(asset.path()).unwrap();
    }
    runtime.create(&spec).await.unwrap();
    let error = runtime.start(spec.id, boot(1), None).await.unwrap_err();
    eprintln!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert_eq!(error.reason().code(), "vmm_start_failed");
    assert!(monitors(spec.id).is_empty(), "{:?}", monitors(spec.id));
    assert!(cgroups(spec.id).is_empty(), "{:?}", cgroups(spec.id));
    runtime.destroy(spec.id).await.unwrap();
}

/// `/dev/kvm` may open and yet run no guest; what was found is asked once.
#[tokio::test]
async fn kvm_is_judged_by_a_guest_that_boots() {
    let Some(house) = House::build("kvm_is_judged_by_a_guest_that_boots") else { return };
    let first = house.open_with(None).await;
    eprintln!("kvm: {:?}", first.kvm());
    assert_eq!(first.kvm().usable, first.class() == Isolation::Vm);
    let memo = house.dir.path().join("runtime/assets/kvm.json");
    let written = fs::metadata(&memo).unwrap().modified().unwrap();
    assert_eq!(Verdict::known(&house.dir.path().join("runtime")).as_ref(), Some(first.kvm()), "others may know it too");
    let second = house.open_with(None).await;
    assert_eq!(second.kvm(), first.kvm());
    assert_eq!(fs::metadata(&memo).unwrap().modified().unwrap(), written);
    let left = fs::read_dir(house.dir.path().join("runtime")).unwrap().flatten();
    assert_eq!(left.filter(|entry| entry.file_name().to_string_lossy().starts_with("probe")).count(), 0);
}
