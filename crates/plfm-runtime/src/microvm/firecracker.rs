//! Firecracker: the monitor for production, on KVM.
//!
//! It opens everything by its name, so its root directory ([`jail`](super::jail)) has all of it under names that are the same for every
//! machine; a picture of one fits the root of any other. The guest is reached through its vsock: one connection to the guest daemon's
//! port carries the same channel that a serial port carries under QEMU, and ends whenever a picture is taken.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use plfm_core::units::Mebibytes;
use tokio::net::UnixStream;
use tokio::runtime::Handle;

use super::accel::Accel;
use super::vmm::{Begin, Command, DEVICES, Launch, MEMORY, Manner, Running, Vmm, kernel_line};
use super::{copy, door, jail, sockets};
use crate::kernel::VSOCK as VSOCK_WORD;
use crate::{GUEST_MAC, IMAGES_MAX, volume_serial};

pub mod client;
pub mod request;
pub mod version;

use client::Client;
use request::{
    Action, Balloon, BootSource, CacheType, CreateSnapshot, Drive, Entropy, LoadSnapshot, MachineConfig, MemoryBackend,
    NetworkInterface, NetworkOverride, RateLimiter, Request, SnapshotType, TokenBucket, Vm, Vsock,
};

/// Its sockets, in the directory that it may write to.
const API: &str = "api";
const VSOCK: &str = "vsock";
/// Each machine is alone on its bus.
const GUEST_CID: u32 = 3;
/// Where the guest daemon listens for the channel.
const CHANNEL_PORT: u32 = 1024;
const CARD: &str = "net";
/// From its start to the first answer it takes 2 ms.
const API_POLL: Duration = Duration::from_millis(1);
/// A guest that is there takes a connection at once.
const CONNECT_WAIT: Duration = Duration::from_secs(2);

pub struct Firecracker {
    program: PathBuf,
    version: String,
}

impl Firecracker {
    /// # Errors
    /// Where `program` is not Firecracker, or one with known holes.
    pub async fn open(program: PathBuf) -> io::Result<Self> {
        let said = format!("firecracker {}", version::of(&program).await?);
        Ok(Self { program, version: said })
    }
}

#[async_trait]
impl Vmm for Firecracker {
    fn manner(&self) -> Manner<'_> {
        Manner::Names { program: &self.program }
    }

    fn command(&self, launch: &Launch) -> Command {
        let args = ["--api-sock", &own(API), "--level", "Error"];
        Command { program: jail::PROGRAM.into(), arg0: launch.name.clone().into(), args: args.map(Into::into).into() }
    }

    async fn run(&self, dir: &Path, launch: &Launch) -> io::Result<()> {
        while sockets::connect_strictly(&dir.join(sockets::OWN), API).is_err() {
            tokio::time::sleep(API_POLL).await;
        }
        let api = api(dir);
        for request in requests(launch) {
            api.ask(&request).await?;
        }
        Ok(())
    }

    async fn channel(&self, dir: &Path) -> io::Result<UnixStream> {
        let stream = UnixStream::from_std(sockets::connect_strictly(&dir.join(sockets::OWN), VSOCK)?)?;
        tokio::time::timeout(CONNECT_WAIT, door::ask(stream, CHANNEL_PORT)).await?
    }

    fn save(&self, running: &Running<'_>, into: &Path) -> io::Result<()> {
        let ours = running.dir.join(sockets::OWN);
        let (devices, memory) = (ours.join(DEVICES), ours.join(MEMORY));
        let api = api(running.dir);
        // Firecracker counts what was written since the last picture, and what we have is the file of when it was loaded: they fit once.
        let is_first = File::create_new(running.dir.join(sockets::SAVED)).is_ok();
        let base = running.base.filter(|_| is_first);
        let kind = if base.is_some() { SnapshotType::Diff } else { SnapshotType::Full };
        let create = CreateSnapshot { snapshot_type: kind, snapshot_path: own(DEVICES), mem_file_path: own(MEMORY) };
        Handle::current().block_on(async {
            api.ask(&Request::Vm(Vm::Paused)).await?;
            api.ask(&Request::CreateSnapshot(create)).await
        })?;
        let kept = keep(&devices, &memory, base, into);
        for file in [devices, memory] {
            std::fs::remove_file(file)?;
        }
        kept
    }

    fn go_on(&self, dir: &Path) -> io::Result<()> {
        Ok(Handle::current().block_on(api(dir).ask(&Request::Vm(Vm::Resumed)))?)
    }

    fn version(&self) -> &str {
        &self.version
    }

    /// Of itself it takes 3 MiB; the kernel's file and what it reads from disks come to it.
    fn overhead(&self, _: Accel) -> Mebibytes {
        Mebibytes(32)
    }
}

fn api(dir: &Path) -> Client {
    Client::new(&dir.join(sockets::OWN), API)
}

/// As the monitor sees it.
fn own(name: &str) -> String {
    format!("{}/{name}", jail::OWN)
}

