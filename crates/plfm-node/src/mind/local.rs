//! What the node remembers of each instance: where it is in its life, what is being done to it, what went wrong before.

use std::collections::BTreeMap;
use std::time::Duration;

use plfm_api::documents::{Assignment, InstanceReport, Workload};
use plfm_core::event::InstanceStatus;
use plfm_core::ids::{BootId, InstanceId, LogId};
use plfm_core::phase::InstancePhase;
use plfm_core::reason::{Failure, Reason};
use plfm_core::units::Timestamp;
use serde::{Deserialize, Serialize};

use super::probe::{ALIVE_IS_READY, Tally, Verdict};
use super::restart::{FORGIVEN_AFTER, History};
use super::{Action, Observed, Plan};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Local {
    /// The log whose plans this node follows.
    pub log: Option<LogId>,
    pub slots: BTreeMap<InstanceId, Slot>,
    #[serde(skip)]
    pub limits: Limits,
}

#[derive(Debug, Clone)]
pub struct Limits {
    /// From the start of a boot until the workload is ready (P-SCH-36).
    pub startup_max: Duration,
    /// How long an instance with a health check of its own may be unready before it is started anew (P-VM-33).
    pub unready_max: Duration,
    pub drain_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            startup_max: Duration::from_secs(120),
            unready_max: Duration::from_secs(60),
            drain_grace: Duration::from_secs(10),
        }
    }
}

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
    /// This run of the node speaks with the machine.
    #[serde(skip)]
    pub attached: bool,
    #[serde(skip)]
    pub doing: Option<Action>,
    #[serde(skip)]
    pub tally: Tally,
}

/// What came of an action, or happened by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Prepared,
    /// The workload runs.
    Started { boot: BootId, hello_ms: u64 },
    Adopted { boot: BootId },
    Failed(Failure),
    Probed { healthy: bool, detail: String },
    /// The workload or its machine ended by itself.
    Ended { boot: BootId, exit_code: Option<i32>, failure: Failure },
    Stopped { exit_code: Option<i32> },
    Destroyed,
}

impl Local {
    pub fn new(limits: Limits) -> Self {
        Self { log: None, slots: BTreeMap::new(), limits }
    }

    /// After a restart: what was being done is done no more, and what runs has to be spoken to again.
    pub fn wake(mut self, limits: Limits, observed: &Observed, now: Timestamp) -> Self {
        self.limits = limits;
        for (id, slot) in &mut self.slots {
            let running = observed.get(id).copied().flatten();
            slot.machine = observed.contains_key(id);
            let lives = matches!(slot.status.phase, InstancePhase::Booting | InstancePhase::Ready | InstancePhase::Unready);
            if lives && (running.is_none() || running != slot.status.boot) {
                slot.fail(Failure::new(Reason::WorkloadExited, "the machine ended while the node was away"), None, now);
            } else if slot.status.phase == InstancePhase::Preparing {
                slot.prepared = false;
            }
        }
        self
    }

    /// An action begins.
    pub fn begin(&mut self, action: &Action, plan: &Plan, now: Timestamp) {
        let id = action.instance();
        if let Action::Forget(id) = action {
            self.slots.remove(id);
            return;
        }
        let Some(slot) = self.slot(id, plan, now) else { return };
        slot.doing = Some(action.clone());
        match action {
            Action::Prepare(_) => slot.enter(InstancePhase::Preparing, now),
            Action::Boot(_) => {
                slot.machine = true;
                slot.enter(InstancePhase::Booting, now);
            }
            Action::Stop { .. } if slot.status.phase != InstancePhase::Failed => slot.stopping(&plan.assignments, now),
            _ => {}
        }
    }

    fn slot(&mut self, id: InstanceId, plan: &Plan, now: Timestamp) -> Option<&mut Slot> {
        if !self.slots.contains_key(&id) {
            let slot = Slot::new(plan.assignments.get(&id)?, now);
            self.slots.insert(id, slot);
        }
        self.slots.get_mut(&id)
    }

    /// Something came of it. What concerns an earlier boot, or an instance that is forgotten, is old news.
    pub fn absorb(&mut self, id: InstanceId, outcome: Outcome, now: Timestamp) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if !matches!(outcome, Outcome::Ended { .. }) {
            slot.doing = None;
        }
        match outcome {
            Outcome::Prepared => slot.prepared = true,
            Outcome::Started { boot, hello_ms } => slot.started(boot, hello_ms, now),
            Outcome::Adopted { boot } => slot.attached = slot.status.boot == Some(boot),
            Outcome::Failed(failure) => slot.fail(failure, None, now),
            Outcome::Probed { healthy, detail } => slot.probed(healthy, detail, now),
            Outcome::Ended { boot, exit_code, failure } if slot.status.boot == Some(boot) => {
                slot.fail(failure, exit_code, now);
            }
            Outcome::Ended { .. } => {}
            Outcome::Stopped { exit_code } => slot.stopped(exit_code, now),
            Outcome::Destroyed => slot.enter(InstancePhase::Gone, now),
        }
    }

    pub fn reports(&self) -> Vec<InstanceReport> {
        let report = |(id, slot): (&InstanceId, &Slot)| InstanceReport { instance: *id, status: slot.status.clone() };
        self.slots.iter().map(report).collect()
    }
}

