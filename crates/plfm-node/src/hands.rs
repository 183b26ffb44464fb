//! What the mind asks for, done: one function per action, each with one outcome. Nothing is decided here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use plfm_api::documents::Workload;
use plfm_api::guest::Client;
use plfm_api::views::{InstanceStats, NetworkStats};
use plfm_core::event::{Start, StartWay};
use plfm_core::ids::{BootId, InstanceId};
use plfm_core::reason::{Failure, Reason, chain};
use plfm_image::{Image, ImageRef, ImageStore, Platform, Registries};
use plfm_runtime::microvm::{HELLO_WAIT, patience};
use plfm_runtime::{MachineSpec, Runtime, RuntimeError, Stats, Tap};
use tokio::sync::{RwLock, mpsc, watch};
use tokio::task::AbortHandle;

use crate::guest::{self, Seen};
use crate::logs::Logs;
use crate::mind::{Action, Outcome};
use crate::net::Net;

pub use self::disks::Disks;
use self::forks::snapshot_id;
pub use self::park::Park;
pub use self::seeds::Seeds;
use self::seeds::Sowing;

mod disks;
mod forks;
mod park;
mod pauses;
mod seeds;
mod startup;

/// Between the guest's own end of a stop and ours (P-VM-32).
const STOP_MARGIN: Duration = Duration::from_secs(2);
/// For a workload to come to rest, and to go on: each process has to leave the system call that it is in.
const REST_WAIT: Duration = Duration::from_secs(15);
/// Without connections before an instance that leaves is told: edges may hear of it a moment later.
const QUIET: Duration = Duration::from_secs(1);
/// What a workload gets when the whole node stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// Images that no machine uses stay for the next one as long as all of them take no more than this (P-IMG-5).
const IMAGES_BYTES_MAX: u64 = 20 << 30;
/// A watch on the guest that broke is not taken up again at once.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub struct Hands {
    pub runtime: Arc<dyn Runtime>,
    pub images: Arc<ImageStore>,
    pub registries: Registries,
    /// None where the node may not make networks.
    pub net: Option<Net>,
    pub logs: Logs,
    pub outcomes: mpsc::UnboundedSender<(InstanceId, Outcome)>,
    pub disks: Disks,
    /// What sandboxes begin with.
    pub seeds: Seeds,
    /// And become.
    pub park: Park,
    /// The machines that run, as far as this run of the node speaks with them.
    pub attended: Mutex<BTreeMap<InstanceId, Attended>>,
    /// Held while a machine is at rest: one that does not run cannot end in order.
    pub resting: RwLock<()>,
    /// Machines that are not yet, or not yet again, ready to be spoken to.
    pub unsettled: watch::Sender<BTreeMap<InstanceId, Unsettled>>,
}

/// Why nobody but the node itself speaks to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsettled {
    /// A sandbox in the making: what runs in it may be another's, or be kept for others.
    Made,
    /// Found when the node started: it may have been brought to rest. What it serves by itself is served all the same.
    Found,
}

/// A machine whose workload runs.
struct Begun {
    boot: BootId,
    start: Start,
    client: Client,
}

/// What goes on in the background for a machine.
pub struct Attended {
    /// Waits for its end.
    watch: AbortHandle,
    /// Copies its log.
    follow: AbortHandle,
}

impl Attended {
    fn end(&self) {
        self.watch.abort();
        self.follow.abort();
    }
}

impl Hands {
    /// Does it and tells what came of it.
    pub async fn carry_out(self: Arc<Self>, action: Action, workload: Option<Arc<Workload>>) {
        let id = action.instance();
        let done = match (&action, &workload) {
            (Action::Prepare(_), Some(workload)) => self.prepare(id, workload).await,
            (Action::Boot(_), Some(workload)) => self.start(id, workload).await,
            (Action::Probe(_), Some(workload)) => Ok(self.probe(id, workload).await),
            (Action::Adopt(_, boot), _) => self.adopt(id, *boot).await,
            (Action::Pause(_, boot), _) => self.pause(id, *boot).await,
            (Action::Resume(_, boot), Some(workload)) => {
                self.make_way().await;
                self.resume(id, *boot, workload).await
            }
            (Action::Take { of, boot, .. }, Some(workload)) => self.take(id, *of, *boot, workload).await,
            (Action::Stop { grace, .. }, _) => self.stop(id, *grace, QUIET).await,
            (Action::Destroy(_), _) => self.destroy(id).await,
            (Action::Forget(_), _) => return self.forget(id).await,
            (_, None) => unreachable!("the mind starts only what is planned"),
        };
        if let Err(failure) = &done {
            tracing::warn!(instance = %id, ?action, %failure, "could not be done");
        }
        self.tell(id, done.unwrap_or_else(Outcome::Failed));
    }