/// The monitor keeps its files open, and may be in a guest's hands: what is kept are copies that it cannot write to.
fn keep(devices: &Path, memory: &Path, base: Option<&Path>, into: &Path) -> io::Result<()> {
    let (devices, memory) = (sockets::open_strictly(devices)?, sockets::open_strictly(memory)?);
    copy::from(&devices, &into.join(DEVICES))?;
    match base {
        None => copy::from(&memory, &into.join(MEMORY)).map(drop),
        Some(base) => copy::over(&memory, &copy::from(&File::open(base)?, &into.join(MEMORY))?),
    }
}

/// From a process that has just started to a machine that runs.
fn requests(launch: &Launch) -> Vec<Request> {
    match &launch.begin {
        Begin::Kernel { tsc_khz, secret, .. } => {
            let disks: Vec<_> = (0..launch.images.len()).map(|number| format!("img{number}")).collect();
            let volumes = (0..launch.volumes.len()).map(volume_serial).collect();
            let disks = [disks, launch.disk.iter().map(|_| "rw".to_owned()).collect(), volumes].concat().join(",");
            let line = kernel_line(launch.accel, *tsc_khz, secret);
            // The last of two words of one kind counts: it has a keyboard controller, which QEMU's machine has not.
            configured(launch, format!("{line} reboot=k {VSOCK_WORD}={CHANNEL_PORT} plfm.disks={disks}"))
        }
        Begin::Saved { .. } => vec![Request::LoadSnapshot(LoadSnapshot {
            snapshot_path: jail::DEVICES.into(),
            mem_backend: MemoryBackend::File { backend_path: jail::MEMORY.into() },
            track_dirty_pages: true,
            resume_vm: true,
            network_overrides: launch.net.iter().map(|nic| overridden(&nic.name)).collect(),
            vsock_override: None,
        })],
    }
}

fn overridden(tap: &str) -> NetworkOverride {
    NetworkOverride { iface_id: CARD.into(), host_dev_name: tap.to_owned() }
}

fn configured(launch: &Launch, boot_args: String) -> Vec<Request> {
    let mut requests = vec![
        Request::MachineConfig(MachineConfig {
            vcpu_count: launch.vcpus,
            mem_size_mib: launch.memory.0,
            track_dirty_pages: false,
        }),
        Request::BootSource(BootSource {
            kernel_image_path: jail::KERNEL.into(),
            initrd_path: jail::INITRAMFS.into(),
            boot_args,
        }),
    ];
    requests.extend((0..launch.images.len()).map(|number| Request::Drive(image(number, launch.images.len()))));
    requests.extend(launch.disk.map(|_| Request::Drive(disk())));
    requests.extend(launch.volumes.iter().enumerate().map(|(place, it)| Request::Drive(volume(place, it.read_only))));
    requests.extend(launch.net.iter().map(|nic| {
        Request::NetworkInterface(NetworkInterface {
            iface_id: CARD.into(),
            host_dev_name: nic.name.clone(),
            guest_mac: GUEST_MAC.into(),
            mtu: nic.mtu,
        })
    }));
    requests.extend([
        Request::Vsock(Vsock { guest_cid: GUEST_CID, uds_path: own(VSOCK) }),
        Request::Entropy(Entropy {}),
        Request::Balloon(Balloon { amount_mib: 0, deflate_on_oom: true, free_page_reporting: true }),
        Request::Action(Action::InstanceStart),
    ]);
    requests
}

/// Its limits are each image's own here, so that all of them together keep to P-ISO-4.
fn image(number: usize, of: usize) -> Drive {
    let each = super::limits::IMAGES_BYTES_PER_S / of.clamp(1, IMAGES_MAX) as u64;
    Drive {
        drive_id: format!("img{number}"),
        path_on_host: jail::IMAGES[number].into(),
        is_root_device: false,
        is_read_only: true,
        cache_type: CacheType::Unsafe,
        rate_limiter: RateLimiter { bandwidth: TokenBucket::per_second(each), ops: None },
    }
}

/// The disk ends with its machine, so the host need not sync it.
fn disk() -> Drive {
    Drive {
        drive_id: "rw".into(),
        path_on_host: jail::DISK.into(),
        is_root_device: false,
        is_read_only: false,
        cache_type: CacheType::Unsafe,
        rate_limiter: RateLimiter {
            bandwidth: TokenBucket::per_second(super::limits::DISK_BYTES_PER_S),
            ops: Some(TokenBucket::per_second(super::limits::DISK_REQUESTS_PER_S)),
        },
    }
}

/// What the guest flushes is on the host's disk.
fn volume(place: usize, is_read_only: bool) -> Drive {
    Drive {
        drive_id: volume_serial(place),
        path_on_host: jail::VOLUMES[place].into(),
        is_read_only,
        cache_type: CacheType::Writeback,
        ..disk()
    }
}

#[cfg(test)]
mod tests;
