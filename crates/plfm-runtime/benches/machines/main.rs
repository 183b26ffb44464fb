//! Lives of real machines: `boot`, `restore`, `density`, `fork`, `pause`, `resume`. The argument says which; without one, all. They need what the tests of real
//! machines need.

use std::env;
use std::fs;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plfm_api::channel::port;
use plfm_api::guest::Client;
use plfm_api::rpc::Target;
use plfm_core::ids::{BootId, InstanceId};
use plfm_core::units::{Mebibytes, MilliCpu};
use plfm_runtime::microvm::{Config, HELLO_WAIT, MicroVmRuntime, patience};
use plfm_runtime::{MachineSpec, Runtime};
use tempfile::TempDir;
use ulid::Ulid;

mod boot;
mod byhand;
mod forks;
mod rest;
mod restore;

/// How soon a call that failed, or a socket that is not there yet, is tried again.
const AGAIN: Duration = Duration::from_millis(5);

#[tokio::main]
async fn main() {
    let only = env::args().skip(1).find(|word| !word.starts_with('-'));
    let wanted = |name: &str| only.as_ref().is_none_or(|only| only == name);
    let house = match House::open().await {
        Ok(house) => house,
        Err(reason) => return eprintln!("skipped: {}: {reason}", only.as_deref().unwrap_or("machines")),
    };
    if wanted("boot") {
        boot::measure(&house).await;
    }
    if wanted("restore") || wanted("density") {
        restore::measure(&house, &wanted).await;
    }
    if wanted("fork") {
        forks::measure(&house).await;
    }
    if wanted("pause") || wanted("resume") {
        rest::measure(&house, &wanted).await;
    }
}

struct House {
    dir: TempDir,
    runtime: Arc<MicroVmRuntime>,
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
        let firecracker = env::var_os("PLFM_FIRECRACKER").map(PathBuf::from);
        let config =
            Config { dir: dir.path().join("runtime"), kernel_roots, guest: guest.into(), accel: None, firecracker };
        let runtime = MicroVmRuntime::open(config).await.map_err(|error| format!("{error}: {:?}", error.reason()))?;
        Ok(Self { dir, runtime: runtime.into(), image })
    }

    fn spec(&self, number: u128, memory: Mebibytes) -> MachineSpec {
        let (id, images) = (InstanceId::new(Ulid(number)), vec![self.image.clone()]);
        MachineSpec { id, memory, cpu: MilliCpu(1000), disk: Mebibytes(1024), images, volumes: Vec::new() }
    }

    /// Of a machine that runs when its guest has answered.
    async fn booted(&self, number: u128, memory: Mebibytes) -> MachineSpec {
        let spec = self.spec(number, memory);
        self.runtime.create(&spec).await.unwrap();
        self.runtime.start(spec.id, BootId::new(Ulid(number)), None).await.unwrap();
        self.answers(spec.id).await;
        spec
    }

    fn client(&self, id: InstanceId) -> Client {
        let runtime = self.runtime.clone();
        let connect = move || {
            let runtime = runtime.clone();
            async move { runtime.connect(id, port::GUEST).await.map_err(io::Error::other) }
        };
        Client::new(Target::new(connect))
    }

    async fn answers(&self, id: InstanceId) {
        self.hello(&self.client(id)).await;
    }

    async fn hello(&self, client: &Client) {
        let wait = patience(self.runtime.class(), HELLO_WAIT) * 2;
        tokio::time::timeout(wait, again(|| client.hello())).await.expect("the guest answers");
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
    fs::create_dir_all(tree.join("bin"))?;
    // Static, as Debian's `busybox-static` is.
    fs::copy("/bin/busybox", tree.join("bin/busybox"))?;
    let made = Command::new("mkfs.erofs").args([&image, &tree]).output()?;
    if made.status.success() { Ok(image) } else { Err(io::Error::other(String::from_utf8_lossy(&made.stderr))) }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Lower is better; taken by turns, or one after the other.
fn row_beside(name: &str, unit: &str, samples: &[f64], peer: &str, peer_samples: &[f64]) {
    let row = serde_json::json!({
        "name": name, "unit": unit, "better": "lower", "samples": samples, "peer": peer, "peer_samples": peer_samples,
    });
    println!("{row}");
}

/// Lower is better; without a peer.
fn row(name: &str, unit: &str, samples: &[f64]) {
    println!("{}", serde_json::json!({ "name": name, "unit": unit, "better": "lower", "samples": samples }));
}
