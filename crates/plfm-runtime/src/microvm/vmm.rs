//! What differs between virtual machine monitors: the command that starts one, and how it says that it runs.
//!
//! Everything else is the same for all of them: the process under its own identity, its sockets, its end, its console, its channel.

use std::ffi::OsString;
use std::io;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use plfm_api::channel::Secret;
use plfm_core::units::Mebibytes;
use tokio::net::UnixStream;

use super::accel::Accel;

#[async_trait]
pub trait Vmm: Send + Sync + 'static {
    /// The program and its arguments, from nothing but the description.
    fn command(&self, launch: &Launch) -> Command;

    /// How it comes to its files and sockets.
    fn manner(&self) -> Manner<'_> {
        Manner::Descriptors
    }

    /// From a process that has just started to a machine that runs.
    async fn run(&self, dir: &Path, launch: &Launch) -> io::Result<()>;

    /// The byte stream that leads to the guest daemon.
    async fn channel(&self, dir: &Path) -> io::Result<UnixStream>;

    /// Halts the guest and writes down what its devices are and what its memory is; blocks. The guest stays halted.
    fn save(&self, running: &Running<'_>, into: &Path) -> io::Result<()>;

    /// Lets a halted guest go on; blocks.
    fn go_on(&self, dir: &Path) -> io::Result<()>;

    /// What a saved guest needs to find again besides its files: two monitors of one version go on from each other's.
    fn version(&self) -> &str;

    /// What its process takes besides the guest's memory.
    fn overhead(&self, accel: Accel) -> Mebibytes;
}

#[derive(Debug, Clone, Copy)]
pub enum Manner<'a> {
    /// It inherits them, open; its sockets listen before it starts.
    Descriptors,
    /// It opens files by the names that [`jail`](super::jail) gives them, itself among them, and makes its sockets in a directory of
    /// its own. Its output is the guest's console.
    Names { program: &'a Path },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub program: PathBuf,
    /// Under which it is listed. It, or one of the others, is the name of the launch.
    pub arg0: OsString,
    pub args: Vec<OsString>,
}

/// A machine about to start. Descriptors are those of [`Manner::Descriptors`]; who opens by name needs to know only that there is one.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Unique on the host and visible in the process's arguments, see [`name`].
    pub name: String,
    pub accel: Accel,
    pub memory: Mebibytes,
    pub vcpus: u32,
    pub begin: Begin,
    /// Opened read-only.
    pub images: Vec<RawFd>,
    /// A probe has none.
    pub disk: Option<RawFd>,
    pub volumes: Vec<Volume>,
    pub net: Option<Nic>,
    pub ends: Ends,
}

#[derive(Debug, Clone, Copy)]
pub struct Volume {
    pub fd: RawFd,
    pub read_only: bool,
}

/// Listening sockets; an own manner has none of them.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    pub console: RawFd,
    pub control: RawFd,
    pub channel: RawFd,
}

/// How a machine's life begins.
#[derive(Debug, Clone)]
pub enum Begin {
    Kernel {
        kernel: PathBuf,
        initramfs: PathBuf,
        tsc_khz: u64,
        secret: Secret,
    },
    /// Where another was when it was saved.
    Saved {
        /// A path, for monitors open it themselves; it is mapped privately.
        memory: PathBuf,
        devices: RawFd,
    },
}

/// A machine that runs, as its monitor's files and process show it.
pub struct Running<'a> {
    /// With its sockets.
    pub dir: &'a Path,
    pub pid: i32,
    pub memory: Mebibytes,
    /// What its memory began as, if that was not nothing.
    pub base: Option<&'a Path>,
}

/// In the directory that [`Vmm::save`] writes to.
pub const MEMORY: &str = "memory";
pub const DEVICES: &str = "devices";

#[derive(Debug, Clone)]
pub struct Nic {
    pub tap: RawFd,
    pub name: String,
    pub mtu: u16,
}

/// The guest's command line. `tsc_early_khz` is not a refinement: without it a guest on a busy host hangs in two boots of three,
/// calibrating its clock against a timer that is late. The self-tests of the kernel's ciphers would be a fifth of the boot.
pub fn kernel_line(accel: Accel, tsc_khz: u64, secret: &Secret) -> String {
    let mitigations = if accel == Accel::Tcg { " mitigations=off" } else { "" };
    format!(
        "console=ttyS0 quiet reboot=t panic=-1 tsc_early_khz={tsc_khz} tsc=reliable no_timer_check{mitigations} \
         random.trust_cpu=on 8250.nr_uarts=1 cryptomgr.notests plfm.secret={}",
        secret.to_hex(),
    )
}
