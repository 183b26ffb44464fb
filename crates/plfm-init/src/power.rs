//! The end: nobody is connected any more, the workload has its grace, then everything goes, then the machine is off.

use std::fs;
use std::process::exit;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use plfm_api::guest::state;
use tokio::time::{sleep, timeout};

use crate::daemon::{Daemon, Leave};
use crate::machine;
use crate::net::quiet;

/// The last phase is on its way to the host; the byte stream has no end that one could wait for.
const LAST_WORD: Duration = Duration::from_millis(100);
/// After SIGKILL a process goes as soon as the kernel lets it.
const KILL_WAIT: Duration = Duration::from_secs(2);

/// Waits to be asked, then does not return.
pub async fn off_when_asked(daemon: Arc<Daemon>) {
    let leave = daemon.asked_to_stop().await;
    if daemon.workload().is_some() {
        daemon.enter(state::Stopping::default());
        stop_workload(&daemon, leave).await;
    }
    kill_everything(&daemon);
    let _ = timeout(KILL_WAIT, daemon.workload_gone()).await;
    sleep(LAST_WORD).await;
    if daemon.is_machine {
        machine::power_off(&daemon).await;
    }
    exit(0)
}

/// Nobody has said goodbye.
pub fn off_by_itself(daemon: &Daemon) {
    daemon.ask_to_stop(Leave::default());
}

async fn stop_workload(daemon: &Daemon, Leave { grace, quiet }: Leave) {
    let orderly = async {
        // Elsewhere the connections are somebody else's too.
        if daemon.is_machine {
            tokio::select! {
                () = quiet::wait(quiet, grace / 2) => {}
                () = daemon.workload_gone() => {}
            }
        }
        let Some(pid) = daemon.workload() else { return };
        let signal = daemon.config().map_or(Signal::SIGTERM, |config| config.stop_signal);
        daemon.reaper.signal_group(pid, signal);
        daemon.workload_gone().await;
    };
    let _ = timeout(grace, orderly).await;
}

fn kill_everything(daemon: &Daemon) {
    if daemon.is_machine {
        // As PID 1 this means all but us.
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        return;
    }
    daemon.reaper.signal_all(Signal::SIGKILL);
    // Whoever left its group has become our child by now, or becomes it when its parent goes.
    for pid in children() {
        let _ = kill(pid, Signal::SIGKILL);
    }
}

fn children() -> Vec<Pid> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return vec![] };
    let lists = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split(' ').filter_map(|pid| pid.trim().parse().ok().map(Pid::from_raw)).collect::<Vec<_>>()
        })
        .collect()
}
