//! One machine: its directory, its record, and the task that attends to it while it runs.
//!
//! ```text
//!  Down ──start, restore──▶ Up ──the monitor's process ends: stop, power off, crash──▶ Down
//!                           Up ──pause──▶ Paused ──resume──▶ Up
//! ```
//!
//! The attendant alone moves a machine from up to down, so that whoever asked for the end, all that follows it happens once.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plfm_api::channel::{Opener, Secret};
use plfm_core::ids::{BootId, InstanceId};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use super::cgroup::{Cgroup, Limits};
use super::console::{self, Console};
use super::host::Host;
use super::process::Process;
use super::record::{Record, Run, process_name};
use super::start::{Opened, OpenedVolume, Output, Source, Start};
use super::{door, sockets, start, stats};
use crate::points::Point;
use crate::{Machine, MachineSpec, RuntimeError, Stats, Tap};

mod pictures;

use pictures::PAUSED;

pub const DISK: &str = "rw.ext4";
/// A killed process ends when its last system call does; a disk that hangs can hold it.
const END_WAIT: Duration = Duration::from_secs(10);
/// The console of a process that has ended holds a socket buffer at most.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(1);

pub struct Slot {
    id: InstanceId,
    dir: PathBuf,
    /// Operations on one machine take turns.
    turn: Mutex<Owned>,
    life: watch::Sender<Life>,
}

struct Owned {
    record: Record,
    attended: Option<Attended>,
}

/// Of a machine that runs, or ran last.
struct Attended {
    process: Arc<Process>,
    openers: watch::Receiver<Option<Opener>>,
    _attendant: AbortOnDropHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Life {
    boot: Option<BootId>,
    alive: bool,
}

impl Slot {
    /// A machine as its directory has it, taken for down.
    pub fn new(dir: PathBuf, record: Record) -> Self {
        let boot = record.run.as_ref().map(|run| run.boot);
        let (life, _) = watch::channel(Life { boot, alive: false });
        Self { id: record.spec.id, dir, turn: Mutex::new(Owned { record, attended: None }), life }
    }

    /// One that still runs goes on, with this process as its owner.
    pub async fn adopt(host: &Host, dir: PathBuf, record: Record) -> Self {
        let slot = Self::new(dir, record);
        if let Err(error) = slot.sweep() {
            tracing::warn!(instance = %slot.id, %error, "what an earlier run left stays");
        }
        slot.take_over(host).await;
        slot
    }

    /// What is asked of it must be what it is.
    pub async fn is(&self, spec: &MachineSpec) -> bool {
        self.turn.lock().await.record.spec == *spec
    }

    pub async fn uid(&self) -> Option<u32> {
        self.turn.lock().await.record.uid
    }

    pub fn look(&self) -> Machine {
        let Life { boot, alive } = *self.life.borrow();
        let console_tail = if boot.is_some() { console::tail(&self.dir) } else { String::new() };
        Machine { id: self.id, boot, alive, paused: self.dir.join(PAUSED).exists(), console_tail }
    }

    /// None while it does not run.
    pub fn stats(&self) -> io::Result<Option<Stats>> {
        let Some(run) = self.life.borrow().alive.then(|| Record::load(&self.dir)).transpose()?.and_then(|it| it.run)
        else {
            return Ok(None);
        };
        run.process.map(|process| stats::of(process.pid, &self.dir.join(DISK))).transpose()
    }

    /// From the kernel. What it was when it was paused is lost.
    pub async fn start(&self, host: &Host, boot: BootId, net: Option<Tap>) -> Result<(), RuntimeError> {
        let mut owned = self.turn.lock().await;
        self.forget_pause()?;
        self.begin(&mut owned, host, boot, net, None).await
    }

