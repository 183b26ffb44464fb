//! The one writer as the server runs it: a batch is decided, stored, published; then the platform's own wishes, round after round.
//! Storing takes time, and it may crash before, between and after.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use plfm_api::documents::{Assignment, Newest, Report, assignments, next_message};
use plfm_core::command::Command;
use plfm_core::digest::Digest;
use plfm_core::event::Actor;
use plfm_core::evolve::evolve;
use plfm_core::facts::Facts;
use plfm_core::ids::{InstanceId, NodeId};
use plfm_core::reconcile::{FORGET_AFTER, NextRun, reconcile};
use plfm_core::refusal::{Refusal, RefusalClass};
use plfm_core::sequencer::{Origin, Sequencer};
use plfm_core::state::State;
use plfm_core::units::{Seq, Timestamp};
use plfm_store::{MemoryStore, Store};

use crate::ctx::{Ctx, Happening};
use crate::judge::Judge;
use crate::trace::Note;

/// More rounds than this after one batch, and `reconcile` does not come to rest.
const ROUNDS_MAX: u32 = 16;

#[derive(Default)]
pub struct Writer {
    pub store: MemoryStore,
    pub mind: Option<Mind>,
    life: u64,
    streams: u64,
}

/// What is lost in a crash.
pub struct Mind {
    sequencer: Sequencer,
    since: Timestamp,
    heard: BTreeMap<NodeId, Timestamp>,
    newest: Newest,
    inbox: VecDeque<Input>,
    busy: bool,
    rounds: u32,
    next_run: NextRun,
    looks_at: Option<Timestamp>,
    streams: BTreeMap<usize, Stream>,
}

enum Input {
    Command(Command),
    Report(NodeId, Report),
}

/// The plan as it is told to one node. What arrives of it is a beginning of what was sent, in order.
struct Stream {
    number: u64,
    node: NodeId,
    life: u64,
    sent: Option<BTreeMap<InstanceId, Assignment>>,
    arrived_at: Timestamp,
}

impl Writer {
    pub fn starts(&mut self, ctx: &mut Ctx, judge: &mut Judge) {
        let mut state = State::default();
        let log = self.store.read(Seq(0), usize::MAX).expect("a log in memory can be read");
        log.iter().for_each(|envelope| evolve(&mut state, envelope));
        ctx.expect(state == judge.state, || "replay differs from what was read along".to_owned());
        ctx.note(Note::Writer("starts"));
        self.life += 1;
        let mut mind = Mind::new(state, ctx.now());
        judge.writer_since = ctx.now();
        if judge.state.cluster.is_none() {
            mind.inbox.push_back(Input::Command(first()));
        }
        mind.inbox.push_back(Input::Command(Command::StartWriter));
        self.mind = Some(mind);
        self.work(ctx);
    }

    pub fn crashes(&mut self, ctx: &mut Ctx) {
        ctx.note(Note::Writer("crashes"));
        for (node, stream) in self.mind.take().into_iter().flat_map(|mind| mind.streams) {
            breaks(ctx, node, &stream);
        }
    }

    /// How many streams there have been.
    pub fn streams(&self) -> u64 {
        self.streams
    }

    pub fn is_idle(&self) -> bool {
        self.mind.as_ref().is_some_and(|mind| !mind.busy && mind.inbox.is_empty())
    }

    pub fn hears(&mut self, ctx: &mut Ctx, command: Command) {
        self.takes(ctx, Input::Command(command));
    }

    pub fn reported(&mut self, ctx: &mut Ctx, node: NodeId, report: Report) {
        self.takes(ctx, Input::Report(node, report));
    }

    pub fn looks(&mut self, ctx: &mut Ctx, life: u64) {
        let now = ctx.now();
        let due = |mind: &&mut Mind| self.life == life && mind.looks_at == Some(now);
        let Some(mind) = self.mind.as_mut().filter(due) else { return };
        mind.looks_at = None;
        if !mind.busy {
            self.work(ctx);
        }
    }

    fn takes(&mut self, ctx: &mut Ctx, input: Input) {
        let Some(mind) = &mut self.mind else { return };
        mind.inbox.push_back(input);
        if !mind.busy {
            self.work(ctx);
        }
    }

