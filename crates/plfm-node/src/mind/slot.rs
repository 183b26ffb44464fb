//! One instance in the node's memory: where it is in its life, what is being done to it, what went wrong before.

use std::collections::BTreeMap;
use std::time::Duration;

use plfm_api::documents::{Assignment, Purpose, Workload};
use plfm_core::event::{InstanceStatus, Start};
use plfm_core::ids::{BootId, InstanceId};
use plfm_core::phase::{Desired, InstancePhase};
use plfm_core::reason::{Failure, Reason};
use plfm_core::units::Timestamp;
use serde::{Deserialize, Serialize};

use super::local::Limits;
use super::probe::{ALIVE_IS_READY, Tally, Verdict};
use super::restart::{FORGIVEN_AFTER, History};
use super::{Action, Found};

/// Before a machine that could not be taken down is tried again: such failures rarely pass within a moment.
pub const REST: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Slot {
    /// As planned, without the values of variables: they stay in memory.
    pub workload: Workload,
    pub status: InstanceStatus,
    /// Since when it is in this phase.
    pub since: Timestamp,
    /// Image, disks and network are there for the next boot.
    pub prepared: bool,
    /// A machine may be running.
    pub machine: bool,
    pub retry_at: Option<Timestamp>,
    pub history: History,
    #[serde(skip)]
    prepared_in_ms: u64,
    /// This run of the node speaks with the machine.
    #[serde(skip)]
    pub attached: bool,
    #[serde(skip)]
    pub doing: Option<Action>,
    /// Nothing is done to it before: the last try to take it down failed.
    #[serde(skip)]
    pub rests_until: Option<Timestamp>,
    #[serde(skip)]
    pub tally: Tally,
    /// What went wrong, and its log does not say yet.
    #[serde(skip)]
    pub(super) unsaid: Vec<Failure>,
}

/// What came of an action, or happened by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Prepared {
        took_ms: u64,
    },
    /// The workload runs.
    Started {
        boot: BootId,
        start: Start,
    },
    Adopted {
        boot: BootId,
    },
    Paused,
    /// It goes on as the boot that it was.
    Resumed {
        boot: BootId,
    },
    /// It is whole, and what it was taken of goes on.
    Taken,
    Failed(Failure),
    Probed {
        healthy: bool,
        detail: String,
    },
    /// The workload or its machine ended by itself.
    Ended {
        boot: BootId,
        exit_code: Option<i32>,
        failure: Failure,
    },
    Stopped {
        exit_code: Option<i32>,
    },
    Destroyed,
}

impl Outcome {
    fn answers(&self, doing: &Action) -> bool {
        match self {
            Self::Prepared { .. } => matches!(doing, Action::Prepare(_)),
            Self::Started { .. } => matches!(doing, Action::Boot(_)),
            Self::Adopted { .. } => matches!(doing, Action::Adopt(..)),
            Self::Paused => matches!(doing, Action::Pause(..)),
            Self::Resumed { .. } => matches!(doing, Action::Resume(..)),
            Self::Taken => matches!(doing, Action::Take { .. }),
            Self::Probed { .. } => matches!(doing, Action::Probe(_)),
            Self::Stopped { .. } => matches!(doing, Action::Stop { .. }),
            Self::Destroyed => matches!(doing, Action::Destroy(_)),
            Self::Failed(_) => true,
            Self::Ended { .. } => false,
        }
    }
}

impl Slot {
    pub(super) fn new(assignment: &Assignment, now: Timestamp) -> Self {
        let workload = Workload { vars: BTreeMap::new(), ..assignment.workload.clone() };
        let status = InstanceStatus {
            phase: InstancePhase::Allocated,
            boot: None,
            failure: None,
            exit_code: None,
            restarts: 0,
            hello_ms: None,
            start: None,
        };
        Self {
            workload,
            status,
            since: now,
            prepared: false,
            prepared_in_ms: 0,
            machine: false,
            retry_at: None,
            history: History::default(),
            attached: false,
            doing: None,
            rests_until: None,
            tally: Tally::default(),
            unsaid: Vec::new(),
        }
    }

