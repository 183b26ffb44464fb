//! The loop: something happens, the mind looks, the hands act, the memory is saved, the report goes out.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plfm_api::documents::{IMAGES_MAX, Report, ReportNumber, WORKLOAD_VERSION, Workload};
use plfm_core::event::{Capacity, Degradation};
use plfm_core::ids::{InstanceId, VolumeId};
use plfm_core::reason::{Failure, Reason};
use plfm_core::units::Timestamp;
use tokio::sync::{Notify, mpsc, watch};

use crate::capacity;
use crate::hands::Hands;
use crate::link::Word;
use crate::memory::Memory;
use crate::mind::{Action, Hearing, Local, Observed, Outcome, Plan, next_step, step, volumes};
use crate::node::{AtEnd, now};

/// As often as a node reports when nothing happens.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// A full disk is rarely free again within a moment.
const SAVE_AGAIN: Duration = Duration::from_secs(5);

pub struct Executor {
    pub local: Local,
    pub plan: Plan,
    pub observed: Observed,
    pub memory: Memory,
    pub hands: Arc<Hands>,
    pub outcomes: mpsc::UnboundedReceiver<(InstanceId, Outcome)>,
    pub words: mpsc::Receiver<Word>,
    /// Told when the plan stream has to begin anew.
    pub astray: Arc<Notify>,
    pub reports: watch::Sender<Option<Report>>,
    pub capacity: Capacity,
    /// Whose disk is watched.
    pub data: PathBuf,
    pub is_dismissed: bool,
}

/// Why the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Stopped,
    /// The cluster knows the node no more, and nothing is left here.
    Dismissed,
}

impl Executor {
    /// Until `stop` changes, or the node is dismissed and nothing is left. Machines are left as they are: a later start takes them up
    /// again, or starts them anew if they are to end with the node.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>, at_end: AtEnd) -> Ended {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.act();
            self.local.news().iter().for_each(|(id, failure)| self.hands.logs.node(*id, &failure.to_string()));
            let again_at = self.save();
            self.report();
            if self.is_dismissed && self.local.is_empty() && self.observed.is_empty() {
                return Ended::Dismissed;
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                Some(word) = self.words.recv() => self.hear(word),
                Some((id, outcome)) = self.outcomes.recv() => self.absorb(id, outcome),
                () = until(again_at.into_iter().chain(next_step(&self.local, now())).min()) => {}
                _ = looks.tick() => self.look(),
            }
        }
        if at_end == AtEnd::StopMachines {
            self.local.put_away(now());
            self.save();
        }
        Ended::Stopped
    }

    /// Says when to try again if it cannot. Until then the work goes on: a start that remembers less takes machines down that it
    /// could have kept, and does no other harm.
    fn save(&mut self) -> Option<Timestamp> {
        let error = self.memory.save(&self.local).err()?;
        tracing::error!(error = plfm_core::reason::chain(&error), "the node cannot write down what it does");
        Some(now() + SAVE_AGAIN)
    }

    /// At what changes without anybody's doing here.
    fn look(&mut self) {
        let degraded = match capacity::degraded(&self.data, self.capacity.isolation, &self.capacity.degraded) {
            Ok(degraded) => degraded,
            Err(error) => return tracing::warn!(%error, "cannot see how full the disk is"),
        };
        if degraded.contains(&Degradation::DiskPressure) {
            if !self.capacity.degraded.contains(&Degradation::DiskPressure) {
                tracing::warn!(
                    "the disk is nearly full: images without a machine are removed, and no new work is taken"
                );
            }
            let hands = self.hands.clone();
            drop(tokio::spawn(async move { hands.make_room().await }));
        } else {
            self.hands.plant_again();
        }
        if degraded.contains(&Degradation::KvmLoss) && !self.capacity.degraded.contains(&Degradation::KvmLoss) {
            tracing::warn!("/dev/kvm does not open any more: no new work is taken");
        }
        self.capacity.degraded = degraded;
        let hands = self.hands.clone();
        drop(tokio::spawn(async move { hands.make_way().await }));
    }

    fn act(&mut self) {
        self.hands.disks.may_make(volumes::to_make(&self.local, &self.plan));
        let to_remove = volumes::to_remove(&self.local, &self.plan, &self.volumes().unwrap_or_default());
        self.hands.remove_volumes(&to_remove);
        let at = now();
        self.hands.park.set_room(self.capacity.memory - self.local.promised(&self.plan).min(self.capacity.memory));
        for action in step(&self.local, &self.plan, &self.observed, at) {
            let id = action.instance();
            self.local.begin(&action, &self.plan, at);
            self.observed.retain(|known, _| *known != id || matches!(action, Action::Adopt(..)));
            match self.workload(id) {
                Some(workload) if workload.version > WORKLOAD_VERSION => self.absorb(id, unsupported()),
                // Only what was never planned here has no workload, and all that is done to it is to remove it.
                workload => drop(tokio::spawn(self.hands.clone().carry_out(action, workload))),
            }
        }
    }

    /// Those that are here; none if that cannot be seen.
    fn volumes(&self) -> Option<BTreeSet<VolumeId>> {
        self.hands.disks.volumes.held().inspect_err(|error| tracing::warn!(%error, "cannot see the volumes")).ok()
    }

    /// As planned, with the values of its variables; else as remembered.
    fn workload(&self, id: InstanceId) -> Option<Arc<Workload>> {
        let planned = self.plan.assignments.get(&id).map(|assignment| &assignment.workload);
        planned.or_else(|| self.local.slots.get(&id).map(|slot| &slot.workload)).cloned().map(Arc::new)
    }

    fn hear(&mut self, word: Word) {
        match word {
            Word::Plan(message) => {
                if self.local.hear(&mut self.plan, message) == Hearing::Astray {
                    self.astray.notify_one();
                }
            }
            Word::Dismissed => {
                self.is_dismissed = true;
                self.local.dismiss(&mut self.plan);
            }
        }
    }

    fn absorb(&mut self, id: InstanceId, outcome: Outcome) {
        tracing::debug!(instance = %id, ?outcome, "outcome");
        self.local.absorb(id, outcome, now());
    }

    fn report(&mut self) {
        let instances = self.local.reports();
        let (applied, volumes) = (self.plan.position, self.volumes());
        let same = |last: &Report| {
            let same_log = last.applied.map(|at| at.log) == applied.map(|at| at.log);
            last.instances == instances && last.capacity == self.capacity && last.volumes == volumes && same_log
        };
        if self.reports.borrow().as_ref().is_some_and(same) {
            return;
        }
        // The link numbers reports as it sends them.
        let (number, capacity) = (ReportNumber::default(), self.capacity.clone());
        // A hint for placement: without it an image is fetched once more.
        let images = self.hands.images.ready().unwrap_or_default().into_iter().take(IMAGES_MAX).collect();
        self.reports.send_replace(Some(Report { number, applied, capacity, images, instances, volumes }));
    }
}

fn unsupported() -> Outcome {
    Outcome::Failed(Failure::new(Reason::SpecUnsupported, "the plan is for a later version of plfm"))
}

async fn until(at: Option<Timestamp>) {
    match at {
        Some(at) => tokio::time::sleep(at.since(now()).max(Duration::from_millis(1))).await,
        None => std::future::pending().await,
    }
}
