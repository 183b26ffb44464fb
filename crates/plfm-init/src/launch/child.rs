//! Between fork and exec.
//!
//! The library's own uid, gid and directory settings come too early for us, so all is done in one closure. After a fork of a threaded
//! process nothing may allocate or lock: whatever the closure needs is made before.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::geteuid;

use super::{DEFAULT_PATH, Ends, Launch, LaunchError, Started, Step, Wiring, terminal};
use crate::reaper::Reaper;

/// The workload goes before the daemon when memory ends; E2B's daemon uses the same.
const OOM_SCORE: &[u8] = b"100";
/// Errors come out of the child as one number: the step is above the system's codes.
const STEP: i32 = 1 << 12;

pub fn start(launch: &Launch, reaper: &Reaper) -> Result<Started, LaunchError> {
    let mut command = command(launch);
    let (ends, slave) = wire(launch.wiring, &mut command).map_err(|cause| failed(launch, Step::Prepare, cause))?;
    let preparation = Preparation::of(launch, slave).map_err(|cause| failed(launch, Step::Prepare, cause))?;
    // SAFETY: the closure only makes system calls on what was prepared; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(move || preparation.carry_out()) };
    let (pid, exit) = reaper.spawn(|| command.spawn().map(|child| child.id())).map_err(|cause| told(launch, &cause))?;
    // The command holds the other ends: a terminal only ends when they are closed.
    drop(command);
    Ok(Started { pid, exit, ends })
}

fn command(launch: &Launch) -> Command {
    let mut command = Command::new(launch.argv.first().map_or("", String::as_str));
    command.args(launch.argv.iter().skip(1)).env_clear().env("PATH", DEFAULT_PATH);
    command.envs(launch.env.iter().map(|(key, value)| (key, value)));
    command
}

fn wire(wiring: Wiring, command: &mut Command) -> io::Result<(Ends, Option<CString>)> {
    match wiring {
        Wiring::Terminal(size) => {
            let (master, slave) = terminal::open(size)?;
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            Ok((Ends::Terminal(master), Some(slave)))
        }
        Wiring::Pipes { stdin } => {
            let (stdout, out): (PipeReader, PipeWriter) = io::pipe()?;
            let (stderr, err) = io::pipe()?;
            command.stdin(Stdio::null()).stdout(out).stderr(err);
            let stdin = if stdin { Some(feed(command)?) } else { None };
            Ok((Ends::Pipes { stdin, stdout: stdout.into(), stderr: stderr.into() }, None))
        }
    }
}

fn feed(command: &mut Command) -> io::Result<OwnedFd> {
    let (theirs, ours) = io::pipe()?;
    command.stdin(theirs);
    Ok(ours.into())
}

/// What the child will need, made while it can still be made.
struct Preparation {
    cgroup: Option<File>,
    terminal: Option<CString>,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    /// An ordinary user's daemon starts what that user may start, and has nothing to change.
    is_own: bool,
    no_new_privs: bool,
    cwd: CString,
}

impl Preparation {
    fn of(launch: &Launch, terminal: Option<CString>) -> io::Result<Self> {
        let procs = launch.cgroup.as_ref().map(|dir| dir.join("cgroup.procs"));
        Ok(Self {
            cgroup: procs.map(|path| OpenOptions::new().write(true).open(path)).transpose()?,
            terminal,
            uid: launch.account.uid,
            gid: launch.account.gid,
            groups: launch.account.groups.clone(),
            is_own: !geteuid().is_root() && geteuid().as_raw() == launch.account.uid,
            no_new_privs: launch.no_new_privs,
            cwd: CString::new(launch.cwd.as_str())?,
        })
    }

    fn carry_out(&self) -> io::Result<()> {
        // SAFETY: every call gets prepared memory that outlives it, or plain numbers.
        unsafe {
            if let Some(cgroup) = &self.cgroup {
                check(Step::Cgroup, libc::write(cgroup.as_raw_fd(), c"0".as_ptr().cast(), 1))?;
            }
            self.offer_to_the_oom_killer()?;
            check(Step::Session, libc::setsid() as isize)?;
            if let Some(terminal) = &self.terminal {
                self.take(terminal)?;
            }
            if !self.is_own {
                check(Step::Groups, libc::setgroups(self.groups.len(), self.groups.as_ptr()) as isize)?;
                check(Step::Group, libc::setresgid(self.gid, self.gid, self.gid) as isize)?;
                check(Step::User, libc::setresuid(self.uid, self.uid, self.uid) as isize)?;
            }
            if self.no_new_privs {
                check(Step::Privileges, libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) as isize)?;
            }
            check(Step::Directory, libc::chdir(self.cwd.as_ptr()) as isize)
        }
    }

    /// Without `/proc` there is no score to set, and nothing is wrong.
    unsafe fn offer_to_the_oom_killer(&self) -> io::Result<()> {
        // SAFETY: as in `carry_out`, the only caller.
        unsafe {
            let score = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            if score >= 0 {
                check(Step::OomScore, libc::write(score, OOM_SCORE.as_ptr().cast(), OOM_SCORE.len()))?;
                libc::close(score);
            }
        }
        Ok(())
    }

    /// Opened here, where the path means the workload's terminals, and given to the user who will type on it.
    unsafe fn take(&self, terminal: &CString) -> io::Result<()> {
        // SAFETY: as in `carry_out`, the only caller.
        unsafe {
            let slave: RawFd = libc::open(terminal.as_ptr(), libc::O_RDWR | libc::O_NOCTTY);
            check(Step::Terminal, slave as isize)?;
            check(Step::Terminal, libc::ioctl(slave, libc::TIOCSCTTY as _, 0) as isize)?;
            check(Step::Terminal, libc::fchown(slave, self.uid, u32::MAX) as isize)?;
            for standard in 0..3 {
                check(Step::Terminal, libc::dup2(slave, standard) as isize)?;
            }
            if slave > 2 {
                libc::close(slave);
            }
        }
        Ok(())
    }
}

fn check(step: Step, result: isize) -> io::Result<()> {
    if result >= 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(step as i32 * STEP + Errno::last_raw())) }
}

/// What the child said, read back.
fn told(launch: &Launch, cause: &io::Error) -> LaunchError {
    let code = cause.raw_os_error().unwrap_or(libc::EINVAL);
    match Step::ALL.get((code / STEP) as usize) {
        Some(step) if code >= STEP => error(launch, *step, Errno::from_raw(code % STEP)),
        _ => error(launch, Step::Exec, Errno::from_raw(code)),
    }
}

fn failed(launch: &Launch, step: Step, cause: io::Error) -> LaunchError {
    error(launch, step, Errno::from_raw(cause.raw_os_error().unwrap_or(libc::EINVAL)))
}

fn error(launch: &Launch, step: Step, cause: Errno) -> LaunchError {
    let object = if step == Step::Directory { &launch.cwd } else { launch.argv.first().unwrap_or(&launch.cwd) };
    LaunchError { step, object: object.clone(), cause }
}
