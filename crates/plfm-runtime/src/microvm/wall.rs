//! What a monitor's process is confined to, besides what it confines itself to (QEMU's own system call filter).
//!
//! As root, each machine has a user of its own, no capabilities, an empty network (its instance's, where the monitor opens the tap
//! itself), and a root directory with the program's libraries read-only, the kernel, and nothing else. Without root, what is left is
//! `no_new_privs` and no core dumps.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{ChildStderr, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid, setsid};
use plfm_core::digest::Digest;

use super::jail::Jail;
use super::process::Process;
use super::tools;
use super::vmm::Command;

/// Users of machines: above all that systemd and container tools hand out, which end at 1,879,048,191.
const UID_FIRST: u32 = 1_900_000_000;
const UIDS: u32 = 100_000;

/// A user for the machine `name` that none in `taken` has; the same one each time, if it is free. None where we can't become another
/// user.
pub fn own_uid(name: &str, taken: &[u32]) -> Option<u32> {
    let seed = Digest::of(name.as_bytes()).hex();
    let from = u32::from_str_radix(&seed[..8], 16).unwrap_or_default() % UIDS;
    let mut pool = (from..UIDS).chain(0..from).map(|offset| UID_FIRST + offset);
    pool.find(|uid| !taken.contains(uid)).filter(|_| can_build())
}

/// Whether we are root with the rights that a wall takes. Root of a container or of a user namespace often is not.
pub fn can_build() -> bool {
    const RIGHTS: &[u32] = &[CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN, CAP_MKNOD];
    let everyone = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let real = everyone.split_whitespace().eq(["0", "0", "4294967295"]);
    real && rustix::process::geteuid().is_root() && RIGHTS.iter().all(|right| tools::has_capability(*right))
}

const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_MKNOD: u32 = 27;

#[derive(Default)]
pub struct Wall {
    pub user: Option<(u32, Jail)>,
    /// An empty one, if it has a user and nothing is said here.
    pub network: Option<OwnedFd>,
    /// Of the process's cgroups.
    pub doors: Vec<File>,
}

/// Starts the monitor in a session of its own: it outlives us. It keeps the descriptors of `inherit` under their numbers.
pub fn spawn(
    command: &Command,
    wall: Wall,
    inherit: Vec<OwnedFd>,
    output: Option<OwnedFd>,
) -> io::Result<(Process, ChildStderr)> {
    let mut child = std::process::Command::new(&command.program);
    child.arg0(&command.arg0).args(&command.args).env_clear().current_dir("/");
    child.stdin(Stdio::null()).stdout(output.map_or_else(Stdio::null, Stdio::from)).stderr(Stdio::piped());
    // SAFETY: between fork and exec only system calls are made, on memory that was allocated before the fork.
    unsafe { child.pre_exec(move || wall.close_behind(&inherit)) };
    let mut child = child.spawn()?;
    let stderr = child.stderr.take().expect("it is piped");
    match Process::with_pid(child.id()) {
        Ok(process) => Ok((process, stderr)),
        Err(error) => {
            child.kill().and_then(|()| child.wait())?;
            Err(error)
        }
    }
}

impl Wall {
    fn close_behind(&self, inherit: &[OwnedFd]) -> io::Result<()> {
        for mut door in &self.doors {
            door.write_all(b"0")?;
        }
        setsid()?;
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
        if let Some((uid, jail)) = &self.user {
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC)?;
            match &self.network {
                Some(network) => setns(network, CloneFlags::CLONE_NEWNET)?,
                None => unshare(CloneFlags::CLONE_NEWNET)?,
            }
            jail.enter()?;
            become_user(*uid)?;
        }
        nix::sys::prctl::set_no_new_privs()?;
        inherit.iter().try_for_each(|fd| keep_over_exec(fd.as_fd()))
    }
}

fn become_user(uid: u32) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    Ok(())
}

fn keep_over_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}
