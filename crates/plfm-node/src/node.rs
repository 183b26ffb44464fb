//! Parse, build, run: a node from its configuration to its end.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use plfm_core::event::Capacity;
use plfm_core::labels::Labels;
use plfm_core::units::{Mebibytes, Timestamp};
use plfm_image::{ImageStore, Limits as ImageLimits, Registries};
use plfm_runtime::microvm::patience;
use plfm_runtime::{Machine, Runtime};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::NodeError;
use crate::capacity;
use crate::executor::{Ended, Executor};
use crate::hands::{Disks, Hands, Park, Unsettled};
use crate::join::{Invitation, Membership, join};
use crate::link::{self, Link, Word};
use crate::logs::Logs;
use crate::memory::Memory;
use crate::mind::{Found, Limits, Local, Observed, Plan};
use crate::net::Net;
use crate::tunnel;

/// Words of the server that wait for the executor; it takes them at once unless the disk is slow.
const WORDS_MAX: usize = 64;

pub struct Config {
    pub claim: Claim,
    /// Where servers and edges reach the tunnel; also what is told to them. Without it, on the address that leads to the server.
    pub tunnel: Option<SocketAddr>,
    pub name: String,
    /// Needed once; afterwards the data directory knows.
    pub invitation: Option<Invitation>,
    pub registries: Registries,
    /// Instead of what the host has.
    pub memory: Option<Mebibytes>,
    /// What its operator says of it.
    pub labels: Labels,
    /// How many machines of a kind are kept ready at most.
    pub parked_max: usize,
}

/// What becomes of the machines when the node stops in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtEnd {
    /// They run on; the next start takes them up again.
    LeaveMachines,
    StopMachines,
}

pub struct Node {
    executor: Executor,
    link: Link,
    listener: TcpListener,
    membership: Membership,
    words: mpsc::Sender<Word>,
    claim: Claim,
}

/// One node on one data directory. Whoever is to touch the machines there takes it first and holds it to the end: a second node must
/// not even look at them.
pub struct Claim {
    data: PathBuf,
    _lock: File,
}

impl Claim {
    pub fn take(data: PathBuf) -> Result<Self, NodeError> {
        std::fs::create_dir_all(&data).map_err(NodeError::file(&data))?;
        let path = data.join("lock");
        let lock = File::create(&path).map_err(NodeError::file(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { data, _lock: lock }),
            Err(_) => Err(NodeError::InUse(data)),
        }
    }
}

