//! A root directory for one monitor: a list of steps, made before the fork, that a loop without allocations carries out after it.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Gid, Uid, chdir, chown, mkdir, pivot_root, symlinkat};

use crate::{IMAGES_MAX, VOLUMES_MAX};

/// Where programs and their libraries are, on one distribution or another.
const LIBRARIES: &[&str] = &["/usr", "/bin", "/lib", "/lib64", "/nix/store", "/gnu/store"];

pub const KERNEL: &str = "/kernel";
pub const INITRAMFS: &str = "/initramfs";
pub const MEMORY: &str = "/memory";
/// For a monitor that opens by names.
pub const PROGRAM: &str = "/monitor";
pub const DEVICES: &str = "/devices";
pub const IMAGES: [&str; IMAGES_MAX] = ["/img0", "/img1", "/img2", "/img3"];
pub const DISK: &str = "/rw";
pub const VOLUMES: [&str; VOLUMES_MAX] = ["/vol0", "/vol1", "/vol2", "/vol3", "/vol4", "/vol5", "/vol6", "/vol7"];
/// The directory in which it makes its sockets.
pub const OWN: &str = "/own";

/// A file or directory of the host that the monitor opens by its name.
pub struct Shown<'a> {
    pub from: &'a Path,
    pub at: &'a str,
    /// QEMU opens a memory file for writing even where it maps it privately.
    pub writable: bool,
}

/// A character device, as the kernel numbers it.
pub struct Device {
    pub at: &'static str,
    pub major: u64,
    pub minor: u64,
}

/// QEMU tries out on it which locks the kernel has.
pub const NULL: Device = Device { at: "dev/null", major: 1, minor: 3 };
pub const KVM: Device = Device { at: "dev/kvm", major: 10, minor: 232 };
pub const TUN: Device = Device { at: "dev/net/tun", major: 10, minor: 200 };
pub const URANDOM: Device = Device { at: "dev/urandom", major: 1, minor: 9 };

pub struct Jail {
    /// An empty directory of the host to mount at; what is mounted is seen by the monitor alone.
    place: CString,
    steps: Vec<Step>,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Dir(CString),
    Link {
        to: CString,
        at: CString,
    },
    /// A directory or file of the host.
    Show {
        from: CString,
        at: CString,
        writable: bool,
    },
    EmptyFile(CString),
    Device {
        at: CString,
        major: u64,
        minor: u64,
        owner: u32,
    },
}

impl Jail {
    pub fn new(place: &Path, files: &[Shown<'_>], uid: u32, devices: &[Device]) -> io::Result<Self> {
        let mut steps = Vec::new();
        for path in LIBRARIES.iter().map(Path::new).filter(|path| path.exists()) {
            show_library(&mut steps, path)?;
        }
        for Shown { from, at, writable } in files {
            let at = text(inside(at))?;
            steps.push(if from.is_dir() { Step::Dir(at.clone()) } else { Step::EmptyFile(at.clone()) });
            steps.push(Step::Show { from: text(from)?, at, writable: *writable });
        }
        steps.extend([Step::Dir(text("dev")?), Step::Dir(text("dev/net")?)]);
        for Device { at, major, minor } in devices {
            steps.push(Step::Device { at: text(at)?, major: *major, minor: *minor, owner: uid });
        }
        Ok(Self { place: text(place)?, steps })
    }

    /// Allocates nothing: it runs between fork and exec, in a mount namespace of its own.
    pub fn enter(&self) -> io::Result<()> {
        let none = None::<&str>;
        mount(none, c"/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(Some(c"plfm"), self.place.as_c_str(), Some(c"tmpfs"), MsFlags::MS_NOSUID, Some(c"size=64k,mode=755"))?;
        chdir(self.place.as_c_str())?;
        self.steps.iter().try_for_each(Step::take)?;
        pivot_root(c".", c".")?;
        umount2(c".", MntFlags::MNT_DETACH)?;
        mount(none, c"/", none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID, none)?;
        Ok(chdir(c"/")?)
    }
}

impl Step {
    fn take(&self) -> io::Result<()> {
        let none = None::<&str>;
        match self {
            Self::Dir(at) => mkdir(at.as_c_str(), Mode::from_bits_retain(0o755))?,
            Self::Link { to, at } => symlinkat(to.as_c_str(), nix::fcntl::AT_FDCWD, at.as_c_str())?,
            Self::EmptyFile(at) => mknod(at.as_c_str(), SFlag::S_IFREG, Mode::from_bits_retain(0o644), 0)?,
            Self::Show { from, at, writable } => {
                mount(Some(from.as_c_str()), at.as_c_str(), none, MsFlags::MS_BIND, none)?;
                let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
                flags.set(MsFlags::MS_RDONLY, !writable);
                mount(none, at.as_c_str(), none, flags, none)?;
            }
            Self::Device { at, major, minor, owner } => {
                mknod(at.as_c_str(), SFlag::S_IFCHR, Mode::from_bits_retain(0o600), makedev(*major, *minor))?;
                chown(at.as_c_str(), Some(Uid::from_raw(*owner)), Some(Gid::from_raw(*owner)))?;
            }
        }
        Ok(())
    }
}

/// On most systems `/lib` is a link to `/usr/lib`.
fn show_library(steps: &mut Vec<Step>, path: &Path) -> io::Result<()> {
    let at = inside(path);
    if let Ok(to) = std::fs::read_link(path) {
        steps.push(Step::Link { to: text(to)?, at: text(at)? });
        return Ok(());
    }
    for parent in at.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
        steps.push(Step::Dir(text(parent)?));
    }
    steps.push(Step::Dir(text(&at)?));
    steps.push(Step::Show { from: text(path)?, at: text(at)?, writable: false });
    Ok(())
}

fn inside(path: impl AsRef<Path>) -> PathBuf {
    path.as_ref().strip_prefix("/").map(Path::to_owned).unwrap_or_default()
}

fn text(path: impl AsRef<Path>) -> io::Result<CString> {
    Ok(CString::new(path.as_ref().as_os_str().as_bytes())?)
}
