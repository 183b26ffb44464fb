//! The driver and a real Firecracker, as far as it goes where no guest boots: its API, its errors, its jail, its process.
//!
//! `PLFM_FIRECRACKER=/path cargo nextest run -p plfm-runtime --all-features real`

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use std::{env, fs};

use nix::sched::{CloneFlags, setns, unshare};
use plfm_core::ids::{BootId, InstanceId};
use plfm_core::units::MilliCpu;
use tempfile::TempDir;
use ulid::Ulid;

use super::*;
use crate::kernel::Kernel;
use crate::microvm::assets::{self, Assets};
use crate::microvm::cgroup::Cgroup;
use crate::microvm::host::Host;
use crate::microvm::process::Process;
use crate::microvm::start::{Opened, Source, Start, Started};
use crate::microvm::vmm::Running;
use crate::microvm::{MicroVmRuntime, Verdict, accel, private_dir, probe, wall};
use crate::{MachineSpec, Runtime, Tap};

struct House {
    dir: TempDir,
    runtime: MicroVmRuntime,
}

impl House {
    /// A runtime that is told that guests boot.
    async fn build(test: &str) -> Option<Self> {
        match Self::try_build().await {
            Ok(house) => Some(house),
            Err(why) => {
                eprintln!("skipped: {test}: {why}");
                None
            }
        }
    }

    async fn try_build() -> Result<Self, String> {
        let program = env::var_os("PLFM_FIRECRACKER").ok_or("PLFM_FIRECRACKER names no Firecracker")?;
        probe::opens().map_err(|verdict| verdict.detail)?;
        if !wall::can_build() {
            return Err("it needs root outside of containers".into());
        }
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
        let kernel = env::var_os("PLFM_KERNEL").map_or_else(|| target.join("kernel"), PathBuf::from);
        let kernel = Kernel::find(&[kernel, "/".into()]).map_err(|error| error.to_string())?;
        let dir = tempfile::tempdir().unwrap();
        let (machines, snapshots) = (dir.path().join("machines"), dir.path().join("snapshots"));
        for dir in [dir.path().join(assets::DIR), machines.clone(), snapshots.clone()] {
            private_dir(&dir).unwrap();
        }
        let host = Host {
            vmm: Arc::new(Firecracker::open(program.into()).await.unwrap()),
            accel: Accel::Kvm,
            assets: Assets::make(&dir.path().join(assets::DIR), &kernel, b"no guest daemon").unwrap(),
            tsc_khz: accel::measure_tsc_khz().await,
            kvm: Verdict::not_asked(),
        };
        let runtime = MicroVmRuntime {
            host: Arc::new(host),
            machines,
            snapshots,
            slots: Default::default(),
            making: Default::default(),
        };
        Ok(Self { dir, runtime })
    }

    fn spec(&self, number: u128) -> MachineSpec {
        let image = self.dir.path().join("image");
        fs::write(&image, vec![0; 1 << 20]).unwrap();
        let id = InstanceId::new(unique(number));
        let (memory, cpu, disk) = (Mebibytes(128), MilliCpu(1000), Mebibytes(64));
        MachineSpec { id, memory, cpu, disk, images: vec![image], volumes: Vec::new() }
    }

    fn machine(&self, spec: &MachineSpec) -> PathBuf {
        self.runtime.machines.join(spec.id.to_string())
    }
}

/// Other tests run beside this one.
fn unique(number: u128) -> Ulid {
    Ulid(number << 64 | u128::from(std::process::id()))
}

fn boot() -> BootId {
    BootId::new(unique(u128::from(fastrand::u64(..))))
}

/// A tap in a network of its own.
fn tap() -> Tap {
    let made = std::thread::spawn(|| {
        let outside = File::open("/proc/thread-self/ns/net").unwrap();
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let fd = crate::microvm::tap::tests::open("plfm0");
        setns(outside, CloneFlags::CLONE_NEWNET).unwrap();
        fd
    });
    Tap { fd: made.join().unwrap().unwrap(), mtu: 1420 }
}

