//! The one place that waits for children.
//!
//! PID 1 inherits every orphan, so a wait for a single child would race with the wait for all. One lock lies over the table of those
//! who are waited for: to spawn is to enter it, to reap is to leave it, and a signal is only sent while the process is in it; so a
//! number that has come to mean another process is never signalled.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

pub type Waiting = oneshot::Receiver<Exit>;

#[derive(Default)]
pub struct Reaper {
    children: Mutex<HashMap<i32, oneshot::Sender<Exit>>>,
}

impl Reaper {
    /// Reaps from now on; call it inside the runtime.
    pub fn start() -> io::Result<Arc<Self>> {
        let reaper = Arc::new(Self::default());
        let (mut deaths, all) = (signal(SignalKind::child())?, reaper.clone());
        tokio::spawn(async move {
            while deaths.recv().await.is_some() {
                all.reap();
            }
        });
        Ok(reaper)
    }

    /// Starts a process under the lock, so that it can't be reaped before someone waits for it.
    pub fn spawn<E>(&self, start: impl FnOnce() -> Result<u32, E>) -> Result<(u32, Waiting), E> {
        let mut children = self.lock();
        let pid = start()?;
        let (sender, waiting) = oneshot::channel();
        children.insert(pid as i32, sender);
        Ok((pid, waiting))
    }

    /// False when the process has ended.
    pub fn signal(&self, pid: u32, signal: Signal) -> bool {
        let children = self.lock();
        children.contains_key(&(pid as i32)) && kill(Pid::from_raw(pid as i32), signal).is_ok()
    }

    /// To the whole group that `pid` leads.
    pub fn signal_group(&self, pid: u32, signal: Signal) -> bool {
        let children = self.lock();
        children.contains_key(&(pid as i32)) && killpg(Pid::from_raw(pid as i32), signal).is_ok()
    }

    /// To every process that is waited for, and its group.
    pub fn signal_all(&self, signal: Signal) {
        for pid in self.lock().keys().map(|pid| Pid::from_raw(*pid)) {
            // Either may have gone meanwhile, which is what is wanted.
            let _ = killpg(pid, signal);
            let _ = kill(pid, signal);
        }
    }

    fn reap(&self) {
        let mut children = self.lock();
        loop {
            let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if let Some(waiting) = children.remove(&pid.as_raw()) {
                // Whoever asked may have lost interest.
                let _ = waiting.send(exit);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i32, oneshot::Sender<Exit>>> {
        self.children.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
