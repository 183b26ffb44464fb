//! One start of a monitor, for a machine or for the probe: open what it gets, wall it in, wait until it runs.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ChildStderr;
use std::time::Duration;

use nix::libc::O_NONBLOCK;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, fchown, mkfifo};
use plfm_api::channel::Secret;
use plfm_core::units::Mebibytes;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use super::accel::{Accel, patience};
use super::cgroup::Cgroup;
use super::host::Host;
use super::jail::{self, Jail, Shown};
use super::process::Process;
use super::tap::{self, NamedTap};
use super::vmm::{Begin, Ends, Launch, Manner, Nic, Volume};
use super::wall::{self, Wall};
use super::{private_dir, remove_dir, sockets};
use crate::{Tap, VolumeDisk, volumes};

/// From the start of the process until its machine runs; it takes a tenth of a second.
const RUNNING_WAIT: Duration = Duration::from_secs(5);
/// What a monitor says before it gives up is a line; what a guest makes it say later is not read.
const WORDS_BYTES_MAX: usize = 4 << 10;

/// What one start gets.
pub struct Start {
    pub name: String,
    pub memory: Mebibytes,
    pub vcpus: u32,
    pub images: Vec<Opened>,
    pub disk: Option<Opened>,
    pub volumes: Vec<OpenedVolume>,
    pub net: Option<Tap>,
    pub source: Source,
    pub uid: Option<u32>,
    pub cgroup: Cgroup,
}

/// A file, open, and its name for a monitor that opens it again.
pub struct Opened {
    path: PathBuf,
    file: File,
}

impl Opened {
    pub fn read_only(path: PathBuf) -> io::Result<Self> {
        Ok(Self { file: File::open(&path)?, path })
    }

    pub fn writable(path: PathBuf) -> io::Result<Self> {
        Ok(Self { file: File::options().read(true).write(true).open(&path)?, path })
    }
}

/// The disk of a volume, and of nobody else while it is open.
pub struct OpenedVolume {
    opened: Opened,
    read_only: bool,
}

impl OpenedVolume {
    pub fn alone(VolumeDisk { path, read_only }: VolumeDisk) -> io::Result<Self> {
        Ok(Self { opened: Opened { file: volumes::open_alone(&path, read_only)?, path }, read_only })
    }
}

/// Where a machine's life begins.
pub enum Source {
    /// The host's kernel; the guest finds the channel's secret on its command line.
    Kernel(Secret),
    Saved {
        memory: PathBuf,
        devices: PathBuf,
    },
}

/// A monitor whose machine runs.
pub struct Started {
    pub process: Process,
    /// Open before the monitor started, so that not a byte is lost.
    pub console: Output,
    /// What it writes to its error output, told at its end.
    pub words: JoinHandle<String>,
}

/// What a guest writes to its console.
pub type Output = Pin<Box<dyn AsyncRead + Send>>;

/// Of a monitor that runs, or is about to.
pub fn output(manner: Manner<'_>, dir: &Path) -> io::Result<Output> {
    Ok(match manner {
        Manner::Descriptors => Box::pin(sockets::connect(dir, sockets::CONSOLE)?),
        Manner::Names { .. } => Box::pin(pipe::OpenOptions::new().open_receiver(dir.join(sockets::CONSOLE))?),
    })
}

impl Start {
    /// `note` writes the process down, as soon as it exists.
    pub async fn run(
        self,
        host: &Host,
        dir: &Path,
        note: impl FnOnce(&Process) -> io::Result<()>,
    ) -> io::Result<Started> {
        let (manner, mut inherit) = (host.vmm.manner(), Inherit::default());
        let (ends, stdout) = match manner {
            Manner::Descriptors => (inherit.ends(dir)?, None),
            Manner::Names { .. } => (NO_ENDS, Some(own_ends(dir, self.uid)?)),
        };
        let user = self.uid.map(|uid| self.jail(host, dir, uid).map(|jail| (uid, jail))).transpose()?;
        let place = |outside: &Path, inside: &str| if user.is_some() { inside.into() } else { outside.to_owned() };
        let begin = match &self.source {
            Source::Kernel(secret) => Begin::Kernel {
                kernel: place(&host.assets.kernel, jail::KERNEL),
                initramfs: place(&host.assets.initramfs, jail::INITRAMFS),
                tsc_khz: host.tsc_khz,
                secret: secret.clone(),
            },
            Source::Saved { memory, devices } => {
                Begin::Saved { memory: place(memory, jail::MEMORY), devices: inherit.keep(File::open(devices)?) }
            }
        };
        let (net, network) = match (self.net, manner, self.uid) {
            (None, ..) => (None, None),
            (Some(Tap { fd, mtu }), Manner::Names { .. }, Some(uid)) => {
                let NamedTap { name, network } = tap::hand_over(fd, uid)?;
                (Some(Nic { mtu, name, tap: NO_FD }), Some(network))
            }
            (Some(Tap { fd, mtu }), ..) => (Some(Nic { mtu, name: String::new(), tap: inherit.keep(fd) }), None),
        };
        let launch = Launch {
            name: self.name,
            accel: host.accel,
            memory: self.memory,
            vcpus: self.vcpus,
            begin,
            images: self.images.into_iter().map(|image| inherit.keep(image.file)).collect(),
            disk: self.disk.map(|disk| inherit.keep(disk.file)),
            volumes: self.volumes.into_iter().map(|it| inherit.volume(it)).collect(),
            net,
            ends,
        };
        let console = output(manner, dir)?;
        let wall = Wall { user, network, doors: self.cgroup.doors()? };
        let kept = match manner {
            Manner::Descriptors => inherit.fds,
            // It opens its files itself, and volumes are its own as long as it holds what was opened here.
            Manner::Names { .. } => inherit.only(&launch.volumes),
        };
        let (process, stderr) = wall::spawn(&host.vmm.command(&launch), wall, kept, stdout)?;
        let words = tokio::spawn(first_words(stderr));
        let started = Started { process, console, words };
        let ready = note(&started.process);
        match ready {
            Ok(()) => started.runs(host, dir, &launch).await,
            Err(error) => Err(started.give_up(error).await),
        }
    }

