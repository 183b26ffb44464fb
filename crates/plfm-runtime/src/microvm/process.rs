//! A process that may be our child or one that an earlier run of ours left behind.
//!
//! A process id alone says nothing, ids are used again: with its start time it names one process for as long as the host is up, and a
//! pidfd can only ever mean that process.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

/// What is written down of a process, to find it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    /// Clock ticks since the host started (field 22 of `/proc/PID/stat`).
    pub started: u64,
}

pub struct Process {
    id: ProcessId,
    pidfd: AsyncFd<OwnedFd>,
}

impl Process {
    /// The process with this id, whichever it is.
    pub fn with_pid(pid: u32) -> io::Result<Self> {
        let pid = Pid::from_raw(pid as i32).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        let pid = pid.as_raw_pid();
        let started = start_time(pid).ok_or(io::ErrorKind::NotFound)?;
        // SAFETY: the registration owns the descriptor, which is open until it goes.
        let pidfd = unsafe { AsyncFd::register(pidfd) }?;
        Ok(Self { id: ProcessId { pid, started }, pidfd })
    }

    /// The process that was written down, if it still lives.
    pub fn find(id: ProcessId) -> Option<Self> {
        Self::with_pid(id.pid as u32).ok().filter(|process| process.id == id && !is_zombie(id.pid))
    }

    /// A process that was started with exactly this argument; for one whose id was not written down before a crash.
    pub fn with_argument(argument: &str) -> Option<Self> {
        let pids =
            fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| has_argument(*pid, argument)).find_map(|pid| Self::with_pid(pid).ok())
    }

    pub fn id(&self) -> ProcessId {
        self.id
    }

    pub fn kill(&self) {
        // It may have ended by itself, which is as good.
        let _ = rustix::process::pidfd_send_signal(self.pidfd.as_fd(), Signal::KILL);
    }

    /// Waits for its end, and takes its exit status if it is ours to take.
    pub async fn ended(&self) {
        if self.pidfd.readable().await.is_ok() {
            let _ = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        }
    }
}

fn has_argument(pid: u32, argument: &str) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|&byte| byte == 0).any(|found| found == argument.as_bytes())
}

fn start_time(pid: i32) -> Option<u64> {
    stat_field(pid, 22)?.parse().ok()
}

fn is_zombie(pid: i32) -> bool {
    stat_field(pid, 3).is_none_or(|state| state == "Z")
}

/// Fields count from 1. The second is the name in parentheses and may hold blanks and parentheses of its own.
fn stat_field(pid: i32, field: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(field - 3).map(str::to_owned)
}
