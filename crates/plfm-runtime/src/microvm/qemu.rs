//! QEMU's `microvm` machine: where there is no usable KVM, and where there is no Firecracker.
//!
//! The command line follows measurements: what is left out was tried and did not help (other processors, timers or caches), and what
//! is in it is there for a reason that stands beside it.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use plfm_core::units::Mebibytes;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::UnixStream;

use super::accel::Accel;
use super::limits::{DISK_BYTES_PER_S, DISK_REQUESTS_PER_S, IMAGES_BYTES_PER_S};
use super::memory::{self, Mapping};
use super::qmp::Qmp;
use super::sockets;
use super::vmm::{Begin, Command, DEVICES, Launch, MEMORY, Running, Vmm, Volume, kernel_line};
use crate::{GUEST_MAC, volume_serial};

/// The virtio port that carries the channel, as the guest finds it in `/sys/class/virtio-ports/*/name`.
pub const PORT: &str = "plfm.0";

/// A boot leaves about 41 MB of translated code; QEMU's default of 1 GiB would let a busy guest take that much of the host.
const TRANSLATIONS_MIB_MAX: u64 = 128;

/// The first line on the control socket is short; anything longer is not QEMU.
const GREETING_BYTES_MAX: u64 = 4096;

/// Of the descriptors that QEMU is given while it runs; disks have the numbers from 0.
const DEVICES_SET: u32 = 100;
const VOLUMES_SET: usize = 50;

pub struct Qemu {
    pub program: PathBuf,
    /// As in `7.2.22`.
    pub version: String,
}

#[async_trait]
impl Vmm for Qemu {
    fn command(&self, launch: &Launch) -> Command {
        let args = args(launch).into_iter().map(Into::into).collect();
        Command { program: self.program.clone(), arg0: self.program.clone().into(), args }
    }