    /// Its log stays for a while; its image, if nobody else wants it, until the room is needed.
    async fn forget(&self, id: InstanceId) {
        self.logs.close(id);
        self.attended.lock().expect("no panic while it is held").remove(&id);
        self.settle(id);
        let machines = self.runtime.list().await.unwrap_or_default();
        let live = machines.iter().map(|machine| machine.id).collect();
        let (logs, images) = (self.logs.clone(), self.images.clone());
        let collected = tokio::task::spawn_blocking(move || {
            logs.prune(&live);
            images.collect(IMAGES_BYTES_MAX)
        });
        told(collected.await);
    }

    /// Where the disk is nearly full: nothing is kept for a machine that may come.
    pub async fn make_room(&self) {
        self.root_out().await;
        let images = self.images.clone();
        told(tokio::task::spawn_blocking(move || images.collect(0)).await);
    }

    fn tell(&self, id: InstanceId, outcome: Outcome) {
        // Nobody listens only when the node is going down.
        let _ = self.outcomes.send((id, outcome));
    }

    fn settle(&self, id: InstanceId) {
        self.unsettled.send_if_modified(|them| them.remove(&id).is_some());
    }

    async fn prepare(&self, id: InstanceId, workload: &Workload) -> Result<Outcome, Failure> {
        if workload.is_sandbox() {
            self.unsettled.send_modify(|them| _ = them.insert(id, Unsettled::Made));
        }
        let mut clock = Instant::now();
        let image = self.image(workload).await?;
        self.images.acquire(image.digest, id).map_err(|error| error.failure())?;
        // A boot begins on a fresh disk (P-VM-13).
        self.runtime.destroy(id).await.map_err(|error| failure(&error))?;
        // What goes on from somewhere has its disk from there.
        if workload.from().is_none() && self.seed(workload).is_none() {
            let spec = self.spec(id, workload, &image).await?;
            self.runtime.create(&spec).await.map_err(|error| failure(&error))?;
        }
        Ok(Outcome::Prepared { took_ms: lap(&mut clock) })
    }

    async fn image(&self, workload: &Workload) -> Result<Image, Failure> {
        let reference = workload.image.reference.parse::<ImageRef>().map_err(|error| error.failure())?;
        let pinned = reference.pinned(workload.image.digest);
        let ensured = self.images.ensure(&pinned, &Platform::host(), &self.registries, &|_| {}).await;
        ensured.map_err(|error| error.failure())
    }

    async fn start(self: &Arc<Self>, id: InstanceId, workload: &Workload) -> Result<Outcome, Failure> {
        self.make_way().await;
        let started = self.boot(id, workload).await?;
        self.expect_more(workload);
        Ok(started)
    }

    async fn boot(self: &Arc<Self>, id: InstanceId, workload: &Workload) -> Result<Outcome, Failure> {
        if let Some(from) = workload.from() {
            return self.go_on(id, from, workload).await;
        }
        let image = self.image(workload).await?;
        if let Some(started) = self.moves_in(id, workload, &image).await? {
            return Ok(started);
        }
        if let Some(started) = self.grow(id, workload, &image).await? {
            return Ok(started);
        }
        let sowing = self.sowing(workload).await;
        let mut started = self.begin(id, workload, &image, sowing.as_ref().map(Sowing::nobody)).await?;
        let mut clock = Instant::now();
        self.open_up(id, workload).await?;
        if let Some(sowing) = sowing
            && let Err(failure) = self.sow(id, started.boot, workload, &image, sowing).await
        {
            tracing::warn!(instance = %id, %failure, "it is booted again, as itself: sandboxes of this kind have no seed");
            self.runtime.destroy(id).await.map_err(|error| self::failure(&error))?;
            started = self.begin(id, workload, &image, None).await?;
            clock = Instant::now();
            self.open_up(id, workload).await?;
        }
        started.start.identity_ms += lap(&mut clock);
        let Begun { boot, start, client } = started;
        self.attend(id, boot, client);
        Ok(Outcome::Started { boot, start })
    }

