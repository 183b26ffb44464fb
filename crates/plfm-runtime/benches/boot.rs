//! `boot.hello`: from nothing to the guest's answer to the host's hello, beside a QEMU by hand with the same kernel and initramfs.
//!
//! Ours makes the machine's directory, disk, user, cgroup and jail, and attaches an image; the peer has a console and the port, no more.
//! They boot by turns. It needs what the tests of real machines need.

use std::env;
use std::fs;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use plfm_api::channel::{Mux, Secret, port};
use plfm_api::guest::Client;
use plfm_api::rpc::Target;
use plfm_core::ids::{BootId, InstanceId};
use plfm_core::units::Mebibytes;
use plfm_runtime::microvm::{Config, HELLO_WAIT, MicroVmRuntime, patience};
use plfm_runtime::{Isolation, MachineSpec, Runtime};
use tempfile::TempDir;
use tokio::net::UnixStream;
use ulid::Ulid;

const ROUNDS: u128 = 12;
const MEMORY: Mebibytes = Mebibytes(256);
/// How soon a call that failed, or a socket that is not there yet, is tried again.
const AGAIN: Duration = Duration::from_millis(5);

#[tokio::main]
async fn main() {
    match House::open().await {
        Ok(house) => house.measure().await,
        Err(reason) => eprintln!("skipped: boot.hello: {reason}"),
    }
}

struct House {
    dir: TempDir,
    runtime: std::sync::Arc<MicroVmRuntime>,
    image: PathBuf,
}

impl House {
    async fn open() -> Result<Self, String> {
        let said = |error: io::Error| error.to_string();
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
        let guest = env::var_os("PLFM_GUEST").map_or_else(|| target.join("plfm-init"), PathBuf::from);
        let guest = fs::read(&guest).map_err(|error| format!("the guest daemon {}: {error}", guest.display()))?;
        let kernel = env::var_os("PLFM_KERNEL").map_or_else(|| target.join("kernel"), PathBuf::from);
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(said)?;
        let image = erofs(dir.path()).map_err(|error| format!("`mkfs.erofs`: {error}"))?;
        let kernel_roots = vec![kernel, "/".into()];
        let config = Config { dir: dir.path().join("runtime"), kernel_roots, guest: guest.into(), accel: None };
        let runtime = MicroVmRuntime::open(config).await.map_err(|error| format!("{error}: {:?}", error.reason()))?;
        Ok(Self { dir, runtime: runtime.into(), image })
    }

    async fn measure(&self) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            ours.push(self.ours(round).await);
            theirs.push(self.peer().await);
        }
        let row = serde_json::json!({
            "name": "boot.hello", "unit": "ms", "better": "lower", "samples": ours,
            "peer": "QEMU by hand", "peer_samples": theirs,
        });
        println!("{row}");
    }

    async fn ours(&self, round: u128) -> f64 {
        let (id, images) = (InstanceId::new(Ulid(round)), vec![self.image.clone()]);
        let spec = MachineSpec { id, memory: MEMORY, vcpus: 1, disk: Mebibytes(1024), images };
        let begun = Instant::now();
        self.runtime.create(&spec).await.unwrap();
        self.runtime.start(id, BootId::new(Ulid(round)), None).await.unwrap();
        let runtime = self.runtime.clone();
        let connect = move || {
            let runtime = runtime.clone();
            async move { runtime.connect(id, port::GUEST).await.map_err(io::Error::other) }
        };
        self.hello(&Client::new(Target::new(connect))).await;
        let time = milliseconds(begun);
        self.runtime.destroy(id).await.unwrap();
        time
    }

    async fn peer(&self) -> f64 {
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
        let secret = Secret::random().unwrap();
        let begun = Instant::now();
        let _qemu = Qemu(self.command(dir.path(), &secret).spawn().unwrap());
        let channel = dir.path().join("channel");
        let channel = again(|| UnixStream::connect(&channel)).await;
        let (opener, work) = Mux::host(channel, secret);
        let work = tokio::spawn(work);
        self.hello(&Client::over(opener)).await;
        let time = milliseconds(begun);
        work.abort();
        time
    }

    async fn hello(&self, client: &Client) {
        let wait = patience(self.runtime.class(), HELLO_WAIT) * 2;
        tokio::time::timeout(wait, again(|| client.hello())).await.expect("the guest answers");
    }

    /// The same kernel, its command line and the initramfs; of devices, a console and the port.
    fn command(&self, dir: &Path, secret: &Secret) -> Command {
        let assets = self.dir.path().join("runtime/assets");
        let tsc: serde_json::Value = serde_json::from_slice(&fs::read(assets.join("tsc.json")).unwrap()).unwrap();
        let (kvm, dir) = (self.runtime.class() == Isolation::Vm, dir.display());
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
}

struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

async fn again<T, E, F: Future<Output = Result<T, E>>>(attempt: impl Fn() -> F) -> T {
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

fn erofs(dir: &Path) -> io::Result<PathBuf> {
    let (tree, image) = (dir.join("tree"), dir.join("image.erofs"));
    fs::create_dir(&tree)?;
    fs::write(tree.join("hello"), "from an image")?;
    let made = Command::new("mkfs.erofs").args([&image, &tree]).output()?;
    if made.status.success() { Ok(image) } else { Err(io::Error::other(String::from_utf8_lossy(&made.stderr))) }
}

fn only(dir: &Path, prefix: &str) -> PathBuf {
    let mut files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))).unwrap()
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
