//! What every runtime has to do, whichever it is: the same steps against each. Capabilities that it claims are tried, and the others have
//! to be refused.

use std::sync::Arc;

use plfm_core::ids::InstanceId;
use plfm_core::units::{Mebibytes, MilliCpu};
use plfm_runtime::fake::{FakeRuntime, Faults};
use plfm_runtime::{MachineSpec, Runtime, RuntimeError};

use crate::house::*;

#[tokio::test]
async fn qemu_keeps_the_contract() {
    let Some(house) = House::build("qemu_keeps_the_contract") else { return };
    keeps_the_contract(&house.open().await, &|number| house.spec(number)).await;
}

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    let fake = FakeRuntime::new(1, Faults::default());
    let spec = |number| MachineSpec {
        id: id(number),
        memory: Mebibytes(128),
        cpu: MilliCpu(1000),
        disk: Mebibytes(64),
        images: Vec::new(),
        volumes: Vec::new(),
    };
    keeps_the_contract(&fake, &spec).await;
}

/// Whatever fails, machines are in a state that can be gone on from, and can be destroyed.
#[tokio::test]
async fn the_fake_keeps_the_contract_with_faults_as_far_as_it_can() {
    for seed in 1..200 {
        let often = Faults { create_fails: 200, start_fails: 200, dies_at_once: 200, picture_fails: 300 };
        let fake = Arc::new(FakeRuntime::new(seed, often));
        let spec = MachineSpec {
            id: id(1),
            memory: Mebibytes(128),
            cpu: MilliCpu(1000),
            disk: Mebibytes(64),
            images: Vec::new(),
            volumes: Vec::new(),
        };
        for round in 0..20 {
            let _ = fake.create(&spec).await;
            let _ = fake.start(spec.id, boot(round), None).await;
            let before = fake.list().await.unwrap();
            let paused = fake.pause(spec.id).await;
            let after = fake.list().await.unwrap();
            match paused {
                Ok(()) => assert!(after[0].paused && !after[0].alive),
                Err(_) => assert_eq!(before, after, "what failed has changed nothing"),
            }
            let _ = fake.resume(spec.id, None).await;
            let _ = fake.stop(spec.id).await;
            assert!(fake.list().await.unwrap().iter().all(|it| !it.alive && !it.paused));
        }
        fake.destroy(spec.id).await.unwrap();
        assert_eq!(fake.list().await.unwrap(), []);
    }
}

async fn keeps_the_contract(runtime: &dyn Runtime, spec: &dyn Fn(u128) -> MachineSpec) {
    lives_and_dies(runtime, &spec(1)).await;
    let can = runtime.capabilities();
    if can.pause {
        pauses(runtime, &spec(2)).await;
    } else {
        refuses_to_pause(runtime, &spec(2)).await;
    }
    if can.snapshot {
        forks(runtime, &spec(3), [&spec(4), &spec(5)]).await;
    } else {
        refuses_to_fork(runtime, &spec(3)).await;
    }
    if can.hand_over {
        hands_over(runtime, &spec(6), spec(7).id).await;
    } else {
        refuses_to_hand_over(runtime, &spec(6), spec(7).id).await;
    }
    assert_eq!(runtime.list().await.unwrap(), [], "nothing is left");
}