    /// From nothing until its workload runs; as nobody in particular, or as itself.
    async fn begin(
        &self,
        id: InstanceId,
        workload: &Workload,
        image: &Image,
        nobody: Option<InstanceId>,
    ) -> Result<Begun, Failure> {
        let spec = self.spec(id, workload, image).await?;
        self.runtime.create(&spec).await.map_err(|error| failure(&error))?;
        let mut clock = Instant::now();
        let tap = self.tap(id, workload).await?;
        let network_ms = lap(&mut clock);
        let (boot, card) = (fresh_boot(), tap.is_some());
        self.runtime.start(id, boot, tap).await.map_err(|error| failure(&error))?;
        let configuration = match nobody {
            Some(nobody) => guest::configuration(nobody, fresh_boot(), &seeds::nobodys(workload), image, card)?,
            None => guest::configuration(id, boot, workload, image, card)?,
        };
        let client = guest::client(self.runtime.clone(), id);
        let wait = patience(self.runtime.class(), HELLO_WAIT);
        let hello = self.alive(id, async {
            let hello = tokio::time::timeout(wait, guest::hello(&client)).await;
            hello.map_err(|_| {
                Failure::new(Reason::ConfigHandshakeFailed, format!("the guest said nothing for {wait:?}"))
            })??;
            let machine_ms = lap(&mut clock);
            let configured = within(wait, "took no configuration", client.configure(configuration)).await?;
            configured.map_err(|error| guest::refused(&error))?;
            Ok(machine_ms)
        });
        let machine_ms = hello.await?;
        let prestart: u32 = workload.prestart.iter().map(|step| step.timeout_seconds).sum();
        let wait = wait + Duration::from_secs(prestart.into());
        within(wait, "did not start its workload", self.running(id, &client)).await??;
        let start = Start { way: StartWay::Boot, prepare_ms: 0, network_ms, machine_ms, identity_ms: lap(&mut clock) };
        Ok(Begun { boot, start, client })
    }

    async fn tap(&self, id: InstanceId, workload: &Workload) -> Result<Option<Tap>, Failure> {
        match &self.net {
            Some(net) => Ok(Some(net.ensure(id, workload.address).await.map_err(|error| network(&error))?)),
            None => Ok(None),
        }
    }

    /// A machine that ends is not waited for.
    async fn alive<T>(&self, id: InstanceId, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! {
            done = work => done,
            ended = self.runtime.ended(id) => {
                let why = ended.map(|machine| last_words(&machine.console_tail)).unwrap_or_default();
                Err(Failure::new(Reason::ConfigHandshakeFailed, format!("the machine ended while booting{why}")))
            }
        }
    }

    /// Until the workload has been started, prestart commands included; those have limits of their own.
    async fn running(&self, id: InstanceId, client: &Client) -> Result<(), Failure> {
        self.alive(id, async {
            let mut watch = client.watch().await.map_err(|error| guest::refused(&error))?;
            loop {
                match watch.next().await.map_err(|error| guest::refused(&error))?.map(guest::read) {
                    Some(Seen::Running) => return Ok(()),
                    Some(Seen::Starting) => {}
                    Some(Seen::Ended { failure, .. }) => return Err(failure),
                    None => return Err(Failure::new(Reason::ConfigHandshakeFailed, "the guest ended its report")),
                }
            }
        })
        .await
    }

    async fn adopt(self: &Arc<Self>, id: InstanceId, boot: BootId) -> Result<Outcome, Failure> {
        let client = guest::client(self.runtime.clone(), id);
        let wait = patience(self.runtime.class(), HELLO_WAIT);
        let hello = tokio::time::timeout(wait, guest::hello(&client)).await;
        let hello = hello.map_err(|_| Failure::new(Reason::ConfigHandshakeFailed, "the guest answers no more"))??;
        if hello.boot_id != boot.to_string() {
            return Err(Failure::new(Reason::ConfigHandshakeFailed, "another guest answers"));
        }
        // The node may have ended in the middle of a pause.
        self.wake(&client).await?;
        self.attend(id, boot, client);
        Ok(Outcome::Adopted { boot })
    }

