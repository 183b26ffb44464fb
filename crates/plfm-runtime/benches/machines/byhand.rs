//! The peer: QEMU as one would run it by hand, with its control socket and nothing around it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream as Blocking;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use plfm_api::channel::{Mux, Secret};
use plfm_api::guest::Client;
use plfm_core::units::Mebibytes;
use plfm_runtime::{Isolation, Runtime};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use super::{House, again};

/// A machine that has answered.
pub struct ByHand {
    dir: TempDir,
    secret: Secret,
    qemu: Qemu,
    _channel: AbortOnDropHandle<()>,
}

/// Its memory, its devices and its disk, as files; it has ended.
pub struct Template {
    dir: TempDir,
    secret: Secret,
    memory: Mebibytes,
}

struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl ByHand {
    /// From the kernel; of devices, a console and the port.
    pub async fn boot(house: &House, memory: Mebibytes) -> Self {
        let (dir, secret) = (tempfile::tempdir_in(house.dir.path()).unwrap(), Secret::random().unwrap());
        let mut command = frame(house, dir.path(), memory);
        command.arg("-M").arg("microvm").args(kernel(house, &secret));
        Self::run(house, dir, secret, command).await
    }

    /// One to be saved: its memory is a file, and it has the disks that a machine of ours has.
    pub async fn template(house: &House, memory: Mebibytes) -> Template {
        let (dir, secret) = (tempfile::tempdir_in(house.dir.path()).unwrap(), Secret::random().unwrap());
        File::create(dir.path().join("rw")).unwrap().set_len(1 << 30).unwrap();
        let mut command = frame(house, dir.path(), memory);
        command.args(kernel(house, &secret));
        devices(&mut command, house, &dir.path().join("ram"), memory, "on", &dir.path().join("rw"));
        let made = Self::run(house, dir, secret, command).await;
        let state = made.dir.path().join("state");
        let mut control = Control::connect(made.dir.path());
        control.asks("migrate-set-capabilities", ignore_shared());
        control.asks("migrate", json!({ "uri": format!("exec:cat > {}", state.display()) }));
        while control.asks("query-migrate", json!({}))["status"] != "completed" {}
        Template { dir: made.dir, secret: made.secret, memory }
    }

    /// Goes on from there.
    pub async fn clone(house: &House, of: &Template) -> Self {
        let dir = tempfile::tempdir_in(house.dir.path()).unwrap();
        let (disk, state) = (dir.path().join("rw"), of.dir.path().join("state"));
        let mut copy = Command::new("cp");
        copy.args(["--sparse=always", "--reflink=auto"]).arg(of.dir.path().join("rw")).arg(&disk);
        assert!(copy.status().unwrap().success());
        let mut command = frame(house, dir.path(), of.memory);
        devices(&mut command, house, &of.dir.path().join("ram"), of.memory, "off", &disk);
        command.args(["-incoming", "defer"]);
        let qemu = Qemu(command.spawn().unwrap());
        let socket = dir.path().join("control");
        drop(again(|| UnixStream::connect(&socket)).await);
        let mut control = Control::connect(dir.path());
        control.asks("migrate-set-capabilities", ignore_shared());
        control.asks("migrate-incoming", json!({ "uri": format!("exec:cat {}", state.display()) }));
        Self::answers(house, dir, of.secret.clone(), qemu).await
    }

    pub fn pid(&self) -> u32 {
        self.qemu.0.id()
    }

    async fn run(house: &House, dir: TempDir, secret: Secret, mut command: Command) -> Self {
        let qemu = Qemu(command.spawn().unwrap());
        Self::answers(house, dir, secret, qemu).await
    }

    async fn answers(house: &House, dir: TempDir, secret: Secret, qemu: Qemu) -> Self {
        let channel = dir.path().join("channel");
        let channel = again(|| UnixStream::connect(&channel)).await;
        let (opener, work) = Mux::host(channel, secret.clone());
        let work: JoinHandle<()> = tokio::spawn(async move { drop(work.await) });
        house.hello(&Client::over(opener)).await;
        Self { dir, secret, qemu, _channel: AbortOnDropHandle::new(work) }
    }
}