async fn lives_and_dies(runtime: &dyn Runtime, spec: &MachineSpec) {
    let id = spec.id;
    assert!(matches!(runtime.start(id, boot(1), None).await, Err(RuntimeError::NoSuchMachine(_))));
    runtime.create(spec).await.unwrap();
    runtime.create(spec).await.unwrap();
    let other = MachineSpec { disk: Mebibytes(spec.disk.0 * 2), ..spec.clone() };
    assert!(matches!(runtime.create(&other).await, Err(RuntimeError::SpecDiffers(_))));
    assert!(!runtime.ended(id).await.unwrap().alive, "one that never ran has ended");
    runtime.start(id, boot(1), None).await.unwrap();
    runtime.start(id, boot(1), None).await.unwrap();
    assert!(matches!(runtime.start(id, boot(2), None).await, Err(RuntimeError::AlreadyRuns { .. })));
    let found = runtime.list().await.unwrap();
    assert_eq!((found.len(), found[0].boot, found[0].alive, found[0].paused), (1, Some(boot(1)), true, false));
    let (ended, stopped) = tokio::join!(runtime.ended(id), runtime.stop(id));
    stopped.unwrap();
    assert_eq!((ended.as_ref().unwrap().alive, ended.unwrap().boot), (false, Some(boot(1))));
    runtime.stop(id).await.unwrap();
    assert!(matches!(runtime.connect(id, 1).await, Err(RuntimeError::NotRunning(_) | RuntimeError::Connect { .. })));
    runtime.start(id, boot(2), None).await.unwrap();
    runtime.destroy(id).await.unwrap();
    runtime.destroy(id).await.unwrap();
    assert!(matches!(runtime.ended(id).await, Err(RuntimeError::NoSuchMachine(_))));
}

async fn pauses(runtime: &dyn Runtime, spec: &MachineSpec) {
    let id = spec.id;
    runtime.create(spec).await.unwrap();
    assert!(matches!(runtime.pause(id).await, Err(RuntimeError::NotRunning(_))));
    assert!(matches!(runtime.resume(id, None).await, Err(RuntimeError::NotPaused(_))));
    runtime.start(id, boot(1), None).await.unwrap();
    answers(runtime, id).await;
    runtime.pause(id).await.unwrap();
    runtime.pause(id).await.unwrap();
    let found = runtime.list().await.unwrap();
    assert_eq!((found[0].boot, found[0].alive, found[0].paused), (Some(boot(1)), false, true));
    runtime.resume(id, None).await.unwrap();
    runtime.resume(id, None).await.unwrap();
    let found = runtime.list().await.unwrap();
    assert_eq!((found[0].boot, found[0].alive, found[0].paused), (Some(boot(1)), true, false), "the same boot");
    runtime.pause(id).await.unwrap();
    runtime.stop(id).await.unwrap();
    assert!(!runtime.list().await.unwrap()[0].paused, "what is stopped is not gone on from");
    runtime.destroy(id).await.unwrap();
}

async fn refuses_to_pause(runtime: &dyn Runtime, spec: &MachineSpec) {
    runtime.create(spec).await.unwrap();
    runtime.start(spec.id, boot(1), None).await.unwrap();
    assert!(matches!(runtime.pause(spec.id).await, Err(RuntimeError::Unsupported(_))));
    assert!(matches!(runtime.resume(spec.id, None).await, Err(RuntimeError::Unsupported(_))));
    assert!(runtime.list().await.unwrap()[0].alive, "and it runs on");
    runtime.destroy(spec.id).await.unwrap();
}

async fn forks(runtime: &dyn Runtime, first: &MachineSpec, forks: [&MachineSpec; 2]) {
    runtime.create(first).await.unwrap();
    assert!(matches!(runtime.snapshot(first.id, snapshot(1), false).await, Err(RuntimeError::NotRunning(_))));
    runtime.start(first.id, boot(1), None).await.unwrap();
    answers(runtime, first.id).await;
    runtime.snapshot(first.id, snapshot(1), false).await.unwrap();
    assert!(matches!(runtime.snapshot(first.id, snapshot(1), false).await, Err(RuntimeError::SnapshotExists(_))));
    assert_eq!(runtime.snapshots().await.unwrap(), [snapshot(1)]);
    for (number, fork) in forks.into_iter().enumerate() {
        runtime.restore(fork, snapshot(1), boot(2 + number as u128), None).await.unwrap();
    }
    let found = runtime.list().await.unwrap();
    assert!(found.len() == 3 && found.iter().all(|it| it.alive), "{found:?}");
    let missing = runtime.restore(forks[0], snapshot(9), boot(9), None).await;
    assert!(matches!(missing, Err(RuntimeError::NoSuchSnapshot(_))));
    let (larger, other) = (Mebibytes(first.memory.0 * 2), MachineSpec { id: id(77), ..first.clone() });
    let misfit = runtime.restore(&MachineSpec { memory: larger, ..other.clone() }, snapshot(1), boot(9), None).await;
    assert!(matches!(misfit, Err(RuntimeError::Misfit { .. })));
    runtime.destroy(other.id).await.unwrap();
    runtime.forget(snapshot(1)).await.unwrap();
    runtime.forget(snapshot(1)).await.unwrap();
    assert_eq!(runtime.snapshots().await.unwrap(), []);
    assert!(runtime.list().await.unwrap().iter().all(|it| it.alive), "forks live without their snapshot");
    for spec in [first, forks[0], forks[1]] {
        runtime.destroy(spec.id).await.unwrap();
    }
}