    /// Follows a running machine in the background: its output into the log, its end to the mind.
    fn attend(self: &Arc<Self>, id: InstanceId, boot: BootId, client: Client) {
        let follow = tokio::spawn(self.logs.clone().follow(id, boot, client.clone())).abort_handle();
        let hands = self.clone();
        let watch = tokio::spawn(async move {
            let (exit_code, failure) = hands.end_of(id, &client).await;
            hands.tell(id, Outcome::Ended { boot, exit_code, failure });
        });
        let attended = Attended { watch: watch.abort_handle(), follow };
        let former = self.attended.lock().expect("no panic while it is held").insert(id, attended);
        former.iter().for_each(Attended::end);
        self.settle(id);
    }

    async fn end_of(&self, id: InstanceId, client: &Client) -> (Option<i32>, Failure) {
        tokio::select! {
            biased;
            told = told_end(client) => told,
            ended = self.runtime.ended(id) => {
                let why = ended.map(|machine| last_words(&machine.console_tail)).unwrap_or_default();
                (None, Failure::new(Reason::WorkloadExited, format!("the machine ended{why}")))
            }
        }
    }

    async fn probe(&self, id: InstanceId, workload: &Workload) -> Outcome {
        let client = guest::client(self.runtime.clone(), id);
        let wait = patience(self.runtime.class(), guest::probe_wait(workload) + STOP_MARGIN);
        let probed = tokio::time::timeout(wait, guest::probe(&client, workload)).await;
        let (healthy, detail) = probed.unwrap_or_else(|_| (false, "the guest does not answer".to_owned()));
        Outcome::Probed { healthy, detail }
    }

    async fn stop(&self, id: InstanceId, grace: Duration, quiet: Duration) -> Result<Outcome, Failure> {
        if grace > Duration::ZERO {
            let margin = patience(self.runtime.class(), STOP_MARGIN);
            let client = guest::client(self.runtime.clone(), id);
            let orderly = async {
                // A guest that does not answer is ended all the same.
                let _ = client.shutdown(grace, quiet).await;
                let _ = self.runtime.ended(id).await;
            };
            let _ = tokio::time::timeout(grace + margin, orderly).await;
        }
        self.runtime.stop(id).await.map_err(|error| failure(&error))?;
        Ok(Outcome::Stopped { exit_code: None })
    }

    pub async fn stats(&self, id: InstanceId) -> Result<InstanceStats, RuntimeError> {
        let taken = self.runtime.stats(id).await?;
        // A counter that cannot be read is no reason to say nothing.
        let passed = match &self.net {
            Some(net) => net.passed(id).await.ok().flatten(),
            None => None,
        };
        let network = passed.map(|(received_bytes, sent_bytes)| NetworkStats { received_bytes, sent_bytes });
        let Stats { cpu_ms, memory_bytes, disk_bytes, read_bytes, written_bytes } = taken;
        Ok(InstanceStats { instance: id, cpu_ms, memory_bytes, disk_bytes, read_bytes, written_bytes, network })
    }

    /// Every machine, at once, with the time to end in order.
    pub async fn stop_all(&self) {
        self.clear_park().await;
        let wait = patience(self.runtime.class(), REST_WAIT);
        let _awake = tokio::time::timeout(wait, self.resting.write()).await;
        let machines = self.runtime.list().await.unwrap_or_else(|error| {
            tracing::error!(error = chain(&error), "cannot tell which machines run; they run on");
            Vec::new()
        });
        let networks = match &self.net {
            Some(net) => net.list().await.unwrap_or_default(),
            None => Vec::new(),
        };
        // One that has ended has its network until it is made again or goes.
        let there = machines.into_iter().filter(|machine| machine.alive || networks.contains(&machine.id));
        let stops = there.map(|machine| async move {
            let away = if machine.alive { self.put_away(machine.id).await } else { self.cut_off(machine.id).await };
            if let Err(failure) = away {
                tracing::warn!(instance = %machine.id, %failure, "a machine could not be stopped");
            }
        });
        futures::future::join_all(stops).await;
        self.root_out().await;
    }