    fn work(&mut self, ctx: &mut Ctx) {
        let Some(mind) = &mut self.mind else { return };
        (mind.busy, mind.rounds) = (true, 0);
        while let Some(input) = mind.inbox.pop_front() {
            // Refusals are answers: to an operator that is too late, to a report on what has moved on.
            let _ = match input {
                Input::Command(command) => mind.decides(ctx, command, Actor::System),
                Input::Report(node, report) => mind.reported(ctx, node, report),
            };
        }
        self.goes_on(ctx);
    }

    /// Stores what was decided, or looks whether there is more to decide.
    fn goes_on(&mut self, ctx: &mut Ctx) {
        let Some(mind) = &mut self.mind else { return };
        if mind.sequencer.batch().is_empty() {
            mind.reconciles(ctx);
        }
        if !mind.sequencer.batch().is_empty() {
            let wait = ctx.ms(1..20);
            ctx.after(wait, Happening::BatchStored { life: self.life });
            return;
        }
        mind.busy = false;
        if !mind.inbox.is_empty() {
            self.work(ctx);
        } else if let Some(at) = mind.wants_to_look(ctx) {
            ctx.queue.at(at, Happening::WriterLooks { life: self.life });
        }
    }

    pub fn stored(&mut self, ctx: &mut Ctx, judge: &mut Judge, life: u64) {
        let Some(mind) = self.mind.as_mut().filter(|_| self.life == life) else { return };
        if ctx.fault("append failed", 0.005) {
            mind.sequencer.abandon();
            mind.busy = false;
            let again_at = ctx.now() + Duration::from_secs(1);
            mind.looks_at = Some(again_at);
            ctx.queue.at(again_at, Happening::WriterLooks { life });
            return;
        }
        self.store.append(mind.sequencer.batch()).expect("there is one writer");
        mind.sequencer.batch().iter().for_each(|envelope| judge.read(ctx, envelope));
        if ctx.fault("writer crashed between store and publish", 0.002) {
            ctx.after(Duration::ZERO, Happening::WriterCrashes);
            return;
        }
        let wait = ctx.ms(0..5);
        ctx.after(wait, Happening::BatchPublished { life });
    }

    pub fn published(&mut self, ctx: &mut Ctx, judge: &Judge, life: u64) {
        let Some(mind) = self.mind.as_mut().filter(|_| self.life == life) else { return };
        let state = mind.sequencer.commit();
        ctx.expect(*state == judge.state, || "what is published differs from its log".to_owned());
        mind.tells(ctx);
        self.goes_on(ctx);
    }

    /// A node asks for its plan; whether someone answers.
    pub fn connects(&mut self, ctx: &mut Ctx, index: usize, node: NodeId, life: u64) -> Option<u64> {
        let mind = self.mind.as_mut()?;
        self.streams += 1;
        let stream = Stream { number: self.streams, node, life, sent: None, arrived_at: ctx.now() };
        mind.streams.insert(index, stream);
        mind.tells(ctx);
        Some(self.streams)
    }

    pub fn loses(&mut self, ctx: &mut Ctx, node: usize) {
        if let Some(stream) = self.mind.as_mut().and_then(|mind| mind.streams.remove(&node)) {
            breaks(ctx, node, &stream);
        }
    }

    /// So long after the end that the state drops what ended.
    pub fn much_later(&mut self, ctx: &mut Ctx, judge: &mut Judge) {
        let Some(mind) = &mut self.mind else { return };
        let now = ctx.now() + FORGET_AFTER + FORGET_AFTER;
        ctx.queue.skip_to(now);
        mind.heard.values_mut().for_each(|heard| *heard = now);
        mind.reconciles(ctx);
        mind.sequencer.batch().iter().for_each(|envelope| judge.read(ctx, envelope));
        let left = judge.state.instances.values().filter(|instance| !instance.holds_resources()).count();
        ctx.expect(left == 0, || format!("{left} instances that ended long ago are still in the state"));
    }
}

impl Mind {
    fn new(state: State, since: Timestamp) -> Self {
        Self {
            sequencer: Sequencer::new(state),
            since,
            heard: BTreeMap::new(),
            newest: Newest::default(),
            inbox: VecDeque::new(),
            busy: false,
            rounds: 0,
            next_run: None,
            looks_at: None,
            streams: BTreeMap::new(),
        }
    }