    /// It answers on its control socket once the machine runs.
    async fn run(&self, dir: &Path, _: &Launch) -> io::Result<()> {
        let (control, mut line) = (sockets::connect(dir, sockets::CONTROL)?, String::new());
        BufReader::new(control.take(GREETING_BYTES_MAX)).read_line(&mut line).await?;
        if line.starts_with(r#"{"QMP""#) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    async fn channel(&self, dir: &Path) -> io::Result<UnixStream> {
        sockets::connect(dir, sockets::CHANNEL)
    }

    fn save(&self, running: &Running<'_>, into: &Path) -> io::Result<()> {
        let mut qmp = Qmp::connect(running.dir)?;
        qmp.ask("stop", json!({}))?;
        let devices = File::options().write(true).create_new(true).mode(0o600).open(into.join(DEVICES))?;
        let set = qmp.hand("add-fd", json!({ "fdset-id": DEVICES_SET }), devices.as_fd())?;
        let file = format!("/dev/fdset/{DEVICES_SET}");
        // Its name is history: it writes every device's state, and not the memory, whatever runs the guest.
        let saved = qmp.ask("xen-save-devices-state", json!({ "filename": file }));
        qmp.ask("remove-fd", json!({ "fdset-id": DEVICES_SET, "fd": set["fd"] }))?;
        saved?;
        let Running { pid, memory: size, base, .. } = *running;
        memory::save(&Mapping { pid, address: memory_address(&mut qmp)?, size }, base, &into.join(MEMORY)).map(drop)
    }

    fn go_on(&self, dir: &Path) -> io::Result<()> {
        Qmp::connect(dir)?.ask("cont", json!({})).map(drop)
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn overhead(&self, accel: Accel) -> Mebibytes {
        match accel {
            Accel::Kvm => Mebibytes(64),
            // QEMU itself and the kernel's file took 65 MiB beside the translations.
            Accel::Tcg => Mebibytes(TRANSLATIONS_MIB_MAX + 72),
        }
    }
}

/// Where the guest's memory begins in QEMU's own. Only the human's monitor tells.
fn memory_address(qmp: &mut Qmp) -> io::Result<u64> {
    let told = qmp.ask("human-monitor-command", json!({ "command-line": "gpa2hva 0" }))?;
    let address = told.as_str().and_then(|text| text.rsplit_once(" is 0x")).map(|(_, hex)| hex.trim());
    let address = address.and_then(|hex| u64::from_str_radix(hex, 16).ok());
    address.ok_or_else(|| io::Error::other(format!("QEMU does not say where the guest's memory is: {told}")))
}

fn args(launch: &Launch) -> Vec<String> {
    let mut line = Line::default();
    line.option("-name", &launch.name);
    line.words("-nodefaults -no-user-config -display none");
    // Together with `reboot=t` and `panic=-1` in the guest: a guest that reboots or panics ends the process.
    line.words("-no-reboot");
    line.words("-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    line.words("-M microvm,memory-backend=ram,suppress-vmdesc=on -global virtio-mmio.force-legacy=false");
    // What is saved are the devices alone, without a head and a description, and that is what is read.
    line.words("-global migration.send-configuration=off");
    line.words(&accelerator(launch.accel));
    line.words(&format!("-smp {} -m {}M", launch.vcpus, launch.memory.0));
    begin(&mut line, launch);
    line.words(&format!("{} -serial chardev:console", listener("console", launch.ends.console)));
    line.words(&format!("{} -mon chardev=control,mode=control", listener("control", launch.ends.control)));
    line.words(&format!("{} -device virtio-serial-device,id=ports", listener("channel", launch.ends.channel)));
    line.words(&format!("-device virtserialport,bus=ports.0,chardev=channel,name={PORT}"));
    line.words(&pace("images", IMAGES_BYTES_PER_S, None));
    for (index, fd) in launch.images.iter().enumerate() {
        line.words(&disk(&format!("img{index}"), *fd, index, "images", "read-only=on"));
    }
    if let Some(fd) = launch.disk {
        line.words(&pace("disks", DISK_BYTES_PER_S, Some(DISK_REQUESTS_PER_S)));
        // The disk ends with its machine, so the host need not sync it.
        line.words(&disk("rw", fd, launch.images.len(), "disks", "cache.no-flush=on,discard=unmap"));
    }
    for (place, Volume { fd, read_only }) in launch.volumes.iter().enumerate() {
        // What the guest flushes is on the host's disk.
        let options = if *read_only { "read-only=on" } else { "discard=unmap" };
        line.words(&disk(&volume_serial(place), *fd, VOLUMES_SET + place, "disks", options));
    }
    line.words("-object rng-builtin,id=rng -device virtio-rng-device,rng=rng");
    if let Some(nic) = &launch.net {
        line.words(&format!("-netdev tap,id=net,fd={},vhost=off", nic.tap));
        line.words(&format!("-device virtio-net-device,netdev=net,mac={GUEST_MAC},host_mtu={}", nic.mtu));
    }
    line.args
}

fn begin(line: &mut Line, launch: &Launch) {
    let size = launch.memory.0;
    match &launch.begin {
        Begin::Kernel { kernel, initramfs, tsc_khz, secret } => {
            line.words(&format!("-object memory-backend-ram,id=ram,size={size}M,share=off"));
            line.option("-kernel", &kernel.to_string_lossy());
            line.option("-initrd", &initramfs.to_string_lossy());
            line.option("-append", &kernel_line(launch.accel, *tsc_khz, secret));
        }
        // The kernel is in the memory already.
        Begin::Saved { memory, devices } => {
            let file = memory.to_string_lossy();
            line.option("-object", &format!("memory-backend-file,id=ram,size={size}M,share=off,mem-path={file}"));
            line.words(&format!("-incoming fd:{devices}"));
        }
    }
}

/// `-cpu max` has RDRAND, which makes the guest's random numbers ready a quarter of a second into its boot.
fn accelerator(accel: Accel) -> String {
    match accel {
        Accel::Kvm => "-accel kvm -cpu host".to_owned(),
        Accel::Tcg => format!("-accel tcg,tb-size={TRANSLATIONS_MIB_MAX} -cpu max"),
    }
}

fn listener(name: &str, fd: i32) -> String {
    format!("-chardev socket,id={name},fd={fd},server=on,wait=off")
}

/// Guests find a disk by its serial: that disks appear in the order of the command line is not promised. A full disk of the host is the
/// guest's I/O error; by default it would halt the guest.
fn disk(serial: &str, fd: i32, set: usize, group: &str, options: &str) -> String {
    format!(
        "-add-fd fd={fd},set={set} \
         -blockdev driver=file,node-name={serial}-file,filename=/dev/fdset/{set},{options} \
         -blockdev driver=throttle,node-name={serial}-pace,throttle-group={group},file={serial}-file,{options} \
         -blockdev driver=raw,node-name={serial},file={serial}-pace,{options} \
         -device virtio-blk-device,drive={serial},serial={serial},werror=report,rerror=report"
    )
}

/// Shared by all disks of the group; a second's worth may come at once.
fn pace(group: &str, bytes_per_s: u64, requests_per_s: Option<u64>) -> String {
    let requests =
        requests_per_s.map_or_else(String::new, |most| format!(",x-iops-total={most},x-iops-total-max={most}"));
    format!("-object throttle-group,id={group},x-bps-total={bytes_per_s},x-bps-total-max={bytes_per_s}{requests}")
}

#[derive(Default)]
struct Line {
    args: Vec<String>,
}

impl Line {
    /// Only for text without blanks in an argument.
    fn words(&mut self, words: &str) {
        self.args.extend(words.split_whitespace().map(str::to_owned));
    }

    fn option(&mut self, name: &str, value: &str) {
        self.args.extend([name.to_owned(), value.to_owned()]);
    }
}

#[cfg(test)]
mod tests;
