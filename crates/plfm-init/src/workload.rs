//! From a configuration to a running workload, and from its end to the word about it.

use std::sync::Arc;
use std::time::Duration;

use plfm_api::guest::{logs_response::Stream, state};
use plfm_core::reason::{Failure, Reason};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::daemon::{Config, Daemon, Prestart};
use crate::launch::{DEFAULT_PATH, Ends, Launch, Started, Wiring};
use crate::reaper::Exit;
use crate::users::{self, Account};
use crate::{machine, power};

mod oom;
mod prestart;
mod secrets;

pub use secrets::{BYTES_MAX as SECRETS_BYTES_MAX, DIR as SECRETS_DIR};

/// Its own cgroup, to freeze, to count and to kill.
pub const CGROUP: &str = "workload";
/// How long output that a dead workload left in its pipes may take to be read. Others may hold them open for ever.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// A machine whose workload has ended waits so long for the host to say goodbye.
const FAREWELL: Duration = Duration::from_secs(10);

/// Does all of it; runs once.
pub async fn run(daemon: Arc<Daemon>) {
    let config = daemon.config().expect("it was just configured");
    let killed = oom::kills();
    let begun = tokio::select! {
        begun = begin(&daemon, config) => begun,
        // The stop kills whatever runs by then.
        _ = daemon.asked_to_stop() => return,
    };
    match begun {
        Ok(Some(started)) => attend(&daemon, started, killed).await,
        Ok(None) => return,
        Err(failure) => daemon.fail(&failure),
    }
    if daemon.is_machine && !config.sandbox {
        let _ = timeout(FAREWELL, daemon.asked_to_stop()).await;
        power::off_by_itself(&daemon);
    }
}

/// Up to the running workload, or to a sandbox that has none.
async fn begin(daemon: &Arc<Daemon>, config: &Config) -> Result<Option<Started>, Failure> {
    daemon.enter(state::Configuring::default());
    if daemon.is_machine {
        machine::prepare(daemon, config).await?;
    }
    let account = account(daemon, config).await?;
    if daemon.is_machine {
        machine::open_volumes(daemon, config, &account).await?;
    }
    secrets::wait_and_write(daemon, config, &account).await?;
    prestart::run(daemon, config, &account).await?;
    if !config.argv.is_empty() {
        return start(daemon, config, account).await.map(Some);
    }
    if config.sandbox {
        daemon.enter(state::Running::default());
        return Ok(None);
    }
    Err(Failure::new(Reason::WorkloadStartFailed, "no command: neither the image nor the manifest names one"))
}

async fn account(daemon: &Daemon, config: &Config) -> Result<Account, Failure> {
    let user = config.user.clone();
    let account = daemon.place.run(move || users::look_up(&user)).await;
    account.map_err(|cause| Failure::new(Reason::WorkloadStartFailed, cause.to_string()))
}

async fn start(daemon: &Daemon, config: &Config, account: Account) -> Result<Started, Failure> {
    let launch = launch(daemon, config, config.argv.clone(), account);
    let started = launch.start(&daemon.place, &daemon.reaper).await;
    let started = started.map_err(|cause| Failure::new(Reason::WorkloadStartFailed, cause.to_string()))?;
    daemon.set_workload(Some(started.pid));
    daemon.enter(state::Running { pid: started.pid, ..Default::default() });
    Ok(started)
}

/// Takes in what it says and tells how it ends. `killed`: how often memory had run out before.
async fn attend(daemon: &Arc<Daemon>, Started { exit, ends, .. }: Started, killed: u64) {
    let output = collect(daemon, ends, (Stream::STREAM_STDOUT, Stream::STREAM_STDERR));
    let exit = exit.await.expect("the reaper answers for every child");
    let _ = timeout(LAST_WORDS, output).await;
    daemon.enter(ended(exit, oom::kills() > killed));
    daemon.set_workload(None);
}

/// A command beside the workload, until it has ended well.
pub async fn run_as_root(daemon: &Arc<Daemon>, command: &Prestart) -> Result<(), String> {
    let config = daemon.config().ok_or("the machine is not configured")?;
    let root = daemon.place.run(|| users::look_up("")).await.map_err(|cause| cause.to_string())?;
    prestart::one(daemon, config, &root, command).await
}

/// As the workload and its prestart commands run.
fn launch(daemon: &Daemon, config: &Config, argv: Vec<String>, account: Account) -> Launch {
    let name = daemon.name().expect("a machine that is configured has one");
    let mut env = vec![
        ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
        ("HOME".to_owned(), account.home.clone()),
        ("HOSTNAME".to_owned(), name.hostname),
    ];
    env.extend(name.env);
    Launch {
        argv,
        env,
        cwd: config.cwd.clone(),
        account,
        wiring: Wiring::Pipes { stdin: false },
        cgroup: machine::cgroup(daemon, CGROUP),
        // A sandbox's user may become root by the sandbox's own rules.
        no_new_privs: !config.sandbox,
    }
}

/// Both outputs into the log, until they end.
fn collect(daemon: &Arc<Daemon>, ends: Ends, streams: (Stream, Stream)) -> JoinHandle<()> {
    let daemon = daemon.clone();
    tokio::spawn(async move {
        let Ends::Pipes { stdout, stderr, .. } = ends else { return };
        let (Ok(stdout), Ok(stderr)) = (pipe::Receiver::from_owned_fd(stdout), pipe::Receiver::from_owned_fd(stderr))
        else {
            return eprintln!("plfm-init: the output of the workload cannot be read");
        };
        tokio::join!(daemon.logs.collect(streams.0, stdout), daemon.logs.collect(streams.1, stderr));
    })
}

fn ended(exit: Exit, somebody_was_killed: bool) -> state::Exited {
    match exit {
        Exit::Code(code) => {
            let code = code as u32;
            state::Exited { code, detail: format!("exit status {code}"), ..Default::default() }
        }
        Exit::Signal(number) => {
            let oom = somebody_was_killed && number == nix::libc::SIGKILL;
            let why = if oom { " (out of memory)" } else { "" };
            let (signal, detail) = (number as u32, format!("ended by {}{why}", name(number)));
            state::Exited { code: 128 + signal, signal, oom, detail, ..Default::default() }
        }
    }
}

/// `SIGTERM`, or its number.
fn name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |signal| signal.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_as_shells_tell_it() {
        let told = |exit, killed| {
            let end = ended(exit, killed);
            (end.code, end.signal, end.oom, end.detail)
        };
        assert_eq!(told(Exit::Code(3), true), (3, 0, false, "exit status 3".into()));
        assert_eq!(told(Exit::Signal(15), true), (143, 15, false, "ended by SIGTERM".into()));
        assert_eq!(told(Exit::Signal(9), false), (137, 9, false, "ended by SIGKILL".into()));
        assert_eq!(told(Exit::Signal(9), true), (137, 9, true, "ended by SIGKILL (out of memory)".into()));
    }
}
