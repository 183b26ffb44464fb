//! Mounts as a table.

use std::fs;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::BootError;

pub struct Mount {
    kind: &'static str,
    at: &'static str,
    flags: MsFlags,
    options: &'static str,
    /// The machine can do without: an old or small kernel has not got it.
    optional: bool,
}

impl Mount {
    const fn new(kind: &'static str, at: &'static str, flags: MsFlags, options: &'static str) -> Self {
        Self { kind, at, flags, options, optional: false }
    }

    const fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    fn apply(&self) -> Result<(), BootError> {
        let failed = |cause: std::io::Error| BootError { what: format!("mount {} at {}", self.kind, self.at), cause };
        fs::create_dir_all(self.at).map_err(failed)?;
        match mount(Some(self.kind), self.at, Some(self.kind), self.flags, Some(self.options)) {
            Err(Errno::ENODEV) if self.optional => Ok(()),
            done => done.map_err(|cause| failed(cause.into())),
        }
    }
}

const PLAIN: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
const DEVICES: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC);
const SHARED: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

/// In the initramfs, for the daemon itself.
const OF_THE_DAEMON: &[Mount] = &[
    Mount::new("proc", "/proc", PLAIN, ""),
    Mount::new("sysfs", "/sys", PLAIN, ""),
    Mount::new("devtmpfs", "/dev", DEVICES, "mode=0755"),
    Mount::new("tmpfs", "/run", SHARED, "mode=0755,size=16m"),
    Mount::new("tmpfs", "/tmp", SHARED, "mode=1777,size=16m"),
    Mount::new("cgroup2", "/sys/fs/cgroup", PLAIN, "").optional(),
];

/// In the image. `/run` and `/tmp` stay on the writable disk, as they do in a container: images come with directories of their own in
/// `/run`, and a small machine has no memory to give to `/tmp`. Secrets never reach a disk.
const OF_THE_WORKLOAD: &[Mount] = &[
    Mount::new("proc", "/proc", PLAIN, ""),
    Mount::new("sysfs", "/sys", PLAIN, ""),
    Mount::new("cgroup2", "/sys/fs/cgroup", PLAIN, "").optional(),
    Mount::new("devtmpfs", "/dev", DEVICES, "mode=0755"),
    Mount::new("devpts", "/dev/pts", DEVICES, "mode=0620,gid=5,ptmxmode=0666"),
    Mount::new("tmpfs", "/dev/shm", SHARED, "mode=1777"),
    Mount::new("mqueue", "/dev/mqueue", PLAIN, "").optional(),
    Mount::new("tmpfs", crate::workload::SECRETS_DIR, PLAIN, "mode=0711,size=1m"),
];

/// What programs expect in `/dev` and the kernel does not make.
const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

pub fn of_the_daemon() -> Result<(), BootError> {
    OF_THE_DAEMON.iter().try_for_each(Mount::apply)
}

/// Where the image is `/` already.
pub fn of_the_workload() -> Result<(), BootError> {
    OF_THE_WORKLOAD.iter().try_for_each(Mount::apply)?;
    for (target, link) in LINKS {
        // A machine that has them is as good as one that gets them.
        let _ = std::os::unix::fs::symlink(target, link);
    }
    Ok(())
}