    fn jail(&self, host: &Host, dir: &Path, uid: u32) -> io::Result<Jail> {
        let place = dir.join("root");
        fs::create_dir_all(&place)?;
        let shown = |from, at, writable| Shown { from, at, writable };
        let own = dir.join(sockets::OWN);
        let mut files = match &self.source {
            Source::Kernel(_) => vec![
                shown(&host.assets.kernel, jail::KERNEL, false),
                shown(&host.assets.initramfs, jail::INITRAMFS, false),
            ],
            // QEMU opens a memory file for writing even where it maps it privately.
            Source::Saved { memory, .. } => {
                vec![shown(memory, jail::MEMORY, matches!(host.vmm.manner(), Manner::Descriptors))]
            }
        };
        let mut devices = vec![jail::NULL];
        if host.accel == Accel::Kvm {
            devices.push(jail::KVM);
        }
        if let Manner::Names { program } = host.vmm.manner() {
            files.extend([shown(program, jail::PROGRAM, false), shown(&own, jail::OWN, true)]);
            files.extend(self.images.iter().zip(jail::IMAGES).map(|(image, at)| shown(&image.path, at, false)));
            if let Source::Saved { devices, .. } = &self.source {
                files.push(shown(devices, jail::DEVICES, false));
            }
            if let Some(disk) = &self.disk {
                fchown(&disk.file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)))?;
                files.push(shown(&disk.path, jail::DISK, true));
            }
            for (volume, at) in self.volumes.iter().zip(jail::VOLUMES) {
                fchown(&volume.opened.file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)))?;
                files.push(shown(&volume.opened.path, at, !volume.read_only));
            }
            devices.extend([jail::TUN, jail::URANDOM]);
        }
        Jail::new(&place, &files, uid, &devices)
    }
}

/// Where a monitor opens by names.
const NO_FD: RawFd = -1;
const NO_ENDS: Ends = Ends { console: NO_FD, control: NO_FD, channel: NO_FD };

/// A fresh directory of the monitor's own, and its output. A guest that writes faster than we read loses what does not fit, and never
/// waits.
fn own_ends(dir: &Path, uid: Option<u32>) -> io::Result<OwnedFd> {
    let uid = uid.ok_or_else(|| {
        io::Error::other(
            "Firecracker machines need root outside of containers: each has a user and a root directory of its own",
        )
    })?;
    let (own, console) = (dir.join(sockets::OWN), dir.join(sockets::CONSOLE));
    remove_dir(&own)?;
    private_dir(&own)?;
    std::os::unix::fs::chown(&own, Some(uid), Some(uid))?;
    for former in [&console, &dir.join(sockets::SAVED)] {
        let _ = fs::remove_file(former);
    }
    mkfifo(&console, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let fifo = File::options().read(true).write(true).custom_flags(O_NONBLOCK).open(console)?;
    Ok(fifo.into())
}

impl Started {
    async fn runs(self, host: &Host, dir: &Path, launch: &Launch) -> io::Result<Self> {
        let wait = patience(host.accel.isolation(), RUNNING_WAIT);
        let running = tokio::time::timeout(wait, host.vmm.run(dir, launch));
        let answer = tokio::select! {
            answer = running => answer.unwrap_or_else(|late| Err(late.into())),
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

    fn volume(&mut self, OpenedVolume { opened, read_only }: OpenedVolume) -> Volume {
        Volume { fd: self.keep(opened.file), read_only }
    }

    fn only(self, volumes: &[Volume]) -> Vec<OwnedFd> {
        let is_one = |fd: &OwnedFd| volumes.iter().any(|volume| volume.fd == fd.as_raw_fd());
        self.fds.into_iter().filter(is_one).collect()
    }

    fn ends(&mut self, dir: &Path) -> io::Result<Ends> {
        let mut listen = |name| Ok::<_, io::Error>(self.keep(sockets::bind(dir, name)?));
        let console = listen(sockets::CONSOLE)?;
        Ok(Ends { console, control: listen(sockets::CONTROL)?, channel: listen(sockets::CHANNEL)? })
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
