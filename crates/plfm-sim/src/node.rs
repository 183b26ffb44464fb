//! A node: the real mind, and an executor that only plays. Its machines outlive it; of its memory, what was written down does.

use std::collections::BTreeMap;
use std::time::Duration;

use plfm_api::documents::{InstanceReport, PlanMessage, Report, ReportNumber};
use plfm_core::event::Capacity;
use plfm_core::ids::{BootId, InstanceId, NodeId};
use plfm_core::phase::{Desired, InstancePhase};
use plfm_core::reason::{Failure, Reason};
use plfm_core::units::{Mebibytes, Timestamp};
use plfm_node::mind::{Action, Limits, Local, Outcome, Plan, next_step, step};

use crate::ctx::{Ctx, Happening};
use crate::host::{Host, Machine, Temper};
use crate::trace::Note;

/// P-AGT-11.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// `step` has said all it can after so many times of being asked at one moment.
const STEPS_MAX: usize = 8;

pub struct Node {
    pub index: usize,
    pub id: NodeId,
    pub capacity: Capacity,
    pub host: Host,
    pub mind: Option<Mind>,
    pub is_cut_off: bool,
    life: u64,
    /// The memory as it was last written down.
    disk: Option<Vec<u8>>,
    /// Nothing of streams up to this one arrives any more.
    deaf_to: u64,
}

/// What is lost in a crash.
pub struct Mind {
    pub local: Local,
    pub plan: Plan,
    pub doing: BTreeMap<InstanceId, Action>,
    stream: Option<u64>,
    number: u64,
    told: Vec<InstanceReport>,
    looks_at: Option<Timestamp>,
}

impl Node {
    pub fn new(index: usize, id: NodeId, capacity: Capacity) -> Self {
        let host = Host::new(capacity.memory);
        Self { index, id, capacity, host, mind: None, is_cut_off: false, life: 0, disk: None, deaf_to: 0 }
    }

    pub fn starts(&mut self, ctx: &mut Ctx) {
        ctx.note(Note::Node(self.index, "starts"));
        self.life += 1;
        let written = self.disk.take().map(|json| serde_json::from_slice(&json).expect("what was written can be read"));
        let local: Local = written.unwrap_or_else(|| Local::new(Limits::default()));
        let local = local.wake(Limits::default(), &self.host.observed(), ctx.now());
        self.mind = Some(Mind {
            local,
            plan: Plan::default(),
            doing: BTreeMap::new(),
            stream: None,
            number: 0,
            told: Vec::new(),
            looks_at: None,
        });
        self.connects_soon(ctx, 0..2_000);
        let wait = ctx.ms(0..1_000);
        ctx.after(wait, Happening::Heartbeat { node: self.index, life: self.life });
        self.acts(ctx);
    }

    pub fn crashes(&mut self, ctx: &mut Ctx) {
        let Some(mind) = self.mind.take() else { return };
        ctx.note(Note::Node(self.index, "crashes"));
        let forgets = ctx.fault("node forgot everything", 0.03);
        self.disk = (!forgets).then(|| serde_json::to_vec(&mind.local).expect("a memory has string keys"));
        let wait = if ctx.mishap(0.3) { ctx.ms(60_000..120_000) } else { ctx.ms(1_000..20_000) };
        ctx.after(wait, Happening::NodeStarts(self.index));
    }

    /// The life that runs now, if `life` is that one.
    fn mind(&mut self, life: u64) -> Option<&mut Mind> {
        self.mind.as_mut().filter(|_| self.life == life)
    }

    fn connects_soon(&self, ctx: &mut Ctx, range: std::ops::Range<u64>) {
        let wait = ctx.ms(range);
        ctx.after(wait, Happening::Connects { node: self.index, life: self.life });
    }

    /// `stream` is none when nobody answered.
    pub fn connected(&mut self, ctx: &mut Ctx, life: u64, stream: Option<u64>) {
        let Some(mind) = self.mind(life) else { return };
        mind.stream = stream;
        if stream.is_none() {
            self.connects_soon(ctx, 1_000..5_000);
        }
    }

    pub fn wants_stream(&mut self, life: u64) -> bool {
        self.mind(life).is_some_and(|mind| mind.stream.is_none())
    }

    pub fn stream_breaks(&mut self, ctx: &mut Ctx, life: u64, stream: u64) {
        let Some(mind) = self.mind(life).filter(|mind| mind.stream == Some(stream)) else { return };
        mind.stream = None;
        self.connects_soon(ctx, 1_000..5_000);
    }

