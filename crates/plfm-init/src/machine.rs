//! What only PID 1 of a machine does: devices, disks, the image as `/`, identity, and the end.
//!
//! ```text
//!   boot:     kernel file systems ─▶ modules ─▶ the way to the host        (then the host says hello)
//!   prepare:  entropy, clock ─▶ disks ─▶ overlay ─▶ namespace ─▶ volumes ─▶ network   (then secrets, prestart, workload)
//!   end:      all killed ─▶ volumes unmounted ─▶ namespace left ─▶ unmounted, synced ─▶ reset
//! ```

use std::path::PathBuf;
use std::process::ExitCode;
use std::{fs, io, thread};

use nix::sys::reboot::{RebootMode, reboot as reset};
use nix::unistd::sync;
use plfm_api::channel::Secret;
use plfm_core::reason::{Failure, Reason};

use crate::daemon::{Config, Daemon};
use crate::net;
use crate::users::Account;

mod cmdline;
mod disks;
mod etc;
mod generation;
mod identity;
mod image;
mod modules;
mod mounts;
mod port;
pub mod volumes;
mod vsock;

pub use generation::{Renewal, renew};
pub use vsock::Vsock;

/// The cgroup of everything that is not the daemon; a freeze of it leaves the daemon alone.
pub const CGROUP: &str = "/sys/fs/cgroup/plfm";
const GROUPS: [&str; 2] = [crate::workload::CGROUP, crate::envd::CGROUP];

#[derive(Debug, thiserror::Error)]
#[error("{what}: {}", crate::launch::describe_io(cause))]
pub struct BootError {
    what: String,
    cause: io::Error,
}

impl BootError {
    fn of<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |cause| Self { what: what.into(), cause: cause.into() }
    }
}

/// Everything before the first word with the host.
pub fn boot() -> Result<Channel, BootError> {
    mounts::of_the_daemon()?;
    modules::load()?;
    make_cgroups();
    let host = match cmdline::vsock()? {
        None => Host::Port(port::open()?),
        Some(port) => Host::Vsock(Vsock::listen(port)?),
    };
    Ok(Channel { host, secret: cmdline::secret()? })
}

/// The way to the host, and what it has to know.
pub struct Channel {
    pub host: Host,
    pub secret: Secret,
}

pub enum Host {
    Port(port::Port),
    Vsock(Vsock),
}

/// After a rest: the time has passed, and what the randomness was made of lay on a disk meanwhile.
pub fn go_on(realtime_ns: u64, entropy: &[u8]) -> Result<(), BootError> {
    if realtime_ns == 0 && entropy.is_empty() { Ok(()) } else { identity::take(entropy, realtime_ns, "") }
}

/// Makes the machine what the configuration says, up to where a process can start.
pub async fn prepare(daemon: &Daemon, config: &Config) -> Result<(), Failure> {
    let broken = |cause: BootError| Failure::new(Reason::RootfsBuildFailed, cause.to_string());
    let taken = identity::take(&config.entropy, config.realtime_ns, &config.hostname);
    taken.map_err(|cause| Failure::new(Reason::ConfigHandshakeFailed, cause.to_string()))?;
    let (images, rw) = (config.images, config.rw.clone());
    tokio::task::spawn_blocking(move || disks::assemble(images, rw.as_deref()))
        .await
        .expect("a panic ends the daemon")
        .map_err(broken)?;
    let named = config.clone();
    let enter = move || {
        image::enter()?;
        etc::write(&named)?;
        image::make_directory(&named.cwd);
        generation::begin()
    };
    daemon.place.run(enter).await.map_err(broken)?;
    let mounts = config.volumes.clone();
    daemon.place.run(move || volumes::mount_all(&mounts)).await.map_err(unattached)?;
    let steps = net::plan(&config.net);
    net::apply(&steps).await.map_err(|cause| Failure::new(Reason::NetworkSetupFailed, cause.to_string()))
}

/// For what the workload does as this user.
pub async fn open_volumes(daemon: &Daemon, config: &Config, account: &Account) -> Result<(), Failure> {
    let (mounts, account) = (config.volumes.clone(), account.clone());
    daemon.place.run(move || volumes::give(&mounts, &account)).await.map_err(unattached)
}

fn unattached(cause: BootError) -> Failure {
    Failure::new(Reason::VolumeAttachFailed, cause.to_string())
}

/// The directory of one of our cgroups, if this machine has them.
pub fn cgroup(daemon: &Daemon, name: &str) -> Option<PathBuf> {
    Some(PathBuf::from(CGROUP).join(name)).filter(|dir| daemon.is_machine && dir.is_dir())
}

/// A kernel without a controller counts and limits less; that is no reason not to run.
fn make_cgroups() {
    for dir in GROUPS.map(|group| format!("{CGROUP}/{group}")) {
        if let Err(cause) = fs::create_dir_all(&dir) {
            return eprintln!("plfm-init: no cgroup {dir}: {cause}");
        }
    }
    for (parent, controller) in
        ["/sys/fs/cgroup", CGROUP].iter().flat_map(|dir| ["+memory", "+pids", "+cpu"].map(|one| (dir, one)))
    {
        let _ = fs::write(format!("{parent}/cgroup.subtree_control"), controller);
    }
}

pub async fn power_off(daemon: &Daemon) -> ! {
    let mounts = daemon.config().map(|config| config.volumes.clone()).unwrap_or_default();
    daemon.place.run(move || volumes::release(&mounts)).await;
    daemon.place.run(image::leave).await;
    sync();
    disks::release();
    reboot();
    loop {
        thread::park();
    }
}

/// The kernel runs with `reboot=t panic=-1`, the VMM with `-no-reboot`: a reset is the end of the machine.
pub fn reboot() -> ExitCode {
    sync();
    let Err(cause) = reset(RebootMode::RB_AUTOBOOT);
    eprintln!("plfm-init: cannot reset the machine: {cause}");
    // PID 1 must not return; if it does, the kernel panics, which ends the machine as well.
    ExitCode::FAILURE
}