    /// After a restart of the node: what was being done is done no more, and what runs has to be spoken to again.
    pub(super) fn wake(&mut self, found: Option<Found>, now: Timestamp) {
        let has_ended = matches!(self.status.phase, InstancePhase::Stopped | InstancePhase::Gone);
        if matches!(self.workload.purpose, Purpose::Snapshot { .. }) {
            return self.wake_snapshot(found.is_some(), now);
        }
        self.machine = found.is_some_and(|found| !has_ended || found != Found::Ended);
        self.prepared = false;
        let rests = self.status.phase.is_at_rest();
        match found {
            Some(Found::Runs(boot)) if Some(boot) == self.status.boot && !rests => {}
            // What runs in it may be at rest still: it is ready when it has been spoken to.
            Some(Found::Runs(boot)) if Some(boot) == self.status.boot => self.enter(InstancePhase::Resuming, now),
            Some(Found::Rests(boot)) if Some(boot) == self.status.boot && self.status.phase.has_come_up() => {
                self.enter(InstancePhase::Paused, now);
            }
            _ if rests || self.lives() => self.fail(vanished(), None, now),
            _ => {}
        }
    }

    fn wake_snapshot(&mut self, is_there: bool, now: Timestamp) {
        match self.status.phase {
            InstancePhase::Allocated | InstancePhase::Pausing if is_there => self.enter(InstancePhase::Paused, now),
            InstancePhase::Pausing => self.enter(InstancePhase::Allocated, now),
            InstancePhase::Paused if !is_there => {
                self.fail(Failure::new(Reason::SnapshotFailed, "its files are gone"), None, now);
            }
            _ => {}
        }
    }

    /// The machine that is being taken just now.
    pub(super) fn takes(&self) -> Option<&InstanceId> {
        match &self.doing {
            Some(Action::Take { of, .. }) => Some(of),
            _ => None,
        }
    }

    /// The node itself ends the machine because it stops: no failure, and no restart that anyone should wonder about.
    pub(super) fn put_away(&mut self, now: Timestamp) {
        if self.lives() && self.workload.is_sandbox() {
            self.fail(Failure::new(Reason::WorkloadExited, "its node was stopped"), None, now);
        } else if self.lives() {
            (self.status.boot, self.status.failure) = (None, None);
            self.enter(InstancePhase::Allocated, now);
        } else if matches!(self.status.phase, InstancePhase::Pausing | InstancePhase::Resuming) {
            self.fail(Failure::new(Reason::WorkloadExited, "its node was stopped"), None, now);
        }
    }

    /// A machine of it is starting or works.
    fn lives(&self) -> bool {
        matches!(self.status.phase, InstancePhase::Booting | InstancePhase::Ready | InstancePhase::Unready)
    }

    fn enter(&mut self, phase: InstancePhase, now: Timestamp) {
        (self.status.phase, self.since) = (phase, now);
    }

    pub(super) fn begin(&mut self, action: &Action, planned: Option<&Assignment>, now: Timestamp) {
        (self.doing, self.rests_until) = (Some(action.clone()), None);
        match action {
            Action::Prepare(_) => self.preparing(now),
            Action::Boot(_) => {
                self.machine = true;
                self.enter(InstancePhase::Booting, now);
            }
            Action::Stop { .. } => self.stopping(planned, now),
            Action::Destroy(_) => self.leaving(now),
            Action::Pause(..) | Action::Resume(..) => {
                let pauses = matches!(action, Action::Pause(..));
                self.status.failure = None;
                self.enter(if pauses { InstancePhase::Pausing } else { InstancePhase::Resuming }, now);
            }
            Action::Take { .. } => self.enter(InstancePhase::Pausing, now),
            Action::Adopt(..) | Action::Probe(_) | Action::Forget(_) => {}
        }
    }

    /// From here on the boot before is over, and what is still said of it is old news.
    fn preparing(&mut self, now: Timestamp) {
        self.status.restarts += u32::from(self.status.boot.take().is_some());
        self.enter(InstancePhase::Preparing, now);
    }

    /// Takes the machine down: for good, or to start it anew where the plan still wants it.
    fn stopping(&mut self, planned: Option<&Assignment>, now: Timestamp) {
        if planned.is_none_or(|it| it.desired > Desired::Paused) {
            self.leaving(now);
        } else if self.lives() {
            let failure = self.sickness();
            self.fail(failure, None, now);
        }
    }

    fn leaving(&mut self, now: Timestamp) {
        let is_over = matches!(self.status.phase, InstancePhase::Failed | InstancePhase::Stopped | InstancePhase::Gone);
        if !is_over {
            self.enter(InstancePhase::Draining, now);
        }
    }

    fn sickness(&self) -> Failure {
        match (self.status.phase, &self.status.failure) {
            _ if !self.attached => vanished(),
            (InstancePhase::Unready, Some(unanswered)) => unanswered.clone(),
            _ if !self.tally.last_miss.is_empty() => {
                Failure::new(Reason::StartupTimeout, format!("not ready in time: {}", self.tally.last_miss))
            }
            _ => Failure::new(Reason::StartupTimeout, "the workload did not become ready in time"),
        }
    }

