//! What a machine is, written down and gone on from: snapshot and restore, pause and resume.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plfm_api::channel::Secret;
use plfm_core::ids::BootId;
use plfm_core::units::Mebibytes;

use super::{DISK, Owned, Slot};
use crate::microvm::accel::patience;
use crate::microvm::copy;
use crate::microvm::host::Host;
use crate::microvm::picture::{self, Picture};
use crate::microvm::start::Source;
use crate::microvm::vmm::{self, Running, Vmm};
use crate::microvm::{private_dir, remove_dir};
use crate::points::Point;
use crate::{MachineSpec, RuntimeError, Tap};

/// Its picture, while it is paused.
pub(super) const PAUSED: &str = "paused";
/// One that is no longer.
const FORGOTTEN: &str = "paused.gone";
/// A guest that is halted answers nothing; one that goes on says hello within a round trip.
const QUIET_WAIT: Duration = Duration::from_secs(5);

impl Slot {
    /// From a picture, as another machine was or this one.
    pub async fn restore(
        &self,
        host: &Host,
        boot: BootId,
        net: Option<Tap>,
        picture: &Path,
    ) -> Result<(), RuntimeError> {
        let mut owned = self.turn.lock().await;
        self.forget_pause()?;
        self.begin(&mut owned, host, boot, net, Some(picture)).await?;
        self.answers(&mut owned, host).await
    }

    /// Goes on where it was paused; the picture is kept until the guest has answered.
    pub async fn resume(&self, host: &Host, net: Option<Tap>) -> Result<(), RuntimeError> {
        let mut owned = self.turn.lock().await;
        let paused = self.dir.join(PAUSED);
        if self.life.borrow().alive && !paused.exists() {
            return Ok(());
        }
        let Some(boot) = self.life.borrow().boot.filter(|_| paused.exists()) else {
            return Err(RuntimeError::NotPaused(self.id));
        };
        self.begin(&mut owned, host, boot, net, Some(&paused)).await?;
        self.answers(&mut owned, host).await?;
        self.forget_pause()
    }

    /// Ends the machine when all of it is on disk. It must be quiet: what its workload does from here on would be lost.
    pub async fn pause(&self, host: &Arc<Host>) -> Result<(), RuntimeError> {
        let mut owned = self.turn.lock().await;
        let paused = self.dir.join(PAUSED);
        if !self.life.borrow().alive && paused.exists() {
            return Ok(());
        }
        self.save(&owned, host, &paused, Keep::Paused).await?;
        self.halt(&mut owned).await?;
        // What it was mapped from until now: the picture has it all, and takes its place when it goes on.
        let _ = fs::remove_file(self.dir.join(vmm::MEMORY));
        Ok(())
    }

    /// Writes a picture of the running machine, which goes on.
    pub async fn snapshot(&self, host: &Arc<Host>, to: &Path, durable: bool) -> Result<(), RuntimeError> {
        let owned = self.turn.lock().await;
        self.save(&owned, host, to, Keep::Snapshot { durable }).await
    }

    /// The channel falls silent, the guest is halted, what it is is written down, and it goes on.
    async fn save(&self, owned: &Owned, host: &Arc<Host>, to: &Path, keep: Keep) -> Result<(), RuntimeError> {
        if !owned.record.spec.volumes.is_empty() {
            // What is on a volume goes on, and would no longer be what the memory takes it for.
            return Err(RuntimeError::Unsupported("keep what a machine with volumes is"));
        }
        let fail = |source| RuntimeError::Snapshot { id: self.id, source };
        let running = owned.attended.as_ref().zip(owned.record.run.as_ref()).filter(|_| self.life.borrow().alive);
        let (attended, run) = running.ok_or(RuntimeError::NotRunning(self.id))?;
        let opener = attended.openers.borrow().clone().ok_or_else(|| fail(io::ErrorKind::NotConnected.into()))?;
        let wait = patience(host.accel.isolation(), QUIET_WAIT);
        let quiet = tokio::time::timeout(wait, opener.quiesce()).await;
        quiet.map_err(|late| fail(late.into()))?.map_err(|error| fail(io::Error::other(error)))?;
        let picture = Picture::of(host, &owned.record.spec, run.card, run.secret.clone());
        let work = Save {
            vmm: host.vmm.clone(),
            dir: self.dir.clone(),
            pid: attended.process.id().pid,
            memory: owned.record.spec.memory,
            from_saved: run.from_saved,
            picture,
            keep,
            to: to.to_owned(),
        };
        let saved = tokio::task::spawn_blocking(move || work.run()).await;
        opener.attach();
        saved.map_err(io::Error::other).flatten().map_err(fail)
    }