    async fn begin(
        &self,
        owned: &mut Owned,
        host: &Host,
        boot: BootId,
        net: Option<Tap>,
        picture: Option<&Path>,
    ) -> Result<(), RuntimeError> {
        match *self.life.borrow() {
            Life { boot: Some(running), alive: true } if running == boot => return Ok(()),
            Life { boot: Some(running), alive: true } => {
                return Err(RuntimeError::AlreadyRuns { id: self.id, boot: running });
            }
            _ => {}
        }
        let fail = |source| RuntimeError::Start { id: self.id, source };
        let (source, secret) = match picture {
            None => Secret::random().map(|secret| (Source::Kernel(secret.clone()), secret)).map_err(fail)?,
            Some(dir) => self.saved(host, &owned.record.spec, net.is_some(), dir)?,
        };
        let (from_saved, card) = (picture.is_some(), net.is_some());
        owned.record.run = Some(Run { boot, process: None, former: None, from_saved, card, secret: secret.clone() });
        owned.record.save(&self.dir).map_err(fail)?;
        Point::StartNoted.pass();
        let start = self.prepare(host, &owned.record, net, boot, source)?;
        let console = Console::create(&self.dir).map_err(fail)?;
        let started = match start.run(host, &self.dir, |process| self.note(&mut owned.record, process)).await {
            Ok(started) => started,
            Err(error) => {
                self.life.send_replace(Life { boot: Some(boot), alive: false });
                remove_cgroup(self.id).await;
                return Err(fail(error));
            }
        };
        Point::Runs.pass();
        let process = Arc::new(started.process);
        let console = Ok((console, started.console));
        let run = owned.record.run.as_ref().expect("it was written before the process started");
        let attended = self.attend(host, run, process, console, Some(started.words)).await;
        owned.attended = Some(attended.map_err(fail)?);
        Ok(())
    }

    /// Nothing of it is kept but its disk.
    pub async fn stop(&self) -> Result<(), RuntimeError> {
        let mut owned = self.turn.lock().await;
        self.halt(&mut owned).await?;
        self.forget_pause()
    }

    async fn halt(&self, owned: &mut Owned) -> Result<(), RuntimeError> {
        let Some(attended) = &owned.attended else { return Ok(()) };
        attended.process.kill();
        self.down().await?;
        Point::Ended.pass();
        owned.attended = None;
        Ok(())
    }

    /// It runs on, and nobody here attends to it: whoever takes its directory over does.
    pub async fn leave(&self) -> Result<Record, RuntimeError> {
        let mut owned = self.turn.lock().await;
        if !self.life.borrow().alive || owned.attended.take().is_none() {
            return Err(RuntimeError::NotRunning(self.id));
        }
        Ok(owned.record.clone())
    }

    pub async fn ended(&self) -> Machine {
        let mut life = self.life.subscribe();
        let _ = life.wait_for(|life| !life.alive).await;
        self.look()
    }

    pub async fn connect(&self, port: u32) -> Result<UnixStream, RuntimeError> {
        if !self.life.borrow().alive {
            return Err(RuntimeError::NotRunning(self.id));
        }
        tokio::select! {
            stream = door::connect(&self.dir, port) => {
                stream.map_err(|source| RuntimeError::Connect { id: self.id, port, source })
            }
            _ = self.ended() => Err(RuntimeError::NotRunning(self.id)),
        }
    }

    async fn down(&self) -> Result<(), RuntimeError> {
        let ended = tokio::time::timeout(END_WAIT, self.ended()).await;
        ended.map(drop).map_err(|_| RuntimeError::WillNotEnd(self.id))
    }
}

impl Slot {
    fn prepare(
        &self,
        host: &Host,
        record: &Record,
        net: Option<Tap>,
        boot: BootId,
        source: Source,
    ) -> Result<Start, RuntimeError> {
        let (id, spec) = (self.id, &record.spec);
        let images = spec.images.iter().enumerate().map(|(index, path)| {
            Opened::read_only(path.clone()).map_err(|source| RuntimeError::Image { id, index, source })
        });
        let disk = Opened::writable(self.dir.join(DISK));
        let volumes = spec.volumes.iter().enumerate().map(|(index, volume)| {
            OpenedVolume::alone(volume.clone()).map_err(|source| RuntimeError::Volume { id, index, source })
        });
        let limits = Limits::new(spec.memory + host.vmm.overhead(host.accel), spec.cpu);
        Ok(Start {
            name: process_name(id, boot),
            memory: spec.memory,
            vcpus: spec.vcpus(),
            images: images.collect::<Result<_, _>>()?,
            disk: Some(disk.map_err(|source| RuntimeError::Disk { id, source })?),
            volumes: volumes.collect::<Result<_, _>>()?,
            net,
            source,
            uid: record.uid,
            cgroup: self.cgroup(limits),
        })
    }

