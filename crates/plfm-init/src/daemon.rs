//! What all parts of the daemon share: the phase, what was configured, and the hands that start and reap.
//!
//! ```text
//!   Waiting ──configure──▶ Configuring ──▶ AwaitingSecrets ──▶ Running ──▶ Exited
//!                               └──────────────────┴───────────▶ Failed
//!   any ──shutdown──▶ Stopping ──▶ Exited (if a workload ran), then the machine is off
//! ```

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use plfm_api::guest::{ConfigureRequest, Phase, PutSecretsRequest, state};
use plfm_core::reason::Failure;
use tokio::sync::{RwLock, watch};

use crate::envd::Table;
use crate::launch::Place;
use crate::logs::Logs;
use crate::reaper::Reaper;

mod config;

pub use config::{Config, ENTROPY_MAX, ENTROPY_MIN, IMAGES_MAX, Prestart, Volume, is_environment, is_hostname, sorted};

pub struct Daemon {
    /// Mounts, network and power are ours; elsewhere they are somebody else's.
    pub is_machine: bool,
    pub place: Place,
    pub reaper: Arc<Reaper>,
    pub logs: Logs,
    pub processes: Table,
    config: OnceLock<Config>,
    /// Who the machine is since it went on from a picture.
    renewed: Mutex<Option<Name>>,
    /// Held by whoever starts a process meanwhile: one that is about to freeze would hold up its starter, and all that waits for it.
    rests: RwLock<bool>,
    secrets: watch::Sender<Option<Arc<PutSecretsRequest>>>,
    phase: watch::Sender<Phase>,
    /// The workload's process while it lives.
    workload: watch::Sender<Option<u32>>,
    /// The stop that was asked for.
    stop: watch::Sender<Option<Leave>>,
}

/// How the machine is to end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leave {
    /// Until everything is killed.
    pub grace: Duration,
    /// Without connections, before the workload is told.
    pub quiet: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub instance_id: String,
    pub boot_id: String,
    pub hostname: String,
    /// Of what is started from here on.
    pub env: Vec<(String, String)>,
    /// 0 until it has twins.
    pub generation: u64,
    /// Nobody in it has been told of its twins.
    pub is_news: bool,
}

/// A second word that contradicts the first.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("this machine is configured already, and differently")]
pub struct Contradiction;

impl Daemon {
    pub fn new(is_machine: bool) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            is_machine,
            place: Place::new()?,
            reaper: Reaper::start()?,
            logs: Logs::new(),
            processes: Table::default(),
            config: OnceLock::new(),
            renewed: Mutex::new(None),
            rests: RwLock::new(false),
            secrets: watch::Sender::new(None),
            phase: watch::Sender::new(state::Waiting::default().into()),
            workload: watch::Sender::new(None),
            stop: watch::Sender::new(None),
        }))
    }

    pub fn config(&self) -> Option<&Config> {
        self.config.get()
    }

    /// Who this machine is; nobody before it is configured.
    pub fn name(&self) -> Option<Name> {
        let of = |config: &Config| {
            let Config { instance_id, boot_id, hostname, env, .. } = config.clone();
            Name { instance_id, boot_id, hostname, env, generation: 0, is_news: false }
        };
        self.renewed().clone().or_else(|| self.config().map(of))
    }

    pub fn renew(&self, name: Name) {
        *self.renewed() = Some(name);
    }

    /// Whether it has twins that it does not know of; once.
    pub fn learns_of_twins(&self) -> bool {
        self.renewed().as_mut().is_some_and(|name| std::mem::take(&mut name.is_news))
    }

    fn renewed(&self) -> MutexGuard<'_, Option<Name>> {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is started while this is held is started before the machine rests; none while it does.
    pub async fn awake(&self) -> Option<impl Sized> {
        let rests = self.rests.read().await;
        (!*rests).then_some(rests)
    }

    pub async fn set_rests(&self, rests: bool) {
        *self.rests.write().await = rests;
    }

    /// True when this is news.
    pub fn configure(&self, config: Config) -> Result<bool, Contradiction> {
        let mut news = false;
        let known = self.config.get_or_init(|| {
            news = true;
            config.clone()
        });
        if *known == config { Ok(news) } else { Err(Contradiction) }
    }

    /// Said once; the same again changes nothing.
    pub fn put_secrets(&self, secrets: PutSecretsRequest) -> Result<(), Contradiction> {
        let mut answer = Ok(());
        self.secrets.send_if_modified(|known| match known {
            None => {
                *known = Some(Arc::new(secrets));
                true
            }
            Some(known) => {
                answer = if **known == secrets { Ok(()) } else { Err(Contradiction) };
                false
            }
        });
        answer
    }

    pub async fn secrets(&self) -> Arc<PutSecretsRequest> {
        let mut secrets = self.secrets.subscribe();
        let known = secrets.wait_for(Option::is_some).await.expect("the daemon holds the sender");
        known.clone().expect("waited for")
    }

    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub fn enter(&self, phase: impl Into<Phase>) {
        self.phase.send_replace(phase.into());
    }

    pub fn fail(&self, failure: &Failure) {
        eprintln!("plfm-init: {failure}");
        let (reason, detail) = (failure.reason.code().to_owned(), failure.detail.clone());
        self.enter(state::Failed { reason, detail, ..Default::default() });
    }

    pub fn set_workload(&self, pid: Option<u32>) {
        self.workload.send_replace(pid);
    }

    pub fn workload(&self) -> Option<u32> {
        *self.workload.borrow()
    }

    pub async fn workload_gone(&self) {
        let _ = self.workload.subscribe().wait_for(Option::is_none).await;
    }

    /// The first to ask decides how long the workload has.
    pub fn ask_to_stop(&self, leave: Leave) {
        self.stop.send_if_modified(|stop| stop.is_none() && stop.replace(leave).is_none());
    }

    pub async fn asked_to_stop(&self) -> Leave {
        let mut stop = self.stop.subscribe();
        let leave = stop.wait_for(Option::is_some).await.expect("the daemon holds the sender");
        leave.expect("waited for")
    }

    /// The request that a configuration came from, without what may differ when it is said again.
    pub fn lasting(request: &ConfigureRequest) -> ConfigureRequest {
        ConfigureRequest { realtime_ns: 0, entropy: Vec::new(), ..request.clone() }
    }
}
