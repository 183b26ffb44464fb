//! Machines as microVMs: a monitor's process each, which outlives us and is taken over by the next run of ours.
//!
//! ```text
//!   DIR/machines/INSTANCE/   machine.json  rw.ext4  console.log  control  channel  console  connect
//!   DIR/assets/              vmlinux-HASH  initramfs-HASH  tsc.json  kvm.json
//! ```
//!
//! [`vmm`] says what a monitor is and [`qemu`] is one; [`machine`] is one machine's life; [`host`] is what they share.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use plfm_core::event::Isolation;
use plfm_core::ids::{BootId, InstanceId};
use plfm_core::units::Mebibytes;

mod accel;
mod assets;
pub(crate) mod cgroup;
mod console;
mod disk;
mod door;
mod host;
mod jail;
mod machine;
mod probe;
mod process;
mod qemu;
mod record;
mod sockets;
mod start;
pub(crate) mod tools;
mod vmm;
pub(crate) mod wall;

pub use accel::{Accel, EMULATED_FACTOR, HELLO_WAIT, patience};
pub use probe::Verdict;

use crate::{BoxedStream, IMAGES_MAX, Machine, MachineSpec, Runtime, RuntimeError, Tap};
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
}

pub struct MicroVmRuntime {
    host: Arc<Host>,
    machines: PathBuf,
    slots: Mutex<BTreeMap<InstanceId, Arc<Slot>>>,
    /// One machine is made at a time, so that no two get one user.
    making: tokio::sync::Mutex<()>,
}

impl MicroVmRuntime {
    /// Prepares what machines need, and takes over those that an earlier run left.
    pub async fn open(config: Config) -> Result<Self, RuntimeError> {
        let machines = config.dir.join("machines");
        private_dir(&machines).map_err(unprepared("the directory of machines"))?;
        let host = Arc::new(Host::prepare(&config).await?);
        let slots = adopt_all(&machines).await.map_err(unprepared("the directory of machines"))?;
        Ok(Self { host, machines, slots: Mutex::new(slots), making: tokio::sync::Mutex::new(()) })
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

    /// A machine appears in one step, whole.
    async fn make(&self, spec: &MachineSpec) -> Result<Slot, RuntimeError> {
        let (id, name) = (spec.id, spec.id.to_string());
        let record = Record { spec: spec.clone(), uid: wall::own_uid(&name, &self.uids().await), run: None };
        let (fresh, dir) = (self.machines.join(format!("{name}{FRESH}")), self.machines.join(name));
        let fail = |source| RuntimeError::Disk { id, source };
        remove_dir(&fresh).and_then(|()| private_dir(&fresh)).map_err(fail)?;
        disk::format(&fresh.join(DISK), spec.disk).await.map_err(fail)?;
        record.save(&fresh).and_then(|()| fs::rename(&fresh, &dir)).map_err(fail)?;
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
        check(spec)?;
        let _turn = self.making.lock().await;
        if let Some(slot) = self.slot(spec.id) {
            return if slot.is(spec).await { Ok(()) } else { Err(RuntimeError::SpecDiffers(spec.id)) };
        }
        let slot = self.make(spec).await?;
        self.slots.lock().expect("no panic while it is held").insert(spec.id, Arc::new(slot));
        Ok(())
    }

    async fn start(&self, id: InstanceId, boot: BootId, net: Option<Tap>) -> Result<(), RuntimeError> {
        let (slot, host) = (self.known(id)?, self.host.clone());
        // On its own, so that a caller who gives up in the middle leaves no process without an attendant.
        let started = tokio::spawn(async move { slot.start(&host, boot, net).await });
        started.await.map_err(unprepared("the start of a machine"))?
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
        match fs::rename(dir, &gone).and_then(|()| remove_dir(&gone)) {
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

    async fn connect(&self, id: InstanceId, port: u32) -> Result<BoxedStream, RuntimeError> {
        Ok(Box::pin(self.known(id)?.connect(port).await?))
    }
}

/// What the monitor would refuse with worse words.
fn check(spec: &MachineSpec) -> Result<(), RuntimeError> {
    let why = match spec {
        _ if spec.images.len() > IMAGES_MAX => "it has more than four images",
        _ if spec.memory < MEMORY_MIN => "it has less than 64 MiB of memory",
        _ if spec.disk < DISK_MIN => "its disk is smaller than 16 MiB",
        _ if spec.vcpus == 0 || spec.vcpus > VCPUS_MAX => "it must have between 1 and 32 processors",
        _ => return Ok(()),
    };
    Err(RuntimeError::BadSpec { id: spec.id, why })
}

/// A distribution's kernel takes 35 MiB.
const MEMORY_MIN: Mebibytes = Mebibytes(64);
/// Below this the tables of ext4 leave nothing to write to.
const DISK_MIN: Mebibytes = Mebibytes(16);
const VCPUS_MAX: u8 = 32;

/// A machine that is not whole yet, and one that is no longer.
const FRESH: &str = ".new";
const GONE: &str = ".gone";

async fn adopt_all(machines: &Path) -> io::Result<BTreeMap<InstanceId, Arc<Slot>>> {
    let mut slots = BTreeMap::new();
    for entry in fs::read_dir(machines)? {
        let dir = entry?.path();
        let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(FRESH) || name.ends_with(GONE) {
            remove_dir(&dir)?;
            continue;
        }
        match (name.parse(), Record::load(&dir)) {
            (Ok(id), Ok(record)) => drop(slots.insert(id, Arc::new(Slot::adopt(dir.clone(), record).await))),
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
