//! The workload's thread goes where the image is `/`.
//!
//! The overlay is moved over the root of a mount namespace of its own, as switch_root does: a process in it is not in a chroot, so it can
//! make namespaces of its own, and nothing of the initramfs can be reached by walking up.

use std::cell::RefCell;
use std::fs::File;
use std::os::fd::AsFd;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{chdir, chroot};

use super::disks::NEWROOT;
use super::{BootError, cmdline, mounts};

const NAMESPACE: &str = "/proc/thread-self/ns/mnt";

thread_local! {
    /// The way back, for the end.
    static HOME: RefCell<Option<File>> = const { RefCell::new(None) };
}

/// Run on the thread of the [`Place`](crate::launch::Place).
pub fn enter() -> Result<(), BootError> {
    let home = File::open(NAMESPACE).map_err(BootError::of(format!("open {NAMESPACE}")))?;
    HOME.set(Some(home));
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).map_err(BootError::of("make a mount namespace"))?;
    let line = File::open(hidden_command_line()?).map_err(BootError::of("open the command line to show"))?;
    chdir(NEWROOT).map_err(BootError::of(format!("chdir {NEWROOT}")))?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .map_err(BootError::of("move the image to /"))?;
    chroot(".").and_then(|()| chdir("/")).map_err(BootError::of("change to the image"))?;
    mounts::of_the_workload()?;
    hide_command_line(&line);
    Ok(())
}

/// An image need not have the directory that it names for its command. Where it cannot be made, changing to it says why.
pub fn make_directory(path: &str) {
    let _ = std::fs::create_dir_all(path);
}

/// Back to the daemon's own root, so that the namespace ends with its last process.
pub fn leave() {
    let left = HOME.take().map(|home| setns(home.as_fd(), CloneFlags::CLONE_NEWNS));
    if let Some(Err(cause)) = left {
        eprintln!("plfm-init: cannot leave the image: {cause}");
    }
}

/// The command line without the channel's secret, as a file of the daemon's.
fn hidden_command_line() -> Result<&'static str, BootError> {
    const PATH: &str = "/etc/plfm/cmdline";
    let line = std::fs::read_to_string(cmdline::PATH).map_err(BootError::of("read the command line"))?;
    std::fs::create_dir_all("/etc/plfm").map_err(BootError::of("make /etc/plfm"))?;
    std::fs::write(PATH, cmdline::redacted(&line)).map_err(BootError::of("write the command line to show"))?;
    Ok(PATH)
}

/// Root could look below the mount; others can't, and nobody finds the secret by accident in a bug report.
fn hide_command_line(line: &File) {
    use std::os::fd::AsRawFd;
    let source = format!("/proc/self/fd/{}", line.as_raw_fd());
    if let Err(cause) = mount(Some(source.as_str()), cmdline::PATH, None::<&str>, MsFlags::MS_BIND, None::<&str>) {
        eprintln!("plfm-init: the command line is not hidden: {cause}");
    }
}
