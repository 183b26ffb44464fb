//! Machines as microVMs: a monitor's process each, which outlives us and is taken over by the next run of ours.
//!
//! ```text
//!   DIR/machines/INSTANCE/   machine.json  rw.ext4  memory  console.log  control  channel  console  connect
//!                            own/  paused/
//!   DIR/snapshots/SNAPSHOT/  picture.json  rw.ext4  memory  devices
//!   DIR/assets/              vmlinux-HASH  initramfs-HASH  tsc.json  kvm.json  kvm-firecracker.json
//! ```
//!
//! [`vmm`] says what a monitor is, [`firecracker`] and [`qemu`] are two; [`machine`] is one machine's life, [`picture`] what it is
//! at one moment; [`host`] is what they share.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use plfm_core::event::Isolation;
use plfm_core::ids::{BootId, InstanceId, SnapshotId};
use plfm_core::units::Mebibytes;

mod accel;
mod assets;
pub(crate) mod cgroup;
mod console;
mod copy;
mod disk;
mod door;
pub mod firecracker;
mod host;
mod jail;
mod limits;
mod machine;
mod memory;
mod picture;
mod probe;
mod process;
mod qemu;
mod qmp;
mod record;
mod sockets;
mod start;
mod stats;
mod tap;
pub(crate) mod tools;
mod vmm;
pub(crate) mod wall;

pub(crate) use disk::format_volume;

pub use accel::{Accel, EMULATED_FACTOR, HELLO_WAIT, patience};
pub use probe::{Verdict, opens as kvm_opens};

use crate::points::Point;
use crate::{
    BoxedStream, Capabilities, IMAGES_MAX, Machine, MachineSpec, Runtime, RuntimeError, Stats, Tap, VOLUMES_MAX,
};
use host::{Host, unprepared};
use machine::{DISK, Slot};
use record::Record;

pub struct Config {
    /// For this runtime alone; made if it is not there.
    pub dir: PathBuf,
    /// Where a kernel package lies unpacked, the best first; `/` for an installed one.
    pub kernel_roots: Vec<PathBuf>,
    /// The guest daemon, a static program.
    pub guest: Arc<[u8]>,
    /// Without one, KVM if it works here.
    pub accel: Option<Accel>,
    /// This Firecracker, where guests boot on it; else QEMU.
    pub firecracker: Option<PathBuf>,
}

pub struct MicroVmRuntime {
    host: Arc<Host>,
    machines: PathBuf,
    snapshots: PathBuf,
    slots: Mutex<BTreeMap<InstanceId, Arc<Slot>>>,
    /// One machine is made at a time, so that no two get one user.
    making: tokio::sync::Mutex<()>,
}

impl MicroVmRuntime {
    /// Prepares what machines need, and takes over those that an earlier run left.
    pub async fn open(config: Config) -> Result<Self, RuntimeError> {
        let (machines, snapshots) = (config.dir.join("machines"), config.dir.join("snapshots"));
        private_dir(&machines).map_err(unprepared("the directory of machines"))?;
        private_dir(&snapshots).map_err(unprepared("the directory of snapshots"))?;
        sweep(&snapshots).map_err(unprepared("the directory of snapshots"))?;
        let host = Arc::new(Host::prepare(&config).await?);
        let slots = adopt_all(&host, &machines).await.map_err(unprepared("the directory of machines"))?;
        Ok(Self { host, machines, snapshots, slots: Mutex::new(slots), making: tokio::sync::Mutex::new(()) })
    }

    /// Whether guests run on KVM, and why not.
    pub fn kvm(&self) -> &Verdict {
        &self.host.kvm
    }

    fn slot(&self, id: InstanceId) -> Option<Arc<Slot>> {
        self.slots.lock().expect("no panic while it is held").get(&id).cloned()
    }

    fn known(&self, id: InstanceId) -> Result<Arc<Slot>, RuntimeError> {
        self.slot(id).ok_or(RuntimeError::NoSuchMachine(id))
    }

    fn all(&self) -> Vec<Arc<Slot>> {
        self.slots.lock().expect("no panic while it is held").values().cloned().collect()
    }

    async fn uids(&self) -> Vec<u32> {
        let mut taken = Vec::new();
        for slot in self.all() {
            taken.extend(slot.uid().await);
        }
        taken
    }

    /// The directory of a snapshot that is whole.
    fn snapshot_dir(&self, snapshot: SnapshotId) -> Result<PathBuf, RuntimeError> {
        let dir = self.snapshots.join(snapshot.to_string());
        if dir.exists() { Ok(dir) } else { Err(RuntimeError::NoSuchSnapshot(snapshot)) }
    }