    pub(super) fn absorb(&mut self, outcome: Outcome, limits: &Limits, now: Timestamp) {
        if let Outcome::Ended { boot, exit_code, failure } = outcome {
            self.ended(boot, exit_code, failure, now);
        } else if self.doing.as_ref().is_some_and(|doing| outcome.answers(doing)) {
            self.done(outcome, limits, now);
        }
    }

    /// Of a machine that is being taken down anyway only the exit code is news.
    fn ended(&mut self, boot: BootId, exit_code: Option<i32>, failure: Failure, now: Timestamp) {
        if self.status.boot == Some(boot) && self.status.phase != InstancePhase::Failed {
            self.fail(failure, exit_code, now);
        }
    }

    fn done(&mut self, outcome: Outcome, limits: &Limits, now: Timestamp) {
        let doing = self.doing.take();
        match outcome {
            Outcome::Prepared { took_ms } => (self.prepared, self.prepared_in_ms) = (true, took_ms),
            Outcome::Started { boot, start } => self.started(boot, start, now),
            Outcome::Adopted { boot } if self.status.boot == Some(boot) => self.adopted(now),
            Outcome::Adopted { .. } => self.fail(vanished(), None, now),
            Outcome::Failed(failure) if matches!(doing, Some(Action::Stop { .. } | Action::Destroy(_))) => {
                self.rests_until = Some(now + REST);
                self.unsaid.push(failure);
            }
            Outcome::Paused | Outcome::Taken => self.rests(None, now),
            Outcome::Resumed { boot } if self.status.boot == Some(boot) => self.resumed(now),
            Outcome::Resumed { .. } => self.fail(vanished(), None, now),
            Outcome::Failed(failure) if matches!(doing, Some(Action::Pause(..))) => self.not_paused(failure, now),
            // What it is is still on disk.
            Outcome::Failed(failure) if matches!(doing, Some(Action::Resume(..))) => self.rests(Some(failure), now),
            Outcome::Failed(failure) => self.fail(failure, None, now),
            Outcome::Probed { healthy, detail } if self.lives() => self.probed(healthy, detail, limits, now),
            Outcome::Stopped { exit_code } => self.stopped(exit_code, now),
            Outcome::Destroyed => {
                self.machine = false;
                self.enter(InstancePhase::Gone, now);
            }
            Outcome::Probed { .. } | Outcome::Ended { .. } => {}
        }
    }

    fn started(&mut self, boot: BootId, start: Start, now: Timestamp) {
        (self.status.boot, self.status.hello_ms, self.status.exit_code) = (Some(boot), Some(start.machine_ms), None);
        self.status.start = Some(Start { prepare_ms: self.prepared_in_ms, ..start });
        (self.prepared, self.attached, self.tally) = (false, true, Tally::default());
        self.since = now;
        if self.workload.is_sandbox() {
            // Its guest daemon has answered, and there is nobody else to ask.
            self.status.failure = None;
            self.enter(InstancePhase::Ready, now);
        }
    }

    fn rests(&mut self, failure: Option<Failure>, now: Timestamp) {
        if matches!(self.status.phase, InstancePhase::Pausing | InstancePhase::Resuming) {
            self.attached = false;
            self.enter(InstancePhase::Paused, now);
            self.tries_later(failure, now);
        }
    }

    fn adopted(&mut self, now: Timestamp) {
        self.attached = true;
        self.resumed(now);
    }

    fn resumed(&mut self, now: Timestamp) {
        if self.status.phase == InstancePhase::Resuming {
            (self.attached, self.tally, self.status.failure) = (true, Tally::default(), None);
            self.enter(InstancePhase::Ready, now);
        }
    }

    /// It runs on, unless its end was told meanwhile.
    fn not_paused(&mut self, failure: Failure, now: Timestamp) {
        if self.status.phase == InstancePhase::Pausing {
            self.enter(InstancePhase::Ready, now);
            self.tries_later(Some(failure), now);
        }
    }

    fn tries_later(&mut self, failure: Option<Failure>, now: Timestamp) {
        self.status.failure = None;
        if let Some(failure) = failure {
            self.rests_until = Some(now + REST);
            self.ails(failure);
        }
    }