    /// Its disk stays; its network is made again at the next boot.
    async fn put_away(&self, id: InstanceId) -> Result<(), Failure> {
        self.stop(id, SHUTDOWN_GRACE, Duration::ZERO).await?;
        self.cut_off(id).await
    }

    async fn cut_off(&self, id: InstanceId) -> Result<(), Failure> {
        match &self.net {
            Some(net) => net.remove(id).await.map_err(|error| network(&error)),
            None => Ok(()),
        }
    }

    async fn destroy(&self, id: InstanceId) -> Result<Outcome, Failure> {
        self.runtime.destroy(id).await.map_err(|error| failure(&error))?;
        self.runtime.forget(snapshot_id(id)).await.map_err(|error| failure(&error))?;
        self.cut_off(id).await?;
        self.images.release(id).map_err(|error| error.failure())?;
        Ok(Outcome::Destroyed)
    }
}

fn told<T>(collected: Result<Result<T, plfm_image::ImageError>, tokio::task::JoinError>) {
    if let Ok(Err(error)) = collected {
        tracing::warn!(error = chain(&error), "cannot remove images that nobody uses");
    }
}

/// A guest that hangs must not hold up what else is to be done with it.
async fn within<T>(wait: Duration, what: &str, work: impl Future<Output = T>) -> Result<T, Failure> {
    within_or(Reason::ConfigHandshakeFailed, wait, what, work).await
}

async fn within_or<T>(reason: Reason, wait: Duration, what: &str, work: impl Future<Output = T>) -> Result<T, Failure> {
    let late = |_| Failure::new(reason, format!("the guest {what} for {wait:?}"));
    tokio::time::timeout(wait, work).await.map_err(late)
}

/// What the guest itself says of its end; a stream that is merely cut says nothing.
async fn told_end(client: &Client) -> (Option<i32>, Failure) {
    loop {
        if let Ok(mut watch) = client.watch().await {
            while let Ok(Some(phase)) = watch.next().await {
                if let Seen::Ended { exit_code, failure } = guest::read(phase) {
                    return (exit_code, failure);
                }
            }
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// Of a machine without volumes.
fn spec(id: InstanceId, workload: &Workload, image: &Image) -> MachineSpec {
    MachineSpec {
        id,
        memory: workload.resources.memory,
        cpu: workload.resources.cpu,
        disk: workload.resources.disk,
        images: image.devices.clone(),
        volumes: Vec::new(),
    }
}

/// Milliseconds since the clock was looked at last.
fn lap(clock: &mut Instant) -> u64 {
    let now = Instant::now();
    u64::try_from(now.saturating_duration_since(std::mem::replace(clock, now)).as_millis()).unwrap_or(u64::MAX)
}

fn fresh_boot() -> BootId {
    let bytes = guest::entropy();
    let entropy = u128::from_ne_bytes(bytes[..16].try_into().expect("sixteen of sixty-four"));
    plfm_core::facts::Facts { now: crate::node::now(), entropy, ..Default::default() }.ids().fresh()
}

/// What a console says of an end; the rest of its lines is the kernel's small talk.
const LAST_WORDS: [&str; 3] = ["Kernel panic", "Out of memory", "plfm-init:"];

/// A kernel that finds no room for itself.
const TOO_SMALL: &str = "deadlocked on memory";

fn last_words(console: &str) -> String {
    let tells = |line: &&str| LAST_WORDS.iter().any(|word| line.contains(word));
    let line = console.lines().rfind(tells);
    let cure = if console.contains(TOO_SMALL) { "; raise `resources.memory`" } else { "" };
    line.map(|line| format!(": {}{cure}", line.trim()))
        .unwrap_or_else(|| "; `plfm logs --console` shows its last lines".to_owned())
}

fn failure(error: &RuntimeError) -> Failure {
    Failure::new(error.reason(), chain(error))
}

fn network(error: &crate::net::NetError) -> Failure {
    Failure::new(error.reason(), chain(error))
}
