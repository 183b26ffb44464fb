//! Whether KVM runs guests here. That `/dev/kvm` opens says little: on some nested hosts a guest starts and never gets anywhere, so a
//! small guest has to boot until its daemon answers.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use plfm_api::channel::{Mux, Secret, port};
use plfm_core::units::{Mebibytes, MilliCpu};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

use super::cgroup::{Cgroup, Limits};
use super::host::Host;
use super::start::{Source, Start, Started};
use super::{assets, wall};

/// Among the assets: a verdict holds until the host, its monitor or the guest's kernel is another.
pub const MEMO: &str = "kvm.json";
pub const FIRECRACKER_MEMO: &str = "kvm-firecracker.json";
/// A KVM guest needs about a third of a second.
const HELLO_WAIT: Duration = Duration::from_secs(4);
const CHANNEL_POLL: Duration = Duration::from_millis(10);
const MEMORY: Mebibytes = Mebibytes(128);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub usable: bool,
    pub detail: String,
}

impl Verdict {
    /// What a runtime in this directory has found since the host was started.
    pub fn known(dir: &Path) -> Option<Self> {
        let boot = assets::host_boot();
        let recall =
            |memo| assets::recall(&dir.join(assets::DIR).join(memo), |key| !boot.is_empty() && key.ends_with(&boot));
        recall(FIRECRACKER_MEMO).filter(|verdict: &Self| verdict.usable).or_else(|| recall(MEMO))
    }

    pub fn not_asked() -> Self {
        Self { usable: false, detail: "not wanted".to_owned() }
    }
}

/// Whether it can be tried at all; asked each time, for a module may be loaded and a right given while the host runs.
pub fn opens() -> Result<(), Verdict> {
    let opened = File::options().read(true).write(true).open("/dev/kvm");
    opened.map(drop).map_err(|error| Verdict { usable: false, detail: format!("/dev/kvm: {error}") })
}

/// Boots a guest on KVM, in a directory of its own that is gone afterwards.
pub async fn run(host: &Host, dir: &Path) -> Verdict {
    let name = format!("probe-{}", std::process::id());
    let dir = dir.join(&name);
    let answer = boot(host, &dir, &name).await;
    let _ = Cgroup::named(&name).remove().await;
    let _ = fs::remove_dir_all(&dir);
    match answer {
        Ok(()) => Verdict { usable: true, detail: "a guest has booted".to_owned() },
        Err(error) => Verdict { usable: false, detail: format!("a guest did not boot: {error}") },
    }
}

async fn boot(host: &Host, dir: &Path, name: &str) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let secret = Secret::random()?;
    let limits = Limits::new(MEMORY + host.vmm.overhead(host.accel), MilliCpu(1000));
    let start = Start {
        name: format!("plfm-{name}"),
        memory: MEMORY,
        vcpus: 1,
        images: Vec::new(),
        volumes: Vec::new(),
        disk: None,
        net: None,
        source: Source::Kernel(secret.clone()),
        uid: wall::own_uid(name, &[]),
        cgroup: Cgroup::create(name, limits).unwrap_or_else(|_| Cgroup::none()),
    };
    let started = start.run(host, dir, |_| Ok(())).await?;
    let answer = tokio::time::timeout(HELLO_WAIT, hello(host, dir, secret)).await;
    end(&started).await;
    answer.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 4 s")))
}

/// A guest that is about to boot takes no connection yet; one that has lost it takes another.
async fn hello(host: &Host, dir: &Path, secret: Secret) -> io::Result<()> {
    loop {
        if let Ok(stream) = host.vmm.channel(dir).await {
            return greeted(stream, secret).await;
        }
        tokio::time::sleep(CHANNEL_POLL).await;
    }
}

async fn greeted(stream: UnixStream, secret: Secret) -> io::Result<()> {
    let (opener, work) = Mux::host(stream, secret);
    tokio::select! {
        opened = opener.open(port::GUEST) => opened.map(drop).map_err(io::Error::other),
        ended = work => ended.and(Err(io::ErrorKind::UnexpectedEof.into())),
    }
}

async fn end(started: &Started) {
    started.process.kill();
    started.process.ended().await;
}
