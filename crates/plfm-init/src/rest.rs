//! Rest: nothing but the daemon runs, so that the machine may be saved; and the waking of what went on from there.
//!
//! ```text
//!   Quiesce ─▶ (saved) ─▶ Thaw                  in the machine itself
//!              (gone on from) ─▶ Refresh ─▶ Thaw     in each of its twins
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::sync;
use tokio::time::{sleep, timeout};

use crate::daemon::{Daemon, Prestart};
use crate::machine::{self, CGROUP, Renewal};
use crate::workload;

/// Programs of the image that make other programs take notice of a refresh.
const HOOKS: &str = "/etc/plfm/refresh.d";
const HOOK_MAX: Duration = Duration::from_secs(10);
/// A process that is in the middle of a system call freezes when it leaves it.
const FREEZE_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(2);

#[derive(Debug, thiserror::Error)]
pub enum RestError {
    #[error("only a machine of its own can rest")]
    NotAMachine,
    #[error("the workload cannot be frozen: {}", crate::launch::describe_io(.0))]
    Freeze(io::Error),
    #[error("the workload does not freeze within {FREEZE_MAX:?}")]
    StillRuns,
    #[error("the machine does not rest")]
    Awake,
    #[error(transparent)]
    Renew(#[from] machine::BootError),
}

pub async fn quiesce(daemon: &Daemon) -> Result<(), RestError> {
    if !daemon.is_machine {
        return Err(RestError::NotAMachine);
    }
    daemon.set_rests(true).await;
    let rests = bring_to_rest().await;
    if rests.is_err() {
        daemon.set_rests(false).await;
    }
    rests
}

async fn bring_to_rest() -> Result<(), RestError> {
    freeze(true)?;
    let frozen = async {
        while !is_frozen() {
            sleep(POLL).await;
        }
    };
    if timeout(FREEZE_MAX, frozen).await.is_err() {
        freeze(false)?;
        return Err(RestError::StillRuns);
    }
    tokio::task::spawn_blocking(sync).await.expect("a panic ends the daemon");
    Ok(())
}

pub async fn refresh(daemon: &Daemon, renewal: Renewal) -> Result<(), RestError> {
    if !daemon.is_machine {
        return Err(RestError::NotAMachine);
    }
    // One that is not complete must not run.
    if !is_frozen() {
        return Err(RestError::Awake);
    }
    Ok(machine::renew(daemon, renewal).await?)
}

/// What hooks had to complain of. Who does not rest needs no waking.
pub async fn thaw(daemon: &Arc<Daemon>, realtime_ns: u64, entropy: &[u8]) -> Result<Vec<String>, RestError> {
    if !daemon.is_machine {
        return Err(RestError::NotAMachine);
    }
    let rested = is_frozen();
    if rested {
        machine::go_on(realtime_ns, entropy)?;
    }
    // Also what is only about to freeze.
    freeze(false)?;
    daemon.set_rests(false).await;
    Ok(if rested && daemon.learns_of_twins() { run_hooks(daemon).await } else { Vec::new() })
}

fn freeze(on: bool) -> Result<(), RestError> {
    fs::write(format!("{CGROUP}/cgroup.freeze"), if on { "1" } else { "0" }).map_err(RestError::Freeze)
}

fn is_frozen() -> bool {
    let events = fs::read_to_string(format!("{CGROUP}/cgroup.events")).unwrap_or_default();
    events.lines().any(|line| line == "frozen 1")
}

async fn run_hooks(daemon: &Arc<Daemon>) -> Vec<String> {
    let mut warnings = Vec::new();
    for hook in daemon.place.run(|| hooks(Path::new(HOOKS))).await {
        let command = Prestart { argv: vec![hook.display().to_string()], timeout: HOOK_MAX };
        if let Err(why) = workload::run_as_root(daemon, &command).await {
            warnings.push(format!("{}: {why}", hook.display()));
        }
    }
    warnings
}

/// By name, as `run-parts` has it.
fn hooks(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let runs =
        |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    let mut hooks: Vec<_> = entries.filter(runs).collect();
    hooks.sort();
    hooks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_programs_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        for (name, mode) in [("20-b", 0o755), ("10-a", 0o700), ("readme", 0o644)] {
            fs::write(dir.path().join(name), "").unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(dir.path().join("30-dir")).unwrap();
        let found = hooks(dir.path());
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["10-a", "20-b"]);
        assert!(hooks(&dir.path().join("nowhere")).is_empty());
    }
}