    pub fn cut_off(&mut self, stream: u64) {
        (self.is_cut_off, self.deaf_to) = (true, stream);
    }

    pub fn hears(&mut self, ctx: &mut Ctx, life: u64, stream: u64, message: PlanMessage) {
        let deaf = stream <= self.deaf_to;
        let Some(mind) = self.mind(life).filter(|_| !deaf) else { return };
        if mind.local.hear(&mut mind.plan, message) {
            self.acts(ctx);
        }
    }

    pub fn beats(&mut self, ctx: &mut Ctx, life: u64) {
        if self.mind(life).is_none() {
            return;
        }
        self.measures(ctx);
        self.reports(ctx);
        ctx.after(HEARTBEAT, Happening::Heartbeat { node: self.index, life });
    }

    /// What the host can spare changes a little, and never beyond what it has.
    fn measures(&mut self, ctx: &mut Ctx) {
        let all = self.host.memory;
        if ctx.mishap(0.02) {
            self.capacity.memory = Mebibytes(ctx.rng.u64(all.0 * 6 / 10..=all.0));
        } else if ctx.calm {
            self.capacity.memory = all;
        }
    }

    fn reports(&mut self, ctx: &mut Ctx) {
        let (life, id) = (self.life, self.id);
        let Some(mind) = &mut self.mind else { return };
        mind.number += 1;
        mind.told = mind.local.reports();
        let report = Report {
            number: ReportNumber { incarnation: life, number: mind.number },
            applied: mind.plan.position,
            capacity: self.capacity.clone(),
            instances: mind.told.clone(),
        };
        if self.is_cut_off || ctx.fault("report lost", 0.03) {
            return;
        }
        if ctx.fault("report doubled", 0.03) {
            let late = ctx.ms(1..40_000);
            ctx.after(late, Happening::ReportArrives(id, Box::new(report.clone())));
        }
        let late = if ctx.mishap(0.03) { 30_000 } else { 150 };
        let wait = ctx.ms(1..late);
        ctx.after(wait, Happening::ReportArrives(id, Box::new(report)));
    }

    pub fn looks(&mut self, ctx: &mut Ctx, life: u64) {
        let now = ctx.now();
        // One that a sooner look has overtaken finds that already set anew.
        let Some(mind) = self.mind(life).filter(|mind| mind.looks_at == Some(now)) else { return };
        mind.looks_at = None;
        self.acts(ctx);
    }

    /// Asks the mind what to do until it has said all, tells the server what is new, and looks again when it is time.
    fn acts(&mut self, ctx: &mut Ctx) {
        for _ in 0..STEPS_MAX {
            let Some(mind) = &self.mind else { return };
            let actions = step(&mind.local, &mind.plan, &self.host.observed(), ctx.now());
            if actions.is_empty() {
                return self.rests(ctx);
            }
            actions.into_iter().for_each(|action| self.begins(ctx, action));
        }
        ctx.violate(|| format!("node {} finds no end of things to do", self.index));
    }

    fn rests(&mut self, ctx: &mut Ctx) {
        let (node, life) = (self.index, self.life);
        let Some(mind) = &mut self.mind else { return };
        if let Some(at) = next_step(&mind.local, ctx.now())
            && mind.looks_at.is_none_or(|known| at < known)
        {
            mind.looks_at = Some(at);
            ctx.queue.at(at, Happening::NodeLooks { node, life });
        }
        if mind.told != mind.local.reports() {
            self.reports(ctx);
        }
    }

    fn begins(&mut self, ctx: &mut Ctx, action: Action) {
        ctx.coverage.action(&action);
        if !matches!(action, Action::Probe(_)) {
            ctx.note(Note::Begins(self.index, action.clone()));
        }
        self.judges(ctx, &action);
        let Some(mind) = &mut self.mind else { return };
        let before = ctx.fault("node crashed before it wrote down what it began", 0.002).then(|| mind.local.clone());
        mind.local.begin(&action, &mind.plan, ctx.now());
        if matches!(action, Action::Forget(_)) {
            return;
        }
        let twice = mind.doing.insert(action.instance(), action.clone());
        ctx.expect(twice.is_none(), || format!("{action:?} begins while {twice:?} is under way"));
        self.executes(ctx, action);
        if let (Some(before), Some(mind)) = (before, &mut self.mind) {
            mind.local = before;
            self.crashes(ctx);
        }
    }