fn status(pid: i32, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{key}:"))).unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_one_runs_in_its_jail_is_saved_and_gone_on_from() {
    const TEST: &str = "a_real_one_runs_in_its_jail_is_saved_and_gone_on_from";
    let Some(house) = House::build(TEST).await else { return };
    let (runtime, spec) = (&house.runtime, house.spec(1));
    let from = Instant::now();
    runtime.create(&spec).await.unwrap();
    let start = Instant::now();
    runtime.start(spec.id, boot(), Some(tap())).await.unwrap();
    eprintln!("made in {:?}, running after {:?}", start - from, start.elapsed());

    let dir = house.machine(&spec);
    let info = api(&dir).info().await.unwrap();
    assert_eq!(info.state, "Running", "{info:?}");
    let listed = runtime.list().await.unwrap();
    assert!(listed[0].alive);
    let name = crate::microvm::record::process_name(spec.id, listed[0].boot.unwrap());
    let process = Process::with_argument(&name).unwrap();
    let pid = process.id().pid;
    // Its own user, no capability, no new privileges, its own filter of system calls, and a root with what it needs alone.
    assert!(status(pid, "Uid").parse::<u32>().unwrap() >= 1_900_000_000);
    assert_eq!(status(pid, "CapEff"), "0000000000000000");
    assert_eq!((status(pid, "NoNewPrivs"), status(pid, "Seccomp")), ("1".to_owned(), "2".to_owned()));
    let root = format!("/proc/{pid}/root");
    let mut seen: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    seen.sort();
    let ours = ["dev", "img0", "initramfs", "kernel", "monitor", "own", "rw"];
    assert!(ours.iter().all(|name| seen.iter().any(|seen| seen == name)), "{seen:?}");
    assert!(
        !seen.iter().any(|name| ["etc", "home", "root", "proc", "sys", "work"].iter().any(|it| name == it)),
        "{seen:?}"
    );

    // A second call of each kind is a success; a machine that runs can be let go on.
    let vmm = runtime.host.vmm.clone();
    tokio::task::spawn_blocking({
        let (vmm, dir) = (vmm.clone(), dir.clone());
        move || vmm.go_on(&dir).unwrap()
    })
    .await
    .unwrap();

    let picture = house.dir.path().join("picture");
    save(&house, &spec, pid, None, &picture).await;
    assert_eq!(fs::metadata(picture.join(MEMORY)).unwrap().len(), spec.memory.bytes());
    assert_eq!(api(&dir).info().await.unwrap().state, "Running");
    assert_eq!(fs::read_dir(dir.join(sockets::OWN)).unwrap().count(), 2, "its sockets alone are left");

    // A second, on a disk of its own, goes on where the first was; what it has changed since is all that is written of it.
    let second = house.spec(4);
    runtime.create(&second).await.unwrap();
    let started = gone_on(&house, &second, &picture).await;
    let there = house.machine(&second);
    assert_eq!(api(&there).info().await.unwrap().state, "Running");
    let child = house.dir.path().join("child");
    save(&house, &second, started.process.id().pid, Some(there.join(MEMORY)), &child).await;
    let bytes = |picture: &Path| fs::read(picture.join(MEMORY)).unwrap();
    let (first, second) = (bytes(&picture), bytes(&child));
    let changed = first.chunks(4096).zip(second.chunks(4096)).filter(|(one, other)| one != other).count();
    eprintln!("{changed} of {} pages differ", first.len() / 4096);
    assert!(first.len() == second.len() && changed < first.len() / 4096 / 2);
    // Of a second picture nothing is missing either: it is written whole.
    let again = house.dir.path().join("again");
    save(&house, &house.spec(4), started.process.id().pid, Some(there.join(MEMORY)), &again).await;
    let third = bytes(&again);
    let changed = second.chunks(4096).zip(third.chunks(4096)).filter(|(one, other)| one != other).count();
    assert!(third.len() == first.len() && changed < first.len() / 4096 / 2);
    started.process.kill();
    started.process.ended().await;

    runtime.destroy(spec.id).await.unwrap();
    process.ended().await;
    runtime.destroy(house.spec(4).id).await.unwrap();
    assert!(runtime.list().await.unwrap().is_empty() && !dir.exists());
}

/// Without the guest's answer, which will not come here.
async fn gone_on(house: &House, spec: &MachineSpec, picture: &Path) -> Started {
    let dir = house.machine(spec);
    let memory = dir.join(MEMORY);
    fs::copy(picture.join(MEMORY), &memory).unwrap();
    for file in [&memory, &picture.join(DEVICES)] {
        fs::set_permissions(file, Permissions::from_mode(0o444)).unwrap();
    }
    let start = Start {
        name: format!("plfm-{}", spec.id),
        memory: spec.memory,
        vcpus: spec.vcpus(),
        images: vec![Opened::read_only(spec.images[0].clone()).unwrap()],
        disk: Some(Opened::writable(dir.join("rw.ext4")).unwrap()),
        volumes: Vec::new(),
        net: Some(tap()),
        source: Source::Saved { memory, devices: picture.join(DEVICES) },
        uid: wall::own_uid("another", &[]),
        cgroup: Cgroup::none(),
    };
    let from = Instant::now();
    let started = start.run(&house.runtime.host, &dir, |_| Ok(())).await.unwrap();
    eprintln!("went on after {:?}", from.elapsed());
    started
}

/// Halts it, writes it down, lets it go on.
async fn save(house: &House, spec: &MachineSpec, pid: i32, base: Option<PathBuf>, into: &Path) {
    private_dir(into).unwrap();
    let (vmm, dir, memory, into) = (house.runtime.host.vmm.clone(), house.machine(spec), spec.memory, into.to_owned());
    let work = move || {
        let running = Running { dir: &dir, pid, memory, base: base.as_deref() };
        let from = Instant::now();
        vmm.save(&running, &into).unwrap();
        vmm.go_on(&dir).unwrap();
        eprintln!("saved in {:?}", from.elapsed());
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}

fn whole(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_real_one_refuses_is_told_in_its_own_words() {
    let Some(house) = House::build("what_a_real_one_refuses_is_told_in_its_own_words").await else { return };
    let (runtime, spec) = (&house.runtime, house.spec(2));
    runtime.create(&spec).await.unwrap();
    // We may read it, and its user may not.
    fs::set_permissions(&spec.images[0], Permissions::from_mode(0o600)).unwrap();
    let refused = runtime.start(spec.id, boot(), None).await.unwrap_err();
    let words = whole(&refused);
    assert!(words.contains("Firecracker refuses /drives/img0: ") && words.contains("Permission denied"), "{words}");
    assert!(!runtime.list().await.unwrap()[0].alive);
    runtime.destroy(spec.id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_one_that_dies_is_noticed() {
    let Some(house) = House::build("a_real_one_that_dies_is_noticed").await else { return };
    let (runtime, spec) = (&house.runtime, house.spec(3));
    runtime.create(&spec).await.unwrap();
    let boot = boot();
    runtime.start(spec.id, boot, None).await.unwrap();
    Process::with_argument(&crate::microvm::record::process_name(spec.id, boot)).unwrap().kill();
    assert!(!runtime.ended(spec.id).await.unwrap().alive);
    let again = self::boot();
    runtime.start(spec.id, again, None).await.unwrap();
    assert_eq!(runtime.list().await.unwrap()[0].boot, Some(again));
    runtime.destroy(spec.id).await.unwrap();
}
