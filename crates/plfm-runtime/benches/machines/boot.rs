//! `boot.hello`: from nothing to the guest's answer to the host's hello, beside a QEMU by hand with the same kernel and initramfs.
//!
//! Ours makes the machine's directory, disk, user, cgroup and jail, and attaches an image; the peer has a console and the port, no more.
//! They boot by turns.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use plfm_api::channel::{Mux, Secret};
use plfm_api::guest::Client;
use plfm_core::units::Mebibytes;
use plfm_runtime::{Isolation, Runtime};
use tokio::net::UnixStream;

use super::{House, again, milliseconds};

const ROUNDS: u128 = 12;
const MEMORY: Mebibytes = Mebibytes(256);

pub async fn measure(house: &House) {
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        mine.push(ours(house, round).await);
        theirs.push(peer(house).await);
    }
    let row = serde_json::json!({
        "name": "boot.hello", "unit": "ms", "better": "lower", "samples": mine,
        "peer": "QEMU by hand", "peer_samples": theirs,
    });
    println!("{row}");
}

async fn ours(house: &House, round: u128) -> f64 {
    let begun = Instant::now();
    let spec = house.booted(round, MEMORY).await;
    let time = milliseconds(begun);
    house.runtime.destroy(spec.id).await.unwrap();
    time
}

async fn peer(house: &House) -> f64 {
    let dir = tempfile::tempdir_in(house.dir.path()).unwrap();
    let secret = Secret::random().unwrap();
    let begun = Instant::now();
    let _qemu = Qemu(command(house, dir.path(), &secret).spawn().unwrap());
    let channel = dir.path().join("channel");
    let channel = again(|| UnixStream::connect(&channel)).await;
    let (opener, work) = Mux::host(channel, secret);
    let work = tokio::spawn(work);
    house.hello(&Client::over(opener)).await;
    let time = milliseconds(begun);
    work.abort();
    time
}

/// The same kernel, its command line and the initramfs; of devices, a console and the port.
fn command(house: &House, dir: &Path, secret: &Secret) -> Command {
    let assets = house.dir.path().join("runtime/assets");
    let tsc: serde_json::Value = serde_json::from_slice(&fs::read(assets.join("tsc.json")).unwrap()).unwrap();
    let (kvm, dir) = (house.runtime.class() == Isolation::Vm, dir.display());
    let mitigations = if kvm { "" } else { " mitigations=off" };
    let mut command = Command::new("qemu-system-x86_64");
    command.args("-nodefaults -no-user-config -display none -no-reboot".split(' '));
    command.args("-M microvm -global virtio-mmio.force-legacy=false -smp 1".split(' '));
    command.args(if kvm { ["-accel", "kvm", "-cpu", "host"] } else { ["-accel", "tcg", "-cpu", "max"] });
    command.args(["-m", &format!("{}M", MEMORY.0)]);
    command.arg("-kernel").arg(only(&assets, "vmlinux-")).arg("-initrd").arg(only(&assets, "initramfs-"));
    command.arg("-append").arg(format!(
        "console=ttyS0 quiet reboot=t panic=-1 tsc_early_khz={} tsc=reliable no_timer_check{mitigations} \
             random.trust_cpu=on 8250.nr_uarts=1 cryptomgr.notests plfm.secret={}",
        tsc["value"],
        secret.to_hex()
    ));
    command.args(["-serial", &format!("file:{dir}/console.log")]);
    command.args(["-chardev", &format!("socket,id=channel,path={dir}/channel,server=on,wait=off")]);
    command.args(["-device", "virtio-serial-device,id=ports"]);
    command.args(["-device", "virtserialport,bus=ports.0,chardev=channel,name=plfm.0"]);
    command.stdin(Stdio::null());
    command
}

struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn only(dir: &Path, prefix: &str) -> PathBuf {
    let mut files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))).unwrap()
}
