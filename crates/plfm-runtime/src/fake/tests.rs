use plfm_core::units::MilliCpu;
use ulid::Ulid;

use super::*;

fn spec() -> MachineSpec {
    let id = InstanceId::new(Ulid(1));
    MachineSpec {
        id,
        memory: Mebibytes(128),
        cpu: MilliCpu(1000),
        disk: Mebibytes(64),
        images: Vec::new(),
        volumes: Vec::new(),
    }
}

#[tokio::test]
async fn a_machine_lives_and_dies_as_a_real_one_does() {
    let runtime = FakeRuntime::new(1, Faults::default());
    let (spec, boot) = (spec(), BootId::new(Ulid(2)));
    runtime.create(&spec).await.unwrap();
    runtime.create(&spec).await.unwrap();
    runtime.start(spec.id, boot, None).await.unwrap();
    runtime.start(spec.id, boot, None).await.unwrap();
    let other = runtime.start(spec.id, BootId::new(Ulid(3)), None).await.unwrap_err();
    assert!(matches!(other, RuntimeError::AlreadyRuns { boot: running, .. } if running == boot));
    let (ended, ()) = tokio::join!(runtime.ended(spec.id), async { runtime.kill(spec.id) });
    assert!(!ended.unwrap().alive);
    runtime.destroy(spec.id).await.unwrap();
    assert_eq!(runtime.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_seed_fails_the_same_starts_each_time() {
    let faults = Faults { start_fails: 300, ..Faults::default() };
    let mut runs = Vec::new();
    for _ in 0..2 {
        let runtime = FakeRuntime::new(7, faults);
        runtime.create(&spec()).await.unwrap();
        let mut failed = Vec::new();
        for boot in 0..20 {
            failed.push(runtime.start(spec().id, BootId::new(Ulid(boot)), None).await.is_err());
            runtime.stop(spec().id).await.unwrap();
        }
        runs.push(failed);
    }
    assert_eq!(runs[0], runs[1]);
    assert!(runs[0].contains(&true) && runs[0].contains(&false));
}
