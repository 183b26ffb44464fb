//! A node: the real mind, and an executor that only plays. Its machines outlive it; of its memory, what was written down does.

use std::collections::BTreeMap;
use std::time::Duration;

use plfm_api::documents::{Followed, InstanceReport, PlanMessage, Report, ReportNumber};
use plfm_core::event::Capacity;
use plfm_core::ids::{InstanceId, NodeId};
use plfm_core::phase::{Desired, InstancePhase};
use plfm_core::units::Timestamp;
use plfm_node::mind::{Action, Hearing, Limits, Local, Plan, next_step, volumes};

use crate::coverage::Sort;
use crate::ctx::{Clock, Ctx, Happening};
use crate::host::Host;
use crate::scenario::Glitch;
use crate::trace::Note;

mod play;

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
    pub clock: Clock,
    life: u64,
    /// The memory as it was last written down.
    disk: Option<Vec<u8>>,
}

/// What is lost in a crash.
pub struct Mind {
    pub local: Local,
    pub plan: Plan,
    pub doing: BTreeMap<InstanceId, Action>,
    stream: Option<u64>,
    number: ReportNumber,
    told: Vec<InstanceReport>,
    looks_at: Option<Timestamp>,
}

impl Node {
    pub fn new(index: usize, id: NodeId, capacity: Capacity) -> Self {
        let host = Host::new(capacity.memory);
        let (mind, clock, disk) = (None, Clock::default(), None);
        Self { index, id, capacity, host, mind, is_cut_off: false, clock, life: 0, disk }
    }

    pub fn starts(&mut self, ctx: &mut Ctx) {
        ctx.note(Note::Node(self.index, "starts"));
        self.life += 1;
        let written = self.disk.take().map(|json| serde_json::from_slice(&json).expect("what was written can be read"));
        let local: Local = written.unwrap_or_else(|| Local::new(Limits::default()));
        let local = local.wake(Limits::default(), &self.host.observed(), self.clock.shows(ctx.now()));
        let number = ReportNumber { incarnation: local.life, number: 0 };
        self.mind = Some(Mind {
            local,
            plan: Plan::default(),
            doing: BTreeMap::new(),
            stream: None,
            number,
            told: Vec::new(),
            looks_at: None,
        });
        self.connects_soon(ctx, 0..2_000);
        let wait = ctx.ms(0..1_000);
        ctx.after(wait, Happening::Heartbeat { node: self.index, life: self.life });
        self.acts(ctx);
    }

    pub fn crashes(&mut self, ctx: &mut Ctx, down: Duration, forgets: bool) {
        let Some(mind) = self.mind.take() else { return };
        ctx.note(Note::Node(self.index, "crashes"));
        self.disk = (!forgets).then(|| serde_json::to_vec(&mind.local).expect("a memory has string keys"));
        ctx.after(down, Happening::NodeStarts(self.index));
    }

    /// It crashes by itself, for a moment.
    pub fn stumbles(&mut self, ctx: &mut Ctx) {
        let down = ctx.ms(1_000..20_000);
        self.crashes(ctx, down, false);
    }