    fn facts(&self, ctx: &mut Ctx) -> Facts {
        Facts { now: ctx.now(), entropy: ctx.rng.u128(..), writer_since: self.since, heard: self.heard.clone() }
    }

    fn decides(&mut self, ctx: &mut Ctx, command: Command, actor: Actor) -> Result<Seq, Refusal> {
        let facts = self.facts(ctx);
        let origin = Origin { actor, request: facts.ids().fresh(), cause: None };
        self.sequencer.submit(command, origin, &facts)
    }

    fn reported(&mut self, ctx: &mut Ctx, node: NodeId, report: Report) -> Result<Seq, Refusal> {
        if !self.newest.admit(node, report.number) {
            return Ok(self.sequencer.tentative().seq);
        }
        self.heard.insert(node, ctx.now());
        let instances = report.instances.into_iter().map(|it| (it.instance, it.status)).collect();
        let command = Command::Observe { node, capacity: Some(report.capacity), instances };
        let decided = self.decides(ctx, command, Actor::Node(node));
        ctx.expect(decided.is_ok(), || format!("an honest report is refused: {decided:?}"));
        decided
    }

    fn reconciles(&mut self, ctx: &mut Ctx) {
        self.rounds += 1;
        ctx.expect(self.rounds <= ROUNDS_MAX, || "reconcile does not come to rest".to_owned());
        let (commands, next_run) = reconcile(self.sequencer.tentative(), &self.facts(ctx));
        self.next_run = next_run;
        for command in commands {
            let decided = self.decides(ctx, command.clone(), Actor::System);
            let fits = decided.as_ref().err().is_none_or(|refusal| refusal.class() == RefusalClass::Stale);
            ctx.expect(fits, || format!("the platform refuses its own {command:?}: {decided:?}"));
        }
    }

    /// The next moment to look at without being asked, unless that is settled already.
    fn wants_to_look(&mut self, ctx: &Ctx) -> Option<Timestamp> {
        let next_run = self.next_run?.max(ctx.now() + Duration::from_millis(1));
        let sooner = self.looks_at.is_none_or(|at| next_run < at);
        self.looks_at = if sooner { Some(next_run) } else { self.looks_at };
        sooner.then_some(next_run)
    }

    /// Tells each node what is new for it.
    fn tells(&mut self, ctx: &mut Ctx) {
        let state = self.sequencer.state().clone();
        let Some(position) = state.position() else { return };
        let mut broken = Vec::new();
        for (index, stream) in &mut self.streams {
            let wanted = assignments(&state, stream.node);
            let Some(message) = next_message(position, stream.sent.as_ref(), &wanted) else { continue };
            if ctx.fault("plan stream broken", 0.02) {
                broken.push(*index);
                continue;
            }
            stream.sent = Some(wanted);
            let late = if ctx.mishap(0.02) { 15_000 } else { 100 };
            stream.arrived_at = (ctx.now() + ctx.ms(1..late)).max(stream.arrived_at);
            let arrives = |message| Happening::PlanArrives {
                node: *index,
                life: stream.life,
                stream: stream.number,
                message: Box::new(message),
            };
            if ctx.fault("plan message doubled", 0.05) {
                let again = stream.arrived_at + ctx.ms(0..20_000);
                ctx.queue.at(again, arrives(message.clone()));
            }
            ctx.queue.at(stream.arrived_at, arrives(message));
        }
        for index in broken {
            let stream = self.streams.remove(&index).expect("it was found among them");
            breaks(ctx, index, &stream);
        }
    }
}

fn first() -> Command {
    let prefix = "fd00:706c::".parse().expect("it is an address");
    Command::Bootstrap { domain: "example.com".to_owned(), prefix, admin: Digest::of(b"admin") }
}

/// The node notices after a while.
fn breaks(ctx: &mut Ctx, node: usize, stream: &Stream) {
    let wait = ctx.ms(10..10_000);
    ctx.after(wait, Happening::StreamBreaks { node, life: stream.life, stream: stream.number });
}