    /// Nothing takes down a machine that serves and that is wanted, however late or doubled what was heard.
    fn judges(&self, ctx: &mut Ctx, action: &Action) {
        let (id, takes_down) = (action.instance(), matches!(action, Action::Stop { .. } | Action::Destroy(_)));
        let slot = self.mind.as_ref().and_then(|mind| mind.local.slots.get(&id));
        let serves = slot.is_some_and(|slot| {
            slot.status.phase == InstancePhase::Ready && slot.status.boot.is_some_and(|boot| self.host.runs(id, boot))
        });
        let wanted = ctx.desired.get(&id) == Some(&Desired::Running);
        ctx.expect(!(takes_down && serves && wanted), || format!("{action:?} takes down what serves and is wanted"));
    }

    fn executes(&mut self, ctx: &mut Ctx, action: Action) {
        let (wait, failure_rate) = match &action {
            Action::Prepare(id) => {
                self.host.directories.insert(*id);
                (if ctx.mishap(0.05) { ctx.ms(20_000..90_000) } else { ctx.ms(20..3_000) }, 0.04)
            }
            Action::Boot(id) => return self.boots(ctx, *id),
            Action::Adopt(..) => (ctx.ms(5..500), 0.04),
            Action::Probe(_) => (ctx.ms(1..50), 0.002),
            Action::Stop { grace, .. } => (ctx.ms(5..100 + grace.as_millis() as u64), 0.05),
            Action::Destroy(_) | Action::Forget(_) => (ctx.ms(5..500), 0.05),
        };
        self.finishes_after(ctx, wait, action, failure_rate);
    }

    fn boots(&mut self, ctx: &mut Ctx, id: InstanceId) {
        let appears = ctx.ms(10..200);
        if ctx.mishap(0.03) {
            return self.finishes_after(ctx, appears, Action::Boot(id), 1.0);
        }
        let slot = self.mind.as_ref().and_then(|mind| mind.local.slots.get(&id)).expect("what boots is remembered");
        let machine = Machine::new(ctx.boot(), &slot.workload);
        ctx.after(appears, Happening::MachineAppears { node: self.index, life: self.life, id, machine });
        if ctx.mishap(0.01) {
            ctx.after(appears / 2, Happening::NodeStumbles(self.index));
        }
        let answers = appears + ctx.ms(50..1_500);
        self.finishes_after(ctx, answers, Action::Boot(id), 0.03);
    }

    fn finishes_after(&self, ctx: &mut Ctx, wait: Duration, action: Action, failure_rate: f64) {
        let fails = ctx.mishap(failure_rate);
        ctx.after(wait, Happening::Finishes { node: self.index, life: self.life, action, fails });
    }

    /// The machine monitor runs; whoever started it may have crashed in the same moment.
    pub fn machine_appears(&mut self, ctx: &mut Ctx, life: u64, id: InstanceId, machine: Machine) {
        let in_crash = self.mind.is_none() && ctx.fault("node crashed with a machine starting", 0.5);
        if self.mind(life).is_none() && !in_crash {
            return;
        }
        ctx.note(Note::Machine(self.index, id, "appears"));
        let twin = self.host.machines.insert(id, machine);
        ctx.expect(twin.is_none(), || format!("two machines of {id} on node {}: {twin:?}", self.index));
        let (used, memory) = (self.host.used(), self.host.memory);
        ctx.expect(used <= memory, || format!("machines on node {} use {used} of {memory}", self.index));
    }

    pub fn finishes(&mut self, ctx: &mut Ctx, life: u64, action: Action, fails: bool) {
        let id = action.instance();
        let Some(mind) = self.mind(life) else { return self.finishes_alone(ctx, &action) };
        mind.doing.remove(&id);
        if ctx.fault("node crashed", 0.001) {
            // What was done is done, and nobody wrote it down.
            self.effect(ctx, &action, fails);
            return self.crashes(ctx);
        }
        let outcome = self.effect(ctx, &action, fails);
        self.absorbs(ctx, id, outcome);
    }

    /// A guest that was asked to end does so even if whoever asked has crashed since.
    fn finishes_alone(&mut self, ctx: &mut Ctx, action: &Action) {
        let Action::Stop { instance, .. } = action else { return };
        if let Some(machine) = self.host.machines.get(instance)
            && ctx.rng.bool()
        {
            let boot = machine.boot;
            self.workload_ends(ctx, *instance, boot);
        }
    }