impl Slot {
    fn new(assignment: &Assignment, now: Timestamp) -> Self {
        let workload = Workload { vars: BTreeMap::new(), ..assignment.workload.clone() };
        let status = InstanceStatus {
            phase: InstancePhase::Allocated,
            boot: None,
            failure: None,
            exit_code: None,
            restarts: 0,
            hello_ms: None,
        };
        Self {
            workload,
            status,
            since: now,
            prepared: false,
            machine: false,
            retry_at: None,
            history: History::default(),
            attached: false,
            doing: None,
            tally: Tally::default(),
        }
    }

    fn enter(&mut self, phase: InstancePhase, now: Timestamp) {
        (self.status.phase, self.since) = (phase, now);
    }

    fn started(&mut self, boot: BootId, hello_ms: u64, now: Timestamp) {
        self.status.restarts += u32::from(self.status.boot.is_some());
        self.status.boot = Some(boot);
        self.status.hello_ms = Some(hello_ms);
        self.status.exit_code = None;
        (self.prepared, self.attached, self.tally) = (false, true, Tally::default());
        self.since = now;
    }

    /// Takes the machine down: for good when the plan says so, else to start it anew.
    fn stopping(&mut self, assignments: &BTreeMap<InstanceId, Assignment>, now: Timestamp) {
        let id = self.doing.as_ref().map(Action::instance);
        let wanted = id.and_then(|id| assignments.get(&id));
        if wanted.is_some_and(|it| it.desired == plfm_core::phase::Desired::Running) {
            let failure = self.sickness();
            self.fail_keeping(failure, None, now);
        } else {
            self.enter(InstancePhase::Draining, now);
        }
    }

    fn stopped(&mut self, exit_code: Option<i32>, now: Timestamp) {
        (self.machine, self.attached) = (false, false);
        self.status.exit_code = self.status.exit_code.or(exit_code);
        if self.status.phase == InstancePhase::Draining {
            self.enter(InstancePhase::Stopped, now);
        }
    }

    fn sickness(&self) -> Failure {
        let unanswered = self.status.failure.clone().filter(|_| self.status.phase == InstancePhase::Unready);
        unanswered.unwrap_or_else(|| Failure::new(Reason::StartupTimeout, "the workload did not become ready in time"))
    }

    fn fail(&mut self, failure: Failure, exit_code: Option<i32>, now: Timestamp) {
        let leaving = matches!(self.status.phase, InstancePhase::Draining | InstancePhase::Stopped | InstancePhase::Gone);
        if leaving {
            // On its way out an end is what was asked for; a step that failed is simply taken again.
            self.status.exit_code = self.status.exit_code.or(exit_code);
            return;
        }
        self.fail_keeping(failure, exit_code, now);
    }

    fn fail_keeping(&mut self, failure: Failure, exit_code: Option<i32>, now: Timestamp) {
        if self.status.phase == InstancePhase::Ready && now.since(self.since) >= FORGIVEN_AFTER {
            self.history.forgive();
        }
        let retry = self.history.failed(failure, exit_code, &self.workload.restart, now);
        (self.status.failure, self.retry_at) = (Some(retry.failure), retry.at);
        (self.status.exit_code, self.prepared) = (exit_code, false);
        self.enter(InstancePhase::Failed, now);
    }

    fn probed(&mut self, healthy: bool, detail: String, now: Timestamp) {
        let ready = self.status.phase == InstancePhase::Ready;
        match self.tally.count(healthy, ready, &self.workload, now) {
            Verdict::Healthy if self.status.phase != InstancePhase::Ready => {
                self.status.failure = None;
                self.enter(InstancePhase::Ready, now);
            }
            Verdict::Sick if ready => {
                self.status.failure = Some(Failure::new(Reason::HealthcheckFailed, detail));
                self.enter(InstancePhase::Unready, now);
            }
            _ => {}
        }
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

    pub(super) fn next_look(&self, limits: &Limits, _now: Timestamp) -> Option<Timestamp> {
        if self.doing.is_some() {
            return None;
        }
        match self.status.phase {
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
        let seconds = health.grace_period_seconds + health.failure_threshold * health.interval_seconds;
        Duration::from_secs(seconds.into())
    })
}
