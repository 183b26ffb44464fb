//! What the node remembers: a slot for each instance, and which plan it follows.

use std::collections::BTreeMap;
use std::time::Duration;

use plfm_api::documents::{InstanceReport, PlanMessage, Purpose};
use plfm_core::ids::InstanceId;
use plfm_core::phase::{Desired, InstancePhase};
use plfm_core::reason::Failure;
use plfm_core::state::Position;
use plfm_core::units::{Mebibytes, Timestamp};
use serde::{Deserialize, Serialize};

use super::slot::{Outcome, REST, Slot};
use super::{Action, Hearing, Observed, Plan};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Local {
    /// Counts the starts of the node and orders its reports: later than the one before, whatever the clock says.
    #[serde(default)]
    pub life: u64,
    /// The plan that was followed last. Its log stays the node's until someone says otherwise, and a snapshot from before it, told
    /// by a server that lags, is no news after a restart either.
    pub followed: Option<Position>,
    pub slots: BTreeMap<InstanceId, Slot>,
    /// Machines being destroyed that nobody planned or remembers; with a time once that has failed: then it is tried again.
    #[serde(skip)]
    pub strays: BTreeMap<InstanceId, Option<Timestamp>>,
    #[serde(skip)]
    pub limits: Limits,
}

#[derive(Debug, Clone)]
pub struct Limits {
    /// From the start of a boot until the workload is ready (P-SCH-36).
    pub startup_max: Duration,
    /// How long an instance with a health check of its own may be unready before it is started anew (P-VM-33).
    pub unready_max: Duration,
    /// A workload that has run this long without answering is worth a word; most answer sooner.
    pub silence_max: Duration,
    pub drain_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            startup_max: Duration::from_secs(120),
            unready_max: Duration::from_secs(60),
            silence_max: Duration::from_secs(5),
            drain_grace: Duration::from_secs(10),
        }
    }
}

impl Local {
    pub fn new(limits: Limits) -> Self {
        Self { life: 0, followed: None, slots: BTreeMap::new(), strays: BTreeMap::new(), limits }
    }

    /// Takes a message of the server into the plan.
    pub fn hear(&mut self, plan: &mut Plan, message: PlanMessage) -> Hearing {
        let is_old = |known: Position| known.log == message.position.log && known.seq > message.position.seq;
        let hearing = if self.followed.is_some_and(is_old) { Hearing::Old } else { plan.apply(message) };
        if hearing == Hearing::News && !self.is_foreign(plan) {
            self.followed = plan.position;
        }
        hearing
    }

    /// The plan is of another log than the one this node follows: the server was restored, or it is another server.
    pub fn is_foreign(&self, plan: &Plan) -> bool {
        self.followed.zip(plan.position).is_some_and(|(followed, planned)| followed.log != planned.log)
    }

    /// The node belongs to its cluster no more: nothing is planned here, and what is here goes.
    pub fn dismiss(&self, plan: &mut Plan) {
        *plan =
            Plan { position: self.followed.or(plan.position), assignments: BTreeMap::new(), volumes: BTreeMap::new() };
    }

    /// Nothing of an instance is left but the memory of it.
    pub fn is_empty(&self) -> bool {
        self.strays.is_empty() && self.slots.values().all(|slot| slot.status.phase == InstancePhase::Gone)
    }

    /// The memory of what is planned or here, besides what is kept on disk.
    pub fn promised(&self, plan: &Plan) -> Mebibytes {
        let planned = plan.assignments.iter().map(|(id, it)| (id, &it.workload));
        let unplanned = self.slots.iter().filter(|(id, _)| !plan.assignments.contains_key(id));
        let all = planned.chain(unplanned.map(|(id, slot)| (id, &slot.workload)));
        let is_kept = |id: &InstanceId| {
            let phase = self.slots.get(id).map(|slot| slot.status.phase);
            matches!(phase, Some(InstancePhase::Paused | InstancePhase::Gone))
        };
        let runs = all.filter(|(id, workload)| {
            let is_picture = matches!(workload.purpose, Purpose::Snapshot { .. });
            !is_picture && (!is_kept(id) || plan.assignments.get(id).is_some_and(|it| it.desired == Desired::Running))
        });
        runs.map(|(_, workload)| workload.resources.memory + workload.resources.overhead).sum()
    }

