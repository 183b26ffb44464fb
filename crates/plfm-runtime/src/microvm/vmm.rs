//! What differs between virtual machine monitors: the command that starts one, and how it says that it runs.
//!
//! Everything else is the same for all of them: the process under its own identity, its sockets, its end, its console, its channel.

use std::ffi::OsString;
use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;

use async_trait::async_trait;
use plfm_api::channel::Secret;
use plfm_core::units::Mebibytes;
use tokio::net::UnixStream;

use super::accel::Accel;

#[async_trait]
pub trait Vmm: Send + Sync + 'static {
    /// The program and its arguments, from nothing but the description.
    fn command(&self, launch: &Launch) -> Command;

    /// Waits until the monitor answers on its control socket, which it does once the machine runs.
    async fn greeting(&self, control: UnixStream) -> io::Result<()>;

    /// What its process takes besides the guest's memory.
    fn overhead(&self, accel: Accel) -> Mebibytes;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub program: PathBuf,
    pub args: Vec<OsString>,
}

/// A machine about to start. Files and sockets are open already: the monitor's own identity may open nothing.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Unique on the host and visible in the process's arguments, see [`name`].
    pub name: String,
    pub accel: Accel,
    pub memory: Mebibytes,
    pub vcpus: u8,
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    pub tsc_khz: u64,
    pub secret: Secret,
    /// Opened read-only.
    pub images: Vec<RawFd>,
    /// A probe has none.
    pub disk: Option<RawFd>,
    pub net: Option<Nic>,
    /// Listening sockets.
    pub console: RawFd,
    pub control: RawFd,
    pub channel: RawFd,
}

#[derive(Debug, Clone)]
pub struct Nic {
    pub tap: RawFd,
    pub mtu: u16,
}

impl Launch {
    /// The guest's command line. `tsc_early_khz` is not a refinement: without it a guest on a busy host hangs in two boots of three,
    /// calibrating its clock against a timer that is late. The self-tests of the kernel's ciphers would be a fifth of the boot.
    pub fn kernel_line(&self) -> String {
        let mitigations = if self.accel == Accel::Tcg { " mitigations=off" } else { "" };
        format!(
            "console=ttyS0 quiet reboot=t panic=-1 tsc_early_khz={} tsc=reliable no_timer_check{mitigations} random.trust_cpu=on \
             8250.nr_uarts=1 cryptomgr.notests plfm.secret={}",
            self.tsc_khz,
            self.secret.to_hex(),
        )
    }
}