    /// What a picture gives to a start.
    pub(super) fn saved(
        &self,
        host: &Host,
        spec: &MachineSpec,
        card: bool,
        dir: &Path,
    ) -> Result<(Source, Secret), RuntimeError> {
        let fail = |source| RuntimeError::Restore { id: self.id, source };
        let picture = Picture::load(dir).map_err(fail)?;
        if let Some(why) = picture.misfit(host, spec, card) {
            return Err(RuntimeError::Misfit { id: self.id, why });
        }
        let memory = picture::link_memory(dir, &self.dir).map_err(fail)?;
        Point::MemoryLinked.pass();
        Ok((Source::Saved { memory, devices: dir.join(vmm::DEVICES) }, picture.secret))
    }

    /// Until the guest has said its first word; one that does not is ended.
    async fn answers(&self, owned: &mut Owned, host: &Host) -> Result<(), RuntimeError> {
        let wait = patience(host.accel.isolation(), QUIET_WAIT);
        let mut openers = owned.attended.as_ref().ok_or(RuntimeError::NotRunning(self.id))?.openers.clone();
        let linked = async {
            let opener = openers.wait_for(Option::is_some).await.map_err(io::Error::other)?.clone();
            opener.expect("waited for it").linked().await.map_err(io::Error::other)
        };
        let source = match tokio::time::timeout(wait, linked).await {
            Ok(Ok(())) => {
                Point::Answered.pass();
                return Ok(());
            }
            Ok(Err(error)) => error,
            Err(late) => late.into(),
        };
        self.halt(owned).await?;
        Err(RuntimeError::Restore { id: self.id, source })
    }

    pub(super) fn forget_pause(&self) -> Result<(), RuntimeError> {
        let fail = |source| RuntimeError::Io { operation: "forget the pause of", id: self.id, source };
        // In one step: half a picture would be taken for a machine at rest, and the one that runs would be ended for it.
        remove_dir(&self.dir.join(FORGOTTEN)).map_err(fail)?;
        match fs::rename(self.dir.join(PAUSED), self.dir.join(FORGOTTEN)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed.map_err(fail)?,
        }
        // For good: its disk goes on from here, and what it was then does not fit it any more, whatever happens to the host.
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(fail)?;
        Point::PauseForgotten.pass();
        self.sweep().map_err(fail)
    }

    /// What an earlier run has not finished.
    pub(super) fn sweep(&self) -> io::Result<()> {
        [FORGOTTEN, "paused.new"].iter().try_for_each(|name| remove_dir(&self.dir.join(name)))
    }
}

/// What a picture is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// For other machines to go on from, with the disk.
    Snapshot { durable: bool },
    /// For the machine itself, whatever happens to the host. Its disk stays where it is.
    Paused,
}

/// A picture in the making; blocks.
struct Save {
    vmm: Arc<dyn Vmm>,
    dir: PathBuf,
    pid: i32,
    memory: Mebibytes,
    from_saved: bool,
    picture: Picture,
    keep: Keep,
    to: PathBuf,
}

impl Save {
    fn run(self) -> io::Result<()> {
        let fresh = self.to.with_extension("new");
        remove_dir(&fresh)?;
        private_dir(&fresh)?;
        let kept = self.keep(&fresh);
        if kept.is_err() {
            let _ = remove_dir(&fresh);
        }
        kept
    }

    /// Whatever comes of it: a guest that nobody lets go on is lost.
    fn keep(&self, fresh: &Path) -> io::Result<()> {
        let complete = |durable| self.picture.complete(fresh, &self.to, durable);
        let written = self.write(fresh);
        match self.keep {
            Keep::Paused => {
                written.and_then(|()| complete(true)).or_else(|error| self.vmm.go_on(&self.dir).and(Err(error)))
            }
            Keep::Snapshot { durable } => {
                let goes_on = self.vmm.go_on(&self.dir);
                Point::WentOn.pass();
                written.and(goes_on).and_then(|()| complete(durable))
            }
        }
    }

    fn write(&self, fresh: &Path) -> io::Result<()> {
        let base = self.from_saved.then(|| self.dir.join(vmm::MEMORY));
        let (dir, disk) = (self.dir.as_path(), self.dir.join(DISK));
        let running = Running { dir, pid: self.pid, memory: self.memory, base: base.as_deref() };
        self.vmm.save(&running, fresh)?;
        Point::Saved.pass();
        match self.keep {
            Keep::Snapshot { .. } => drop(copy::sparse(&disk, &fresh.join(DISK))?),
            Keep::Paused => File::open(disk)?.sync_all()?,
        }
        Point::DiskKept.pass();
        Ok(())
    }
}
