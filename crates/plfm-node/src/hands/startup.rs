//! What a template wants to have run before a sandbox of it is anybody's: its start command goes on, its ready command says when.

use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use plfm_api::documents::Workload;
use plfm_api::envd::{self, Event};
use plfm_api::rpc::{Error, Target};
use plfm_core::event::Startup;
use plfm_core::ids::InstanceId;
use plfm_core::reason::{Failure, Reason};

use super::{Hands, patience};

/// Less than a node gives a machine to become ready: what is said of it then is not what was wrong.
const READY_WAIT: Duration = Duration::from_secs(90);
const READY_EVERY: Duration = Duration::from_millis(500);

/// No exit code of a try yet.
const NOT_ENDED: i32 = i32::MIN;

impl Hands {
    /// To the guest daemon's commands.
    pub(super) fn envd(&self, id: InstanceId) -> envd::Client {
        let runtime = self.runtime.clone();
        envd::Client::new(Target::new(move || {
            let runtime = runtime.clone();
            async move { runtime.connect(id, plfm_api::channel::port::ENVD).await.map_err(std::io::Error::other) }
        }))
    }

    /// What was started goes on when nobody listens to it any more.
    pub(super) async fn open_up(&self, id: InstanceId, workload: &Workload) -> Result<(), Failure> {
        let Startup { start, ready } = &workload.startup;
        let client = self.envd(id);
        let tried = AtomicI32::new(NOT_ENDED);
        let opens = self.alive(id, async {
            let started = match start {
                Some(start) => Some(client.start(shell(start)).await.map_err(|error| not_run("start", &error))?),
                None => None,
            };
            let Some(ready) = ready else { return Ok(()) };
            tokio::select! {
                biased;
                failure = fails(started) => Err(failure),
                is_ready = is_ready(&client, ready, &tried) => is_ready,
            }
        });
        let wait = patience(self.runtime.class(), READY_WAIT);
        tokio::time::timeout(wait, opens).await.unwrap_or_else(|_| {
            let last = match tried.into_inner() {
                NOT_ENDED => "did not end".to_owned(),
                code => format!("ended with {code} to the last"),
            };
            Err(Failure::new(Reason::StartupTimeout, format!("the ready command {last}, for {wait:?}")))
        })
    }
}

/// As E2B's templates have it.
fn shell(command: &str) -> envd::Command {
    envd::Command::new(["/bin/bash", "-l", "-c", command])
}

/// When what was started ends badly. What it has written is not told: it may be anything.
async fn fails(started: Option<envd::Session>) -> Failure {
    if let Some(mut session) = started {
        match exit_code(&mut session).await {
            Ok(0) => {}
            Ok(code) => {
                return Failure::new(Reason::WorkloadStartFailed, format!("the start command ended with {code}"));
            }
            Err(error) => return not_run("start", &error),
        }
    }
    std::future::pending().await
}

async fn is_ready(client: &envd::Client, ready: &str, tried: &AtomicI32) -> Result<(), Failure> {
    loop {
        let mut session = client.start(shell(ready)).await.map_err(|error| not_run("ready", &error))?;
        match exit_code(&mut session).await.map_err(|error| not_run("ready", &error))? {
            0 => return Ok(()),
            code => tried.store(code, Relaxed),
        }
        tokio::time::sleep(READY_EVERY).await;
    }
}

async fn exit_code(session: &mut envd::Session) -> Result<i32, Error> {
    while let Some(event) = session.next().await? {
        if let Event::End(end) = event {
            return Ok(end.exit_code);
        }
    }
    Ok(-1)
}

fn not_run(which: &str, error: &Error) -> Failure {
    Failure::new(Reason::WorkloadStartFailed, format!("the {which} command does not run: {error}"))
}
