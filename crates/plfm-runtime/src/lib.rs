//! Machines for instances: one small trait, one module per way of making them.
//!
//! A runtime makes a machine from images and a disk, starts it, notices its end and leaves nothing behind. What is said to the guest
//! (configuration, secrets, health, logs, exec) is spoken by others over [`Runtime::connect`]; networks are made by the node and
//! handed in as a [`Tap`]; when to start, retry or give up is the node's decision too.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;

use async_trait::async_trait;
use plfm_core::ids::{BootId, InstanceId, SnapshotId};
use plfm_core::units::{Mebibytes, MilliCpu};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

pub mod doctor;
mod error;
#[cfg(feature = "fake")]
pub mod fake;
pub mod initramfs;
pub mod kernel;
pub mod microvm;
pub mod points;
pub mod space;
pub mod volumes;

pub use error::RuntimeError;
pub use plfm_core::event::Isolation;

/// What every kind of machine can do. Each operation may be repeated: what is done already is a success.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// How strong the wall around its machines is.
    fn class(&self) -> Isolation;

    /// What the host pays for a machine besides its memory.
    fn overhead(&self) -> Mebibytes;

    /// Makes the machine's directory and a fresh writable disk.
    async fn create(&self, spec: &MachineSpec) -> Result<(), RuntimeError>;

    /// Starts it. Answers when the machine runs; its guest may not have said a word yet.
    async fn start(&self, id: InstanceId, boot: BootId, net: Option<Tap>) -> Result<(), RuntimeError>;

    /// Ends it at once, whatever the guest does. Answers when it has ended.
    async fn stop(&self, id: InstanceId) -> Result<(), RuntimeError>;

    /// Ends it and removes all that was made for it.
    async fn destroy(&self, id: InstanceId) -> Result<(), RuntimeError>;

    /// What exists here, made by this process or by one before it.
    async fn list(&self) -> Result<Vec<Machine>, RuntimeError>;

    /// Waits until the machine does not run, and says how it was left; at once if it does not run now.
    async fn ended(&self, id: InstanceId) -> Result<Machine, RuntimeError>;

    /// What of the following it can do; the rest answers [`RuntimeError::Unsupported`].
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// Keeps what a running machine is: memory, devices, disk. It goes on; whoever asks has made its guest quiet, and wakes it.
    /// A durable one survives the loss of power from when this answers, and takes longer.
    async fn snapshot(&self, id: InstanceId, as_: SnapshotId, durable: bool) -> Result<(), RuntimeError> {
        let _ = (id, as_, durable);
        Err(RuntimeError::Unsupported("snapshot"))
    }

    /// Makes a machine and lets it go on where the snapshot was taken. Answers when its guest daemon does; its workload still rests.
    async fn restore(
        &self,
        spec: &MachineSpec,
        from: SnapshotId,
        boot: BootId,
        net: Option<Tap>,
    ) -> Result<(), RuntimeError> {
        let _ = (spec, from, boot, net);
        Err(RuntimeError::Unsupported("restore"))
    }

    /// The snapshots that are kept here.
    async fn snapshots(&self) -> Result<Vec<SnapshotId>, RuntimeError> {
        Ok(Vec::new())
    }

    /// Removes a snapshot. Machines that went on from it are not concerned.
    async fn forget(&self, snapshot: SnapshotId) -> Result<(), RuntimeError> {
        let _ = snapshot;
        Ok(())
    }

    /// Ends a running machine so that it can go on: answers when all of it is safe on disk.
    async fn pause(&self, id: InstanceId) -> Result<(), RuntimeError> {
        let _ = id;
        Err(RuntimeError::Unsupported("pause"))
    }

    /// Lets a paused machine go on, as the boot that it was. Answers when its guest daemon does; its workload still rests.
    async fn resume(&self, id: InstanceId, net: Option<Tap>) -> Result<(), RuntimeError> {
        let _ = (id, net);
        Err(RuntimeError::Unsupported("pause"))
    }

    /// Makes a running machine another instance's, which has none yet: from then on there is none by the former id. Streams into it
    /// end; its guest does not notice.
    async fn hand_over(&self, id: InstanceId, to: InstanceId) -> Result<(), RuntimeError> {
        let _ = (id, to);
        Err(RuntimeError::Unsupported("hand over"))
    }

    /// What a running machine has taken of its host since it was started here.
    async fn stats(&self, id: InstanceId) -> Result<Stats, RuntimeError>;

    /// A byte stream to a port of the guest daemon. Waits for a guest that still boots: the caller sets the deadline.
    async fn connect(&self, id: InstanceId, port: u32) -> Result<BoxedStream, RuntimeError>;
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Of its processors and whoever serves them.
    pub cpu_ms: u64,
    /// What is resident of its memory and of the process around it. Pages that are shared with others count in part.
    pub memory_bytes: u64,
    /// What its writable disk takes.
    pub disk_bytes: u64,
    /// From and to the host's disks.
    pub read_bytes: u64,
    pub written_bytes: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// [`Runtime::snapshot`] and [`Runtime::restore`].
    pub snapshot: bool,
    /// [`Runtime::pause`] and [`Runtime::resume`].
    pub pause: bool,
    /// [`Runtime::hand_over`].
    pub hand_over: bool,
}

/// What a machine is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    pub id: InstanceId,
    pub memory: Mebibytes,
    /// Its share when processors are short. The guest has as many of its own as it takes to use it.
    #[serde(default = "one_processor")]
    pub cpu: MilliCpu,
    pub disk: Mebibytes,
    /// EROFS images, lowest first; read-only, whatever the guest asks for.
    pub images: Vec<PathBuf>,
    /// Disks that outlive the machine. The guest sees them with the serials `vol0`, `vol1` ….
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeDisk>,
}

/// A disk that outlives its machine. One machine at a time can have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeDisk {
    pub path: PathBuf,
    pub read_only: bool,
}

impl MachineSpec {
    pub fn vcpus(&self) -> u32 {
        self.cpu.0.div_ceil(1000)
    }
}

/// What was written down before there were shares.
const fn one_processor() -> MilliCpu {
    MilliCpu(1000)
}

/// The guest sees them as disks with the serials `img0` … `img3`; a fifth layer is merged before it comes here.
pub const IMAGES_MAX: usize = 4;

/// More a machine has no places for.
pub const VOLUMES_MAX: usize = 8;

/// Of the volume with this place in [`MachineSpec::volumes`].
pub fn volume_serial(place: usize) -> String {
    format!("vol{place}")
}

/// A machine as it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    pub id: InstanceId,
    /// The newest start, alive or not; none before the first.
    pub boot: Option<BootId>,
    pub alive: bool,
    /// It does not run, and can go on where it was.
    pub paused: bool,
    /// The last of what the machine wrote to its console.
    pub console_tail: String,
}

/// The host's end of a guest's network card, opened in the network it belongs to.
#[derive(Debug)]
pub struct Tap {
    pub fd: OwnedFd,
    pub mtu: u16,
}

/// The hardware address of every guest's card: each is alone on its link, and a clone keeps what it remembers.
pub const GUEST_MAC: &str = "02:70:6c:66:6d:01";

pub trait ByteStream: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> ByteStream for T {}

pub type BoxedStream = Pin<Box<dyn ByteStream>>;