    fn absorbs(&mut self, ctx: &mut Ctx, id: InstanceId, outcome: Outcome) {
        ctx.coverage.outcome(&outcome);
        if !matches!(outcome, Outcome::Probed { .. }) {
            ctx.note(Note::Came(self.index, id, outcome.clone()));
        }
        let Some(mind) = &mut self.mind else { return };
        mind.local.absorb(id, outcome, ctx.now());
        self.acts(ctx);
    }

    fn effect(&mut self, ctx: &mut Ctx, action: &Action, fails: bool) -> Outcome {
        match action {
            Action::Prepare(_) if fails => failed(Reason::ImagePullFailed),
            Action::Prepare(_) => Outcome::Prepared,
            Action::Boot(id) => self.booted(ctx, *id, fails),
            Action::Adopt(id, boot) if !fails && self.host.runs(*id, *boot) => Outcome::Adopted { boot: *boot },
            Action::Adopt(..) => failed(Reason::ConfigHandshakeFailed),
            Action::Probe(id) => self.probed(ctx, *id, fails),
            Action::Stop { .. } | Action::Destroy(_) if fails => failed(Reason::VmmStartFailed),
            Action::Stop { instance, .. } => self.stopped(ctx, *instance),
            Action::Destroy(id) | Action::Forget(id) => {
                self.host.machines.remove(id);
                self.host.directories.remove(id);
                Outcome::Destroyed
            }
        }
    }

    fn booted(&mut self, ctx: &mut Ctx, id: InstanceId, fails: bool) -> Outcome {
        let temper = self.temper(id);
        let (now, node) = (ctx.now(), self.index);
        let Some(machine) = self.host.machines.get_mut(&id) else { return failed(Reason::VmmStartFailed) };
        if fails {
            return failed(Reason::ConfigHandshakeFailed);
        }
        let boot = machine.boot;
        match temper {
            Temper::CannotStart => return failed(Reason::WorkloadStartFailed),
            Temper::NeverAnswers => {}
            Temper::Serves | Temper::Crashes | Temper::EndsWell => machine.sound_from = Some(now + ctx.ms(0..8_000)),
        }
        if ctx.mishap(0.1) {
            machine.falls_sick(ctx.ms(0..60_000), ctx.ms(1_000..120_000));
        }
        if matches!(temper, Temper::Crashes | Temper::EndsWell) {
            let wait = ctx.ms(100..5_000);
            ctx.after(wait, Happening::WorkloadEnds { node, id, boot });
        } else if ctx.mishap(0.2) {
            let wait = ctx.ms(100..100_000);
            ctx.after(wait, Happening::WorkloadEnds { node, id, boot });
        }
        Outcome::Started { boot, hello_ms: 150 }
    }

    fn temper(&self, id: InstanceId) -> Temper {
        let slot = self.mind.as_ref().and_then(|mind| mind.local.slots.get(&id));
        slot.map_or(Temper::Serves, |slot| Temper::of(&slot.workload))
    }

    fn probed(&self, ctx: &Ctx, id: InstanceId, fails: bool) -> Outcome {
        let sound = self.host.machines.get(&id).is_some_and(|machine| machine.is_sound(ctx.now()));
        Outcome::Probed { healthy: sound && !fails, detail: "no answer".to_owned() }
    }

    /// Whoever watches the machine says so too, before or never: the watch may end with the stop.
    fn stopped(&mut self, ctx: &mut Ctx, id: InstanceId) -> Outcome {
        if let Some(machine) = self.host.machines.remove(&id)
            && ctx.rng.bool()
            && let Some(mind) = &mut self.mind
        {
            mind.local.absorb(id, ended(machine.boot, Some(143)), ctx.now());
        }
        Outcome::Stopped { exit_code: Some(143) }
    }

    pub fn workload_ends(&mut self, ctx: &mut Ctx, id: InstanceId, boot: BootId) {
        if !self.host.runs(id, boot) {
            return;
        }
        ctx.note(Note::Machine(self.index, id, "ends by itself"));
        self.host.machines.remove(&id);
        let exit_code = if self.temper(id) == Temper::EndsWell { 0 } else { 1 };
        let slot = self.mind.as_ref().and_then(|mind| mind.local.slots.get(&id));
        if slot.is_some_and(|slot| slot.attached) {
            self.absorbs(ctx, id, ended(boot, Some(exit_code)));
        }
    }
}

fn failed(reason: Reason) -> Outcome {
    Outcome::Failed(Failure::new(reason, "as played"))
}

fn ended(boot: BootId, exit_code: Option<i32>) -> Outcome {
    Outcome::Ended { boot, exit_code, failure: Failure::new(Reason::WorkloadExited, "as played") }
}