impl Node {
    pub async fn build(config: Config, runtime: Arc<dyn Runtime>) -> Result<Self, NodeError> {
        let data = &config.claim.data;
        let known = Membership::load(data)?;
        let server = known.as_ref().map(|known| &known.server).or(config.invitation.as_ref().map(|it| &it.server));
        let address = match (config.tunnel, server) {
            (Some(address), _) => address,
            (None, Some(server)) if known.is_some() => SocketAddr::new(link::towards_at_last(server).await, 0),
            (None, Some(server)) => SocketAddr::new(link::towards(server).await?, 0),
            (None, None) => return Err(NodeError::NotJoined),
        };
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| NodeError::Listen { address: address.to_string(), source })?;
        let tunnel = listener.local_addr().map_err(NodeError::file(data))?.to_string();
        let capacity = capacity::measure(&*runtime, data, tunnel, config.memory).map_err(NodeError::Capacity)?;
        let capacity = Capacity { labels: config.labels, ..capacity };
        let membership = match (known, &config.invitation) {
            (Some(membership), _) => membership,
            (None, Some(invitation)) => join(invitation, &config.name, capacity.clone(), data).await?,
            (None, None) => return Err(NodeError::NotJoined),
        };
        let (memory, remembered) = Memory::open(data)?;
        let observed = observe(&*runtime).await?;
        let runs = observed.iter().filter(|(_, found)| matches!(found, Found::Runs(_)));
        let unsettled = watch::Sender::new(runs.map(|(id, _)| (*id, Unsettled::Found)).collect());
        let limits = limits(&*runtime);
        let local = remembered.unwrap_or_else(|| Local::new(limits.clone())).wake(limits, &observed, now());
        let logs = Logs::open(data.join("logs")).map_err(NodeError::file(data))?;
        let (tell, outcomes) = mpsc::unbounded_channel();
        let (words, inbox) = mpsc::channel(WORDS_MAX);
        let hands = Hands {
            runtime,
            images: Arc::new(ImageStore::open(data.join("images"), ImageLimits::default())?),
            registries: config.registries,
            net: network(),
            logs,
            disks: Disks::open(data.join("volumes")).map_err(NodeError::file(data))?,
            outcomes: tell,
            seeds: Default::default(),
            park: Park::new(config.parked_max),
            attended: Default::default(),
            resting: Default::default(),
            unsettled,
        };
        let executor = Executor {
            local,
            plan: Plan::default(),
            observed,
            memory,
            hands: Arc::new(hands),
            outcomes,
            words: inbox,
            astray: Arc::default(),
            reports: watch::Sender::new(None),
            capacity,
            data: data.clone(),
            is_dismissed: false,
        };
        let link = Link::new(&membership)?;
        Ok(Self { executor, link, listener, membership, words, claim: config.claim })
    }

    pub fn id(&self) -> plfm_core::ids::NodeId {
        self.membership.node
    }

    /// Until `stop` changes, or the cluster has dismissed the node.
    pub async fn run(self, stop: watch::Receiver<bool>, at_end: AtEnd) -> Result<(), NodeError> {
        let hands = self.executor.hands.clone();
        let identity = self.membership.identity();
        let (reports, life) = (self.executor.reports.subscribe(), self.executor.local.life);
        let (followed, astray) = (self.executor.local.followed.into(), self.executor.astray.clone());
        let door = tunnel::serve(self.listener, &identity, hands.clone());
        let ended = tokio::select! {
            ended = self.executor.run(stop, at_end) => match ended {
                Ended::Stopped => Ok(()),
                Ended::Dismissed => {
                    hands.root_out().await;
                    Membership::forget(&self.claim.data)?;
                    return Err(NodeError::Dismissed);
                }
            },
            ended = door => ended,
            () = self.link.clone().follow(self.words, followed, astray) => Ok(()),
            () = self.link.report(reports, life) => Ok(()),
        };
        match at_end {
            AtEnd::StopMachines => hands.stop_all().await,
            AtEnd::LeaveMachines => hands.clear_park().await,
        }
        ended
    }
}

/// Guests that are emulated get more time.
fn limits(runtime: &dyn Runtime) -> Limits {
    let limits = Limits::default();
    let longer = |limit| patience(runtime.class(), limit);
    Limits {
        startup_max: longer(limits.startup_max),
        unready_max: longer(limits.unready_max),
        silence_max: longer(limits.silence_max),
        ..limits
    }
}

async fn observe(runtime: &dyn Runtime) -> Result<Observed, NodeError> {
    let machines = runtime.list().await?;
    let found = |machine: &Machine| match machine.boot {
        Some(boot) if machine.alive => Found::Runs(boot),
        Some(boot) if machine.paused => Found::Rests(boot),
        _ => Found::Ended,
    };
    let snapshots =
        runtime.snapshots().await?.into_iter().map(|it| (plfm_core::ids::InstanceId::new(it.ulid()), Found::Taken));
    Ok(machines.iter().map(|machine| (machine.id, found(machine))).chain(snapshots).collect())
}

fn network() -> Option<Net> {
    match Net::available() {
        Ok(()) => Some(Net::default()),
        Err(missing) => {
            tracing::warn!(missing, "machines get no network card here; they are reached through the relay alone");
            None
        }
    }
}

/// By the clock as it was when the process began, and what has passed since: a clock that is set makes nothing late.
pub fn now() -> Timestamp {
    static BEGAN: LazyLock<(SystemTime, Instant)> = LazyLock::new(|| (SystemTime::now(), Instant::now()));
    let (clock, moment) = *BEGAN;
    let since = clock.duration_since(UNIX_EPOCH).unwrap_or_default() + moment.elapsed();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