    /// An operator says that the plan's log is the right one: from here on it is followed.
    pub fn adopt(&mut self, plan: &Plan) {
        self.followed = plan.position;
    }

    /// Something is here that is not planned and not gone: its memory is not in the server's account.
    pub(super) fn has_strangers(&self, plan: &Plan, observed: &Observed) -> bool {
        let planned = |id: &InstanceId| plan.assignments.contains_key(id);
        let remembered = |(id, slot): (&InstanceId, &Slot)| !planned(id) && slot.status.phase != InstancePhase::Gone;
        let found = |id: &InstanceId| !planned(id) && !self.slots.contains_key(id);
        self.slots.iter().any(remembered) || observed.keys().any(found) || !self.strays.is_empty()
    }

    /// Nothing is being done to it.
    pub(super) fn is_free(&self, id: InstanceId, now: Timestamp) -> bool {
        match self.slots.get(&id) {
            Some(slot) => slot.doing.is_none() && slot.rests_until.is_none_or(|at| now >= at),
            None => self.strays.get(&id).is_none_or(|again_at| again_at.is_some_and(|at| now >= at)),
        }
    }

    /// At each start: what was being done is done no more, and what runs has to be spoken to again.
    pub fn wake(mut self, limits: Limits, observed: &Observed, now: Timestamp) -> Self {
        self.life = now.0.max(self.life + 1);
        self.limits = limits;
        for (id, slot) in &mut self.slots {
            slot.wake(observed.get(id).copied(), now);
        }
        self
    }

    /// Before the node ends all machines because it stops: the next start starts them anew.
    pub fn put_away(&mut self, now: Timestamp) {
        self.slots.values_mut().for_each(|slot| slot.put_away(now));
    }

    /// An action begins.
    pub fn begin(&mut self, action: &Action, plan: &Plan, now: Timestamp) {
        let id = action.instance();
        if let Action::Forget(id) = action {
            self.slots.remove(id);
            return;
        }
        let Some(slot) = self.slot(id, plan, now) else {
            self.strays.insert(id, None);
            return;
        };
        slot.begin(action, plan.assignments.get(&id), now);
    }

    fn slot(&mut self, id: InstanceId, plan: &Plan, now: Timestamp) -> Option<&mut Slot> {
        if let std::collections::btree_map::Entry::Vacant(e) = self.slots.entry(id) {
            let slot = Slot::new(plan.assignments.get(&id)?, now);
            e.insert(slot);
        }
        self.slots.get_mut(&id)
    }

    /// Something came of it. What answers nothing that is under way, or concerns an earlier boot, is old news.
    pub fn absorb(&mut self, id: InstanceId, outcome: Outcome, now: Timestamp) {
        match self.slots.get_mut(&id) {
            Some(slot) => slot.absorb(outcome, &self.limits, now),
            None => self.stray(id, &outcome, now),
        }
    }

    fn stray(&mut self, id: InstanceId, outcome: &Outcome, now: Timestamp) {
        let Some(again_at) = self.strays.get_mut(&id) else { return };
        match outcome {
            Outcome::Destroyed => drop(self.strays.remove(&id)),
            _ => *again_at = Some(now + REST),
        }
    }

    /// What went wrong since this was asked, for the instances' own logs.
    pub fn news(&mut self) -> Vec<(InstanceId, Failure)> {
        let news = |(id, slot): (&InstanceId, &mut Slot)| {
            let id = *id;
            std::mem::take(&mut slot.unsaid).into_iter().map(move |failure| (id, failure))
        };
        self.slots.iter_mut().flat_map(news).collect()
    }

    pub fn reports(&self) -> Vec<InstanceReport> {
        let report = |(id, slot): (&InstanceId, &Slot)| InstanceReport { instance: *id, status: slot.status.clone() };
        self.slots.iter().map(report).collect()
    }
}