    /// A host that lends us no cgroup runs machines all the same.
    fn cgroup(&self, limits: Limits) -> Cgroup {
        Cgroup::create(&self.id.to_string(), limits).unwrap_or_else(|error| {
            tracing::warn!(instance = %self.id, %error, "no limits on what the machine's process takes");
            Cgroup::none()
        })
    }

    fn note(&self, record: &mut Record, process: &Process) -> io::Result<()> {
        let run = record.run.as_mut().expect("it was written before the process started");
        Point::ProcessStarted.pass();
        run.process = Some(process.id());
        record.save(&self.dir)?;
        Point::ProcessNoted.pass();
        Ok(())
    }

    async fn take_over(&self, host: &Host) {
        let owned = &mut *self.turn.lock().await;
        let Some(run) = &owned.record.run else { return };
        let whose = run.former.unwrap_or(self.id);
        let name = process_name(whose, run.boot);
        let found = run.process.map_or_else(|| Process::with_argument(&name), Process::find);
        let Some(process) = found else { return remove_cgroup(whose).await };
        if self.dir.join(PAUSED).exists() {
            // It was about to end, or had not answered yet since it went on: what is on disk counts.
            process.kill();
            process.ended().await;
            return remove_cgroup(whose).await;
        }
        // Somebody may have died while it was halted for a picture.
        let (vmm, dir) = (host.vmm.clone(), self.dir.clone());
        let _ = tokio::task::spawn_blocking(move || vmm.go_on(&dir)).await;
        match self.reattach(host, run, process).await {
            Ok(attended) => owned.attended = Some(attended),
            Err(error) => tracing::error!(instance = %self.id, %error, "ended a machine that could not be taken over"),
        }
    }

    async fn reattach(&self, host: &Host, run: &Run, process: Process) -> io::Result<Attended> {
        let console = Console::open(&self.dir);
        let console = console.and_then(|console| Ok((console, start::output(host.vmm.manner(), &self.dir)?)));
        self.attend(host, run, Arc::new(process), console, None).await
    }

    /// Either the process has an attendant, or it is ended: one that nobody attends to could be started twice.
    async fn attend(
        &self,
        host: &Host,
        run: &Run,
        process: Arc<Process>,
        console: io::Result<(Console, Output)>,
        words: Option<JoinHandle<String>>,
    ) -> io::Result<Attended> {
        match console.and_then(|(console, from)| Ok((console, from, self.door()?))) {
            Ok((console, from, door)) => {
                let drain = AbortOnDropHandle::new(tokio::spawn(console.drain(from)));
                let whose = run.former.unwrap_or(self.id);
                let attendant = Attendant { whose, process: process.clone(), drain, words, life: self.life.clone() };
                self.life.send_replace(Life { boot: Some(run.boot), alive: true });
                let (announce, openers) = watch::channel(None);
                let work = door::serve(host.vmm.clone(), self.dir.clone(), door, run.secret.clone(), announce);
                let attendant = attendant.run(work);
                Ok(Attended { process, openers, _attendant: AbortOnDropHandle::new(tokio::spawn(attendant)) })
            }
            Err(error) => {
                process.kill();
                process.ended().await;
                Err(error)
            }
        }
    }

    fn door(&self) -> io::Result<UnixListener> {
        let listener = sockets::bind(&self.dir, sockets::CONNECT)?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    }
}

struct Attendant {
    whose: InstanceId,
    process: Arc<Process>,
    drain: AbortOnDropHandle<io::Result<()>>,
    words: Option<JoinHandle<String>>,
    life: watch::Sender<Life>,
}

impl Attendant {
    async fn run(self, door: impl Future<Output = ()>) {
        tokio::select! {
            () = self.process.ended() => {}
            () = door => {}
        }
        let _ = tokio::time::timeout(LAST_WORDS_WAIT, self.drain).await;
        if let Some(words) = self.words {
            let words = words.await.unwrap_or_default();
            tracing::debug!(instance = %self.whose, words = words.trim(), "the monitor has ended");
        }
        remove_cgroup(self.whose).await;
        self.life.send_modify(|life| life.alive = false);
    }
}

async fn remove_cgroup(id: InstanceId) {
    if let Err(error) = Cgroup::named(&id.to_string()).remove().await {
        tracing::warn!(instance = %id, %error, "the machine's cgroup stays");
    }
}