async fn refuses_to_fork(runtime: &dyn Runtime, spec: &MachineSpec) {
    runtime.create(spec).await.unwrap();
    runtime.start(spec.id, boot(1), None).await.unwrap();
    assert!(matches!(runtime.snapshot(spec.id, snapshot(1), false).await, Err(RuntimeError::Unsupported(_))));
    assert!(matches!(runtime.restore(spec, snapshot(1), boot(2), None).await, Err(RuntimeError::Unsupported(_))));
    runtime.destroy(spec.id).await.unwrap();
}

async fn hands_over(runtime: &dyn Runtime, spec: &MachineSpec, to: InstanceId) {
    let id = spec.id;
    assert!(matches!(runtime.hand_over(id, to).await, Err(RuntimeError::NoSuchMachine(_))));
    runtime.create(spec).await.unwrap();
    assert!(matches!(runtime.hand_over(id, to).await, Err(RuntimeError::NotRunning(_))));
    assert!(matches!(runtime.stats(id).await, Err(RuntimeError::NotRunning(_))));
    runtime.start(id, boot(1), None).await.unwrap();
    answers(runtime, id).await;
    let former = runtime.stats(id).await.unwrap();
    assert!(matches!(runtime.hand_over(id, id).await, Err(RuntimeError::AlreadyExists(_))));
    runtime.hand_over(id, to).await.unwrap();
    let found = runtime.list().await.unwrap();
    assert_eq!((found.len(), found[0].id, found[0].boot, found[0].alive), (1, to, Some(boot(1)), true));
    assert!(matches!(runtime.ended(id).await, Err(RuntimeError::NoSuchMachine(_))));
    answers(runtime, to).await;
    assert!(runtime.stats(to).await.unwrap().cpu_ms >= former.cpu_ms, "it is the same machine");
    assert!(matches!(runtime.stats(id).await, Err(RuntimeError::NoSuchMachine(_))));
    let theirs = MachineSpec { id: to, ..spec.clone() };
    runtime.create(&theirs).await.unwrap();
    runtime.destroy(id).await.unwrap();
    assert!(runtime.list().await.unwrap()[0].alive, "what goes by the former name is nothing");
    runtime.stop(to).await.unwrap();
    runtime.start(to, boot(2), None).await.unwrap();
    answers(runtime, to).await;
    runtime.destroy(to).await.unwrap();
}

async fn refuses_to_hand_over(runtime: &dyn Runtime, spec: &MachineSpec, to: InstanceId) {
    runtime.create(spec).await.unwrap();
    runtime.start(spec.id, boot(1), None).await.unwrap();
    assert!(matches!(runtime.hand_over(spec.id, to).await, Err(RuntimeError::Unsupported(_))));
    assert!(runtime.list().await.unwrap()[0].alive, "and it runs on");
    runtime.destroy(spec.id).await.unwrap();
}

/// A guest has to be there to be made quiet; a runtime without guests has none to wait for.
async fn answers(runtime: &dyn Runtime, id: InstanceId) {
    let _ = tokio::time::timeout(std::time::Duration::from_secs(60), runtime.connect(id, 1)).await.expect("it answers");
}