    pub fn adopts(&mut self, ctx: &mut Ctx) {
        let Some(mind) = self.mind.as_mut().filter(|mind| mind.local.is_foreign(&mind.plan)) else { return };
        ctx.coverage.consequence("foreign log adopted");
        ctx.note(Note::Node(self.index, "is told to follow the log it hears of"));
        mind.local.adopt(&mind.plan);
        self.acts(ctx);
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

    /// Where it stands, if it looks for a server to tell it its plan.
    pub fn wants_stream(&mut self, life: u64) -> Option<Followed> {
        self.mind(life).filter(|mind| mind.stream.is_none()).map(|mind| mind.local.followed.into())
    }

    pub fn stream_breaks(&mut self, ctx: &mut Ctx, life: u64, stream: u64) {
        let Some(mind) = self.mind(life).filter(|mind| mind.stream == Some(stream)) else { return };
        mind.stream = None;
        self.connects_soon(ctx, 1_000..5_000);
    }

    pub fn hears(&mut self, ctx: &mut Ctx, life: u64, stream: u64, message: PlanMessage) {
        let cut_off = self.is_cut_off;
        let Some(mind) = self.mind(life).filter(|mind| mind.stream == Some(stream) && !cut_off) else { return };
        match mind.local.hear(&mut mind.plan, message) {
            Hearing::News => self.acts(ctx),
            Hearing::Old => {}
            Hearing::Astray => self.stream_breaks(ctx, life, stream),
        }
    }

    pub fn beats(&mut self, ctx: &mut Ctx, life: u64) {
        if self.mind(life).is_none() {
            return;
        }
        if ctx.calm {
            self.capacity.memory = self.host.memory;
            self.capacity.degraded.clear();
        }
        self.reports(ctx);
        ctx.after(HEARTBEAT, Happening::Heartbeat { node: self.index, life });
    }

    fn reports(&mut self, ctx: &mut Ctx) {
        let (index, id) = (self.index, self.id);
        let Some(mind) = &mut self.mind else { return };
        mind.number.number += 1;
        mind.told = mind.local.reports();
        let report = Report {
            number: mind.number,
            applied: mind.plan.position,
            capacity: self.capacity.clone(),
            images: mind.local.slots.values().map(|slot| slot.workload.image.digest).collect(),
            instances: mind.told.clone(),
            volumes: Some(self.host.volumes.clone()),
        };
        if self.is_cut_off || ctx.glitch(index, Glitch::ReportLost) {
            return;
        }
        if ctx.glitch(index, Glitch::ReportDoubled) {
            ctx.soon(1..40_000, Happening::ReportArrives(id, Box::new(report.clone())));
        }
        let late = if ctx.glitch(index, Glitch::ReportLate) { 30_000 } else { 150 };
        ctx.soon(1..late, Happening::ReportArrives(id, Box::new(report)));
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
        if let Some(mind) = &self.mind {
            let gone = volumes::to_remove(&mind.local, &mind.plan, &self.host.volumes);
            gone.iter().for_each(|volume| self.host.removes(ctx, self.index, *volume));
        }
        for _ in 0..STEPS_MAX {
            let Some(mind) = &self.mind else { return };
            let now = self.clock.shows(ctx.now());
            let actions = (ctx.minds.step)(&mind.local, &mind.plan, &self.host.observed(), now);
            if actions.is_empty() {
                return self.rests(ctx);
            }
            actions.into_iter().for_each(|action| self.begins(ctx, action));
        }
        ctx.violate(|| format!("node {} finds no end of things to do", self.index));
    }

    fn rests(&mut self, ctx: &mut Ctx) {
        let (node, life, clock) = (self.index, self.life, self.clock);
        let Some(mind) = &mut self.mind else { return };
        if let Some(at) = next_step(&mind.local, clock.shows(ctx.now())).map(|at| clock.when(at))
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
        let before = ctx.glitch(self.index, Glitch::CrashUnwritten).then(|| mind.local.clone());
        mind.local.begin(&action, &mind.plan, self.clock.shows(ctx.now()));
        if matches!(action, Action::Forget(_)) {
            return;
        }
        let twice = mind.doing.insert(action.instance(), action.clone());
        ctx.expect(twice.is_none(), || format!("{action:?} begins while {twice:?} is under way"));
        let begun = action.clone();
        self.executes(ctx, action);
        if let (Some(before), Some(mind)) = (before, &mut self.mind) {
            mind.local = before;
            ctx.coverage.crash(Sort::CrashBefore, &begun);
            self.stumbles(ctx);
        }
    }

    /// Nothing takes down a machine that serves and that is wanted, however late or doubled what was heard.
    fn judges(&self, ctx: &mut Ctx, action: &Action) {
        let (id, takes_down) = (action.instance(), matches!(action, Action::Stop { .. } | Action::Destroy(_)));
        let slot = self.mind.as_ref().and_then(|mind| mind.local.slots.get(&id));
        let serves = slot.is_some_and(|slot| {
            slot.status.phase == InstancePhase::Ready && slot.status.boot.is_some_and(|boot| self.host.runs(id, boot))
        });
        // What the plan of a log says that a backup has taken the place of, nobody remembers.
        let planned = self.mind.as_ref().and_then(|mind| mind.plan.position);
        let is_lost = planned.zip(ctx.lost).is_some_and(|(at, (log, kept))| at.log == log && at.seq > kept);
        let wanted = ctx.desired.get(&id) == Some(&Desired::Running) && !is_lost;
        let is_foreign = self.mind.as_ref().is_some_and(|mind| mind.local.is_foreign(&mind.plan));
        ctx.expect(!(takes_down && serves && wanted), || format!("{action:?} takes down what serves and is wanted"));
        ctx.expect(!(takes_down && serves && is_foreign), || format!("{action:?} is of another log"));
        let unready = matches!(action, Action::Boot(_)) && !slot.is_some_and(|slot| slot.prepared);
        ctx.expect(!unready, || format!("{action:?} boots what is not prepared"));
    }
}
