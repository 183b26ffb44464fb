//! `restore.answer`: a machine that goes on from a snapshot, from the call to its guest's answer, beside a clone by hand of a template of the
//! same kernel, initramfs, memory and disks, by turns. `restore.identity`: until it is somebody of its own and its workload goes on.
//! `restore.exec`: until a first command has ended in it. `restore.parked`: the same of one that was kept ready.
//!
//! `density.50`: what so many of them take when nothing is asked of them: memory as the kernel divides it among those who share it, and
//! processor.

use std::fs;
use std::time::{Duration, Instant};

use plfm_api::envd::{self, Event};
use plfm_api::guest::{self, Client, ConfigureRequest, Phase, RefreshRequest};
use plfm_api::rpc::Target;
use plfm_core::ids::{BootId, InstanceId, SnapshotId};
use plfm_core::units::Mebibytes;
use plfm_runtime::{MachineSpec, Runtime};
use ulid::Ulid;

use super::byhand::{ByHand, Template};
use super::{House, milliseconds, row, row_beside};

const ROUNDS: u128 = 40;
const MEMORY: Mebibytes = Mebibytes(128);
const MANY: u128 = 50;
/// In which they are watched.
const IDLE: Duration = Duration::from_secs(20);
const FROM: SnapshotId = SnapshotId::new(Ulid(5_000));
const PEER: &str = "QEMU and QMP by hand";

pub async fn measure(house: &House, wanted: &impl Fn(&str) -> bool) {
    kept(house).await;
    let template = ByHand::template(house, MEMORY).await;
    if wanted("restore") {
        restores(house, &template).await;
    }
    if wanted("density") {
        many(house, &template).await;
    }
    house.runtime.forget(FROM).await.unwrap();
}

/// A sandbox that is nobody, at rest, as a snapshot.
async fn kept(house: &House) {
    let id = house.booted(5_000, MEMORY).await.id;
    let client = house.client(id);
    client.configure(configuration(id)).await.unwrap();
    let mut watch = client.watch().await.unwrap();
    while !matches!(watch.next().await.unwrap(), Some(Phase::Running(_))) {}
    // As a node does it: what each does first has been done once.
    client.quiesce().await.unwrap();
    becomes(house, id).await;
    first_command(house, id).await;
    client.quiesce().await.unwrap();
    house.runtime.snapshot(id, FROM, false).await.unwrap();
    house.runtime.destroy(id).await.unwrap();
}

async fn restores(house: &House, template: &Template) {
    let (mut answers, mut identities, mut execs) = (Vec::new(), Vec::new(), Vec::new());
    let (mut parked, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let begun = Instant::now();
        let spec = restored(house, 6_000 + round).await;
        answers.push(milliseconds(begun));
        becomes(house, spec.id).await;
        identities.push(milliseconds(begun));
        first_command(house, spec.id).await;
        execs.push(milliseconds(begun));
        house.client(spec.id).quiesce().await.unwrap();
        let begun = Instant::now();
        let heir = house.spec(7_000 + round, MEMORY).id;
        house.runtime.hand_over(spec.id, heir).await.unwrap();
        becomes(house, heir).await;
        first_command(house, heir).await;
        parked.push(milliseconds(begun));
        house.runtime.destroy(heir).await.unwrap();
        let begun = Instant::now();
        let _peer = ByHand::clone(house, template).await;
        theirs.push(milliseconds(begun));
    }
    row_beside("restore.answer", "ms", &answers, PEER, &theirs);
    row("restore.identity", "ms", &identities);
    row("restore.exec", "ms", &execs);
    row("restore.parked", "ms", &parked);
}

async fn many(house: &House, template: &Template) {
    let mut machines = Vec::new();
    for number in 0..MANY {
        machines.push(restored(house, 8_000 + number).await.id);
    }
    let mine = idle(&machines.iter().map(|id| super::forks::monitor(*id)).collect::<Vec<_>>()).await;
    for id in machines {
        house.runtime.destroy(id).await.unwrap();
    }
    let mut peers = Vec::new();
    for _ in 0..MANY {
        peers.push(ByHand::clone(house, template).await);
    }
    let theirs = idle(&peers.iter().map(ByHand::pid).collect::<Vec<_>>()).await;
    row_beside("density.50.memory", "MiB", &mine.0, PEER, &theirs.0);
    row_beside("density.50.cpu", "ms/s", &mine.1, PEER, &theirs.1);
}

/// Of each process, its part of the memory, and the processor's time that it takes.
async fn idle(pids: &[u32]) -> (Vec<f64>, Vec<f64>) {
    let before = pids.iter().map(|pid| ticks(*pid)).collect::<Vec<_>>();
    tokio::time::sleep(IDLE).await;
    // A tick is a hundredth of a second on every Linux.
    let took = |(pid, before): (&u32, u64)| (ticks(*pid) - before) as f64 * 10.0 / IDLE.as_secs_f64();
    let processor = pids.iter().zip(before).map(took).collect();
    (pids.iter().map(|pid| part_of_memory(*pid)).collect(), processor)
}

fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(") ").unwrap().1.split(' ').collect::<Vec<_>>();
    // utime and stime, proc_pid_stat(5).
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn part_of_memory(pid: u32) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    super::forks::mebibytes(rollup.lines(), "Pss:")
}

async fn restored(house: &House, number: u128) -> MachineSpec {
    let spec = house.spec(number, MEMORY);
    house.runtime.restore(&spec, FROM, BootId::new(Ulid(number)), None).await.unwrap();
    spec
}

async fn becomes(house: &House, id: InstanceId) {
    let client: Client = house.client(id);
    let renewal = RefreshRequest {
        instance_id: id.to_string(),
        boot_id: BootId::new(id.ulid()).to_string(),
        hostname: "other".to_owned(),
        realtime_ns: 1_800_000_000_000_000_000,
        entropy: vec![7; 64],
        generation: 0,
        ..Default::default()
    };
    client.refresh(renewal).await.unwrap();
    client.thaw(Default::default()).await.unwrap();
}

async fn first_command(house: &House, id: InstanceId) {
    let runtime = house.runtime.clone();
    let target = Target::new(move || {
        let runtime = runtime.clone();
        async move { runtime.connect(id, plfm_api::channel::port::ENVD).await.map_err(std::io::Error::other) }
    });
    let mut session = envd::Client::new(target).start(envd::Command::new(["/bin/busybox", "true"])).await.unwrap();
    while let Some(event) = session.next().await.unwrap() {
        if let Event::End(end) = event {
            assert_eq!(end.exit_code, 0);
        }
    }
}

fn configuration(id: InstanceId) -> ConfigureRequest {
    ConfigureRequest {
        instance_id: id.to_string(),
        boot_id: BootId::new(Ulid(1)).to_string(),
        hostname: "nobody".to_owned(),
        workload: guest::Workload::default().into(),
        network: guest::Network { loopback_only: true, ..Default::default() }.into(),
        disks: guest::Disks { images: 1, rw_serial: "rw".to_owned(), ..Default::default() }.into(),
        realtime_ns: 1_800_000_000_000_000_000,
        entropy: vec![5; 64],
        sandbox: true,
        ..Default::default()
    }
}
