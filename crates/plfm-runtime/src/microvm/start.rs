//! One start of a monitor, for a machine or for the probe: open what it gets, wall it in, wait until it runs.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::ChildStderr;
use std::time::Duration;

use plfm_api::channel::Secret;
use plfm_core::units::Mebibytes;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use super::accel::{Accel, patience};
use super::cgroup::Cgroup;
use super::host::Host;
use super::jail::{self, Jail, Shown};
use super::process::Process;
use super::sockets;
use super::vmm::{Begin, Launch, Nic};
use super::wall::{self, Wall};
use crate::Tap;

/// From the start of the process until its machine runs; it takes a tenth of a second.
const GREETING_WAIT: Duration = Duration::from_secs(5);
/// What a monitor says before it gives up is a line; what a guest makes it say later is not read.
const WORDS_BYTES_MAX: usize = 4 << 10;

/// What one start gets.
pub struct Start {
    pub name: String,
    pub memory: Mebibytes,
    pub vcpus: u32,
    pub images: Vec<File>,
    pub disk: Option<File>,
    pub net: Option<Tap>,
    pub source: Source,
    pub uid: Option<u32>,
    pub cgroup: Cgroup,
}

/// Where a machine's life begins.
pub enum Source {
    /// The host's kernel; the guest finds the channel's secret on its command line.
    Kernel(Secret),
    Saved {
        memory: PathBuf,
        devices: File,
    },
}

/// A monitor whose machine runs.
pub struct Started {
    pub process: Process,
    /// Connected before the monitor started, so that not a byte is lost.
    pub console: UnixStream,
    /// What it writes to its error output, told at its end.
    pub words: JoinHandle<String>,
}

impl Start {
    /// `note` writes the process down, as soon as it exists.
    pub async fn run(
        self,
        host: &Host,
        dir: &Path,
        note: impl FnOnce(&Process) -> io::Result<()>,
    ) -> io::Result<Started> {
        let mut inherit = Inherit::default();
        let console = inherit.listen(dir, sockets::CONSOLE)?;
        let control = inherit.listen(dir, sockets::CONTROL)?;
        let channel = inherit.listen(dir, sockets::CHANNEL)?;
        let wall = self.wall(host, dir)?;
        let jailed = wall.user.is_some();
        let place = |outside: &Path, inside: &str| if jailed { inside.into() } else { outside.to_owned() };
        let begin = match self.source {
            Source::Kernel(secret) => Begin::Kernel {
                kernel: place(&host.assets.kernel, jail::KERNEL),
                initramfs: place(&host.assets.initramfs, jail::INITRAMFS),
                tsc_khz: host.tsc_khz,
                secret,
            },
            Source::Saved { memory, devices } => {
                Begin::Saved { memory: place(&memory, jail::MEMORY), devices: inherit.keep(devices) }
            }
        };
        let launch = Launch {
            name: self.name,
            accel: host.accel,
            memory: self.memory,
            vcpus: self.vcpus,
            begin,
            images: self.images.into_iter().map(|image| inherit.keep(image)).collect(),
            disk: self.disk.map(|disk| inherit.keep(disk)),
            net: self.net.map(|tap| Nic { mtu: tap.mtu, tap: inherit.keep(tap.fd) }),
            console,
            control,
            channel,
        };
        let console = sockets::connect(dir, sockets::CONSOLE)?;
        let control = sockets::connect(dir, sockets::CONTROL)?;
        let (process, stderr) = wall::spawn(&host.vmm.command(&launch), wall, inherit.fds)?;
        let words = tokio::spawn(first_words(stderr));
        let started = Started { process, console, words };
        let ready = note(&started.process);
        match ready {
            Ok(()) => started.greeted(host, control).await,
            Err(error) => Err(started.give_up(error).await),
        }
    }

    fn wall(&self, host: &Host, dir: &Path) -> io::Result<Wall> {
        let user = self.uid.map(|uid| self.jail(host, dir, uid).map(|jail| (uid, jail))).transpose()?;
        Ok(Wall { user, doors: self.cgroup.doors()? })
    }

    fn jail(&self, host: &Host, dir: &Path, uid: u32) -> io::Result<Jail> {
        let place = dir.join("root");
        fs::create_dir_all(&place)?;
        let shown = |from, at, writable| Shown { from, at, writable };
        let files = match &self.source {
            Source::Kernel(_) => vec![
                shown(&host.assets.kernel, jail::KERNEL, false),
                shown(&host.assets.initramfs, jail::INITRAMFS, false),
            ],
            Source::Saved { memory, .. } => vec![shown(memory, jail::MEMORY, true)],
        };
        Jail::new(&place, &files, uid, host.accel == Accel::Kvm)
    }
}

impl Started {
    async fn greeted(self, host: &Host, control: UnixStream) -> io::Result<Self> {
        let wait = patience(host.accel.isolation(), GREETING_WAIT);
        let greeting = tokio::time::timeout(wait, host.vmm.greeting(control));
        let answer = tokio::select! {
            answer = greeting => answer.unwrap_or_else(|late| Err(late.into())),
            () = self.process.ended() => Err(io::ErrorKind::UnexpectedEof.into()),
        };
        match answer {
            Ok(()) => Ok(self),
            Err(error) => Err(self.give_up(error).await),
        }
    }

    /// The monitor's own words say more than that it ended.
    async fn give_up(self, error: io::Error) -> io::Error {
        self.process.kill();
        self.process.ended().await;
        match self.words.await {
            Ok(words) if !words.trim().is_empty() => io::Error::new(error.kind(), words.trim().to_owned()),
            _ => error,
        }
    }
}

/// The descriptors that the monitor keeps, until it has them.
#[derive(Default)]
struct Inherit {
    fds: Vec<OwnedFd>,
}

impl Inherit {
    fn keep(&mut self, fd: impl Into<OwnedFd>) -> RawFd {
        let fd = fd.into();
        let number = fd.as_raw_fd();
        self.fds.push(fd);
        number
    }

    fn listen(&mut self, dir: &Path, name: &str) -> io::Result<RawFd> {
        Ok(self.keep(sockets::bind(dir, name)?))
    }
}

/// Reads to the end, so that the writer never waits, and keeps the beginning.
async fn first_words(from: ChildStderr) -> String {
    let (mut words, mut chunk) = (Vec::new(), [0; 1024]);
    let Ok(mut from) = pipe::Receiver::from_owned_fd(from.into()) else { return String::new() };
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        let room = WORDS_BYTES_MAX.saturating_sub(words.len());
        words.extend_from_slice(&chunk[..read.min(room)]);
    }
    String::from_utf8_lossy(&words).into_owned()
}