    fn stopped(&mut self, exit_code: Option<i32>, now: Timestamp) {
        (self.machine, self.attached) = (false, false);
        self.status.exit_code = self.status.exit_code.or(exit_code);
        if self.status.phase == InstancePhase::Draining {
            self.enter(InstancePhase::Stopped, now);
        }
    }

    fn fail(&mut self, failure: Failure, exit_code: Option<i32>, now: Timestamp) {
        let leaving =
            matches!(self.status.phase, InstancePhase::Draining | InstancePhase::Stopped | InstancePhase::Gone);
        if leaving {
            // On its way out an end is what was asked for.
            self.status.exit_code = self.status.exit_code.or(exit_code);
            return;
        }
        self.forgive(now);
        let retry = self.history.failed(failure, exit_code, &self.workload.restart, now);
        // What a sandbox was is lost with its machine; another boot would be another sandbox.
        let retry_at = retry.at.filter(|_| !self.workload.is_sandbox());
        self.retry_at = retry_at;
        self.ails(retry.failure);
        (self.status.exit_code, self.prepared) = (exit_code, false);
        self.enter(InstancePhase::Failed, now);
    }

    fn ails(&mut self, failure: Failure) {
        self.unsaid.push(failure.clone());
        self.status.failure = Some(failure);
    }

    fn forgive(&mut self, now: Timestamp) {
        if self.status.phase == InstancePhase::Ready && now.since(self.since) >= FORGIVEN_AFTER {
            self.history.forgive();
        }
    }

    fn probed(&mut self, healthy: bool, detail: String, limits: &Limits, now: Timestamp) {
        let ready = self.status.phase == InstancePhase::Ready;
        if !healthy {
            self.tally.last_miss.clone_from(&detail);
        }
        match self.tally.count(healthy, ready, &self.workload, now) {
            Verdict::Healthy if !ready => {
                self.status.failure = None;
                self.enter(InstancePhase::Ready, now);
            }
            Verdict::Sick if ready => {
                self.forgive(now);
                self.ails(Failure::new(Reason::HealthcheckFailed, detail));
                self.enter(InstancePhase::Unready, now);
            }
            Verdict::Sick if self.is_silent(limits, now) => {
                self.tally.told = true;
                self.ails(Failure::new(Reason::HealthcheckFailed, detail));
            }
            _ => {}
        }
    }

    /// Since it was started nobody has heard of it, and nobody has been told.
    fn is_silent(&self, limits: &Limits, now: Timestamp) -> bool {
        let grace = self.workload.health.as_ref().map_or(0, |health| health.grace_period_seconds);
        let wait = limits.silence_max.max(Duration::from_secs(grace.into()));
        self.status.phase == InstancePhase::Booting && !self.tally.told && now.since(self.since) >= wait
    }

    pub(super) fn probe_due(&self, now: Timestamp) -> bool {
        now >= self.probe_at()
    }

    fn probe_at(&self) -> Timestamp {
        let first = if self.workload.ports.is_empty() { self.since + ALIVE_IS_READY } else { self.since };
        self.tally.next_at.unwrap_or(first)
    }

    /// Too long without a sign of health.
    pub(super) fn is_sick(&self, limits: &Limits, now: Timestamp) -> bool {
        self.sick_at(limits).is_some_and(|at| now >= at)
    }

    fn sick_at(&self, limits: &Limits) -> Option<Timestamp> {
        match self.status.phase {
            InstancePhase::Booting => Some(self.since + limits.startup_max.max(patience(&self.workload))),
            InstancePhase::Unready if self.workload.health.is_some() => Some(self.since + limits.unready_max),
            _ => None,
        }
    }

    pub(super) fn next_look(&self, limits: &Limits) -> Option<Timestamp> {
        match self.status.phase {
            _ if self.doing.is_some() => None,
            _ if self.rests_until.is_some() => self.rests_until,
            InstancePhase::Failed => self.retry_at,
            InstancePhase::Booting | InstancePhase::Ready | InstancePhase::Unready => {
                Some(self.sick_at(limits).map_or(self.probe_at(), |sick| sick.min(self.probe_at())))
            }
            _ => None,
        }
    }
}

/// What the manifest itself asks to wait (P-SCH-36).
fn patience(workload: &Workload) -> Duration {
    workload.health.as_ref().map_or(Duration::ZERO, |health| {
        let tries = health.failure_threshold.saturating_mul(health.interval_seconds);
        Duration::from_secs(health.grace_period_seconds.saturating_add(tries).into())
    })
}

fn vanished() -> Failure {
    Failure::new(Reason::WorkloadExited, "the machine ended while the node was away")
}