    /// The machine, made if it is not there; its disk is empty, or as it was in a snapshot.
    async fn ensure(&self, spec: &MachineSpec, disk: Option<&Path>) -> Result<Arc<Slot>, RuntimeError> {
        check(spec)?;
        let _turn = self.making.lock().await;
        if let Some(slot) = self.slot(spec.id) {
            return if slot.is(spec).await { Ok(slot) } else { Err(RuntimeError::SpecDiffers(spec.id)) };
        }
        let slot = Arc::new(self.make(spec, disk).await?);
        self.slots.lock().expect("no panic while it is held").insert(spec.id, slot.clone());
        Ok(slot)
    }

    /// A machine appears in one step, whole.
    async fn make(&self, spec: &MachineSpec, disk: Option<&Path>) -> Result<Slot, RuntimeError> {
        let (id, name) = (spec.id, spec.id.to_string());
        let record = Record { spec: spec.clone(), uid: wall::own_uid(&name, &self.uids().await), run: None };
        let (fresh, dir) = (self.machines.join(format!("{name}{FRESH}")), self.machines.join(name));
        let fail = |source| RuntimeError::Disk { id, source };
        remove_dir(&fresh).and_then(|()| private_dir(&fresh)).map_err(fail)?;
        match disk {
            None => disk::format(&fresh.join(DISK), spec.disk).await.map_err(fail)?,
            Some(from) => copied(from.to_owned(), fresh.join(DISK)).await.map_err(fail)?,
        }
        Point::DiskMade.pass();
        record.save(&fresh).and_then(|()| fs::rename(&fresh, &dir)).map_err(fail)?;
        Point::MachineNamed.pass();
        Ok(Slot::new(dir, record))
    }
}

#[async_trait]
impl Runtime for MicroVmRuntime {
    fn class(&self) -> Isolation {
        self.host.accel.isolation()
    }

    fn overhead(&self) -> Mebibytes {
        self.host.vmm.overhead(self.host.accel)
    }

    async fn create(&self, spec: &MachineSpec) -> Result<(), RuntimeError> {
        self.ensure(spec, None).await.map(drop)
    }

    async fn start(&self, id: InstanceId, boot: BootId, net: Option<Tap>) -> Result<(), RuntimeError> {
        let (slot, host) = (self.known(id)?, self.host.clone());
        finished("a start", async move { slot.start(&host, boot, net).await }).await
    }

    async fn stop(&self, id: InstanceId) -> Result<(), RuntimeError> {
        match self.slot(id) {
            Some(slot) => slot.stop().await,
            None => Ok(()),
        }
    }

    async fn destroy(&self, id: InstanceId) -> Result<(), RuntimeError> {
        self.stop(id).await?;
        let (dir, gone) = (self.machines.join(id.to_string()), self.machines.join(format!("{id}{GONE}")));
        let renamed = fs::rename(dir, &gone);
        Point::MachineGone.pass();
        match renamed.and_then(|()| remove_dir(&gone)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(RuntimeError::Io { operation: "remove", id, source });
            }
            _ => {}
        }
        self.slots.lock().expect("no panic while it is held").remove(&id);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Machine>, RuntimeError> {
        Ok(self.all().iter().map(|slot| slot.look()).collect())
    }

    async fn ended(&self, id: InstanceId) -> Result<Machine, RuntimeError> {
        Ok(self.known(id)?.ended().await)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { snapshot: true, pause: true, hand_over: true }
    }

    async fn snapshot(&self, id: InstanceId, as_: SnapshotId, durable: bool) -> Result<(), RuntimeError> {
        let (slot, host, to) = (self.known(id)?, self.host.clone(), self.snapshots.join(as_.to_string()));
        if to.exists() {
            return Err(RuntimeError::SnapshotExists(as_));
        }
        // On its own, as a start is: a guest must not stay halted because a caller gave up.
        finished("a snapshot", async move { slot.snapshot(&host, &to, durable).await }).await
    }

    async fn restore(
        &self,
        spec: &MachineSpec,
        from: SnapshotId,
        boot: BootId,
        net: Option<Tap>,
    ) -> Result<(), RuntimeError> {
        let dir = self.snapshot_dir(from)?;
        let slot = self.ensure(spec, Some(&dir.join(DISK))).await?;
        let host = self.host.clone();
        finished("a restore", async move { slot.restore(&host, boot, net, &dir).await }).await
    }

    async fn snapshots(&self) -> Result<Vec<SnapshotId>, RuntimeError> {
        let entries = fs::read_dir(&self.snapshots).map_err(unprepared("the directory of snapshots"))?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }

    async fn forget(&self, snapshot: SnapshotId) -> Result<(), RuntimeError> {
        let dir = self.snapshots.join(snapshot.to_string());
        let gone = dir.with_extension("gone");
        let renamed = fs::rename(dir, &gone);
        Point::SnapshotGone.pass();
        match renamed.and_then(|()| remove_dir(&gone)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(unprepared("the directory of snapshots")(error))
            }
            _ => Ok(()),
        }
    }

    async fn pause(&self, id: InstanceId) -> Result<(), RuntimeError> {
        let (slot, host) = (self.known(id)?, self.host.clone());
        finished("a pause", async move { slot.pause(&host).await }).await
    }

    async fn resume(&self, id: InstanceId, net: Option<Tap>) -> Result<(), RuntimeError> {
        let (slot, host) = (self.known(id)?, self.host.clone());
        finished("a resume", async move { slot.resume(&host, net).await }).await
    }

    async fn hand_over(&self, id: InstanceId, to: InstanceId) -> Result<(), RuntimeError> {
        let _turn = self.making.lock().await;
        if self.slot(to).is_some() {
            return Err(RuntimeError::AlreadyExists(to));
        }
        let fail = |source| RuntimeError::Io { operation: "hand over", id, source };
        let record = self.known(id)?.leave().await?;
        let (from, dir) = (self.machines.join(id.to_string()), self.machines.join(to.to_string()));
        let renamed = fs::rename(&from, &dir);
        // Whatever becomes of it has an attendant again.
        let (owner, dir) = if renamed.is_ok() { (to, dir) } else { (id, from) };
        Point::HandedOver.pass();
        let record = record.of(owner);
        let saved = record.save(&dir);
        let slot = Arc::new(Slot::adopt(&self.host, dir, record).await);
        let alive = slot.look().alive;
        {
            let mut slots = self.slots.lock().expect("no panic while it is held");
            slots.remove(&id);
            slots.insert(owner, slot);
        }
        renamed.and(saved).map_err(fail)?;
        if alive { Ok(()) } else { Err(RuntimeError::NotRunning(to)) }
    }

    async fn stats(&self, id: InstanceId) -> Result<Stats, RuntimeError> {
        let slot = self.known(id)?;
        let stats =
            tokio::task::spawn_blocking(move || slot.stats()).await.map_err(unprepared("what a machine takes"))?;
        stats
            .map_err(|source| RuntimeError::Io { operation: "measure", id, source })?
            .ok_or(RuntimeError::NotRunning(id))
    }

    async fn connect(&self, id: InstanceId, port: u32) -> Result<BoxedStream, RuntimeError> {
        Ok(Box::pin(self.known(id)?.connect(port).await?))
    }
}

/// On its own, so that a caller who gives up in the middle leaves no process without an attendant and no guest halted.
async fn finished(
    what: &'static str,
    work: impl Future<Output = Result<(), RuntimeError>> + Send + 'static,
) -> Result<(), RuntimeError> {
    tokio::spawn(work).await.map_err(unprepared(what))?
}

async fn copied(from: PathBuf, to: PathBuf) -> io::Result<()> {
    let copied = tokio::task::spawn_blocking(move || copy::sparse(&from, &to).map(drop));
    copied.await.map_err(io::Error::other)?
}

/// What the monitor would refuse with worse words.
fn check(spec: &MachineSpec) -> Result<(), RuntimeError> {
    let why = match spec {
        _ if spec.images.len() > IMAGES_MAX => "it has more than four images",
        _ if spec.volumes.len() > VOLUMES_MAX => "it has more than eight volumes",
        _ if spec.memory < MEMORY_MIN => "it has less than 64 MiB of memory",
        _ if spec.disk < DISK_MIN => "its disk is smaller than 16 MiB",
        _ if !(1..=VCPUS_MAX).contains(&spec.vcpus()) => "it must have between 1 and 32 processors",
        _ => return Ok(()),
    };
    Err(RuntimeError::BadSpec { id: spec.id, why })
}

/// A distribution's kernel takes 35 MiB.
const MEMORY_MIN: Mebibytes = Mebibytes(64);
/// Below this the tables of ext4 leave nothing to write to.
const DISK_MIN: Mebibytes = Mebibytes(16);
const VCPUS_MAX: u32 = 32;

/// A machine that is not whole yet, and one that is no longer.
const FRESH: &str = ".new";
const GONE: &str = ".gone";

/// What an earlier run has not finished is nobody's.
fn sweep(snapshots: &Path) -> io::Result<()> {
    for entry in fs::read_dir(snapshots)? {
        let path = entry?.path();
        if path.extension().is_some() {
            remove_dir(&path)?;
        }
    }
    Ok(())
}

async fn adopt_all(host: &Host, machines: &Path) -> io::Result<BTreeMap<InstanceId, Arc<Slot>>> {
    let mut slots = BTreeMap::new();
    for entry in fs::read_dir(machines)? {
        let dir = entry?.path();
        let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(FRESH) || name.ends_with(GONE) {
            remove_dir(&dir)?;
            continue;
        }
        match (name.parse(), Record::load(&dir)) {
            (Ok(id), Ok(record)) => {
                drop(slots.insert(id, Arc::new(Slot::adopt(host, dir.clone(), record.of(id)).await)))
            }
            (_, record) => tracing::error!(?dir, error = ?record.err(), "not a machine's directory"),
        }
    }
    Ok(slots)
}

fn private_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn remove_dir(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