fn frame(house: &House, dir: &Path, memory: Mebibytes) -> Command {
    let (kvm, dir) = (house.runtime.class() == Isolation::Vm, dir.display());
    let mut command = Command::new("qemu-system-x86_64");
    command.args("-nodefaults -no-user-config -display none -no-reboot".split(' '));
    command.args("-global virtio-mmio.force-legacy=false -smp 1".split(' '));
    command.args(if kvm { ["-accel", "kvm", "-cpu", "host"] } else { ["-accel", "tcg", "-cpu", "max"] });
    command.args(["-m", &format!("{}M", memory.0)]);
    command.args(["-serial", &format!("file:{dir}/console.log")]);
    command.args(["-qmp", &format!("unix:{dir}/control,server=on,wait=off")]);
    command.args(["-chardev", &format!("socket,id=channel,path={dir}/channel,server=on,wait=off")]);
    command.args(["-device", "virtio-serial-device,id=ports"]);
    command.args(["-device", "virtserialport,bus=ports.0,chardev=channel,name=plfm.0"]);
    command.stdin(Stdio::null());
    command
}

/// The same kernel, its command line and the initramfs.
fn kernel(house: &House, secret: &Secret) -> Vec<String> {
    let assets = house.dir.path().join("runtime/assets");
    let tsc: Value = serde_json::from_slice(&fs::read(assets.join("tsc.json")).unwrap()).unwrap();
    let mitigations = if house.runtime.class() == Isolation::Vm { "" } else { " mitigations=off" };
    let line = format!(
        "console=ttyS0 quiet reboot=t panic=-1 tsc_early_khz={} tsc=reliable no_timer_check{mitigations} \
         random.trust_cpu=on 8250.nr_uarts=1 cryptomgr.notests plfm.secret={}",
        tsc["value"],
        secret.to_hex()
    );
    let file = |prefix| only(&assets, prefix).display().to_string();
    vec!["-kernel".to_owned(), file("vmlinux-"), "-initrd".to_owned(), file("initramfs-"), "-append".to_owned(), line]
}

fn devices(command: &mut Command, house: &House, ram: &Path, memory: Mebibytes, share: &str, disk: &Path) {
    command.args(["-M", "microvm,memory-backend=ram", "-object"]);
    command.arg(format!("memory-backend-file,id=ram,size={}M,mem-path={},share={share}", memory.0, ram.display()));
    command.arg("-drive").arg(format!("id=img0,file={},format=raw,if=none,readonly=on", house.image.display()));
    command.args(["-device", "virtio-blk-device,drive=img0,serial=img0", "-drive"]);
    command.arg(format!("id=rw,file={},format=raw,if=none", disk.display()));
    command.args(["-device", "virtio-blk-device,drive=rw,serial=rw"]);
    command.args("-object rng-builtin,id=rng -device virtio-rng-device,rng=rng".split(' '));
}

fn ignore_shared() -> Value {
    json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": true }] })
}

/// QMP, as far as it goes here.
struct Control(BufReader<Blocking>);

impl Control {
    fn connect(dir: &Path) -> Self {
        let mut control = Self(BufReader::new(Blocking::connect(dir.join("control")).unwrap()));
        control.line();
        control.asks("qmp_capabilities", json!({}));
        control
    }

    fn asks(&mut self, command: &str, arguments: Value) -> Value {
        writeln!(self.0.get_mut(), "{}", json!({ "execute": command, "arguments": arguments })).unwrap();
        loop {
            let mut line = self.line();
            assert!(line.get("error").is_none(), "{command}: {line}");
            if let Some(answer) = line.get_mut("return") {
                return answer.take();
            }
        }
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

fn only(dir: &Path, prefix: &str) -> PathBuf {
    let mut files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))).unwrap()
}
