//! A daemon for one test, and what is commonly asked of it.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use plfm_api::channel::{Mux, Opener, Secret};
use plfm_api::envd::process_event::EndEvent;
use plfm_api::envd::{self, Event, Output, Session};
use plfm_api::guest::{self, ConfigureRequest, Phase, logs_response::Stream};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

/// Nothing here takes long; a test that waits for so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Daemon {
    pub opener: Opener,
    pub guest: guest::Client,
    pub envd: envd::Client,
    child: Child,
    dir: TempDir,
}

impl Daemon {
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// As an ordinary user, to whom its directory belongs.
    pub async fn start_as(uid: u32) -> Self {
        let become_user = |command: &mut Command| {
            command.uid(uid).gid(uid);
        };
        Self::start_with(become_user).await
    }

    async fn start_with(change: impl FnOnce(&mut Command)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let socket = dir.path().join("s");
        let mut command = Command::new(env!("CARGO_BIN_EXE_plfm-init"));
        command.arg("--supervise").arg("--socket").arg(&socket);
        change(&mut command);
        let child = command.spawn().unwrap();
        let opener = attach(&dir).await;
        Self {
            guest: guest::Client::over(opener.clone()),
            envd: envd::Client::over(opener.clone()),
            opener,
            child,
            dir,
        }
    }

    /// A sandbox without a workload of its own.
    pub async fn sandbox() -> Self {
        let daemon = Self::start().await;
        daemon.guest.configure(ConfigureRequest { sandbox: true, ..request([]) }).await.unwrap();
        daemon.until(|phase| matches!(phase, Phase::Running(_))).await;
        daemon
    }

    pub async fn running<const N: usize>(argv: [&str; N]) -> Self {
        let daemon = Self::start().await;
        daemon.guest.configure(request(argv)).await.unwrap();
        daemon
    }

    /// Another host on the same socket; the one before is cut off.
    pub async fn attach_again(&self) -> Opener {
        attach(&self.dir).await
    }

    pub async fn until(&self, wanted: impl Fn(&Phase) -> bool) -> Phase {
        let mut watch = self.guest.watch().await.unwrap();
        let waiting = async {
            loop {
                let phase = watch.next().await.unwrap().unwrap();
                if wanted(&phase) {
                    return phase;
                }
            }
        };
        timeout(PATIENCE, waiting).await.expect("the phase is never reached")
    }

    /// The final phase: code, signal, detail; or the reason and detail of a failure.
    pub async fn end(&self) -> (u32, u32, String) {
        match self.until(|phase| matches!(phase, Phase::Exited(_) | Phase::Failed(_))).await {
            Phase::Exited(end) => (end.code, end.signal, end.detail),
            Phase::Failed(failure) => panic!("failed: {}: {}", failure.reason, failure.detail),
            other => unreachable!("{other:?}"),
        }
    }

    pub async fn failure(&self) -> (String, String) {
        match self.until(|phase| matches!(phase, Phase::Exited(_) | Phase::Failed(_))).await {
            Phase::Failed(failure) => (failure.reason, failure.detail),
            other => panic!("{other:?}"),
        }
    }

    pub async fn log(&self, stream: Stream) -> String {
        let (mut logs, mut text) = (self.guest.logs(0, false).await.unwrap(), Vec::new());
        while let Some(chunk) = logs.next().await.unwrap() {
            if chunk.stream == stream {
                text.extend(chunk.data);
            }
        }
        String::from_utf8(text).unwrap()
    }

    pub async fn shell(&self, script: &str) -> Session {
        self.envd.start(envd::Command::new(["/bin/sh", "-c", script])).await.unwrap()
    }

    /// Waits until the daemon itself has ended.
    pub async fn gone(&mut self) -> bool {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            sleep(Duration::from_millis(5)).await;
        }
        false
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended as it was asked to.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn attach(dir: &TempDir) -> Opener {
    let until = Instant::now() + PATIENCE;
    let stream = loop {
        match UnixStream::connect(dir.path().join("s")).await {
            Ok(stream) => break stream,
            Err(cause) if Instant::now() > until => panic!("the daemon does not listen: {cause}"),
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    };
    let (opener, mux) = Mux::host(stream, Secret::random().unwrap());
    tokio::spawn(mux);
    opener
}

pub fn request<const N: usize>(argv: [&str; N]) -> ConfigureRequest {
    let workload = guest::Workload { argv: argv.map(str::to_owned).into(), ..Default::default() };
    ConfigureRequest {
        instance_id: "inst_1".into(),
        boot_id: "boot_1".into(),
        workload: workload.into(),
        ..Default::default()
    }
}

#[derive(Debug, Default, PartialEq)]
pub struct Heard {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub terminal: Vec<u8>,
    pub largest: usize,
}

/// Everything until the end, which must be the last word.
pub async fn hear(session: &mut Session) -> (Heard, EndEvent) {
    let mut heard = Heard::default();
    let hearing = async {
        loop {
            match session.next().await.unwrap().expect("an end comes before the end of the stream") {
                Event::Data(data) => heard.take(data.output.unwrap()),
                Event::End(end) => return *end,
                other => panic!("{other:?}"),
            }
        }
    };
    let end = timeout(PATIENCE, hearing).await.expect("the process never ends");
    assert_eq!(session.next().await.unwrap(), None);
    (heard, end)
}

impl Heard {
    pub fn take(&mut self, output: Output) {
        let (into, bytes) = match output {
            Output::Stdout(bytes) => (&mut self.stdout, bytes),
            Output::Stderr(bytes) => (&mut self.stderr, bytes),
            Output::Pty(bytes) => (&mut self.terminal, bytes),
        };
        self.largest = self.largest.max(bytes.len());
        into.extend(bytes);
    }
}

/// Code and status of an end.
pub fn told(end: &EndEvent) -> (i32, bool, &str) {
    (end.exit_code, end.exited, &end.status)
}
