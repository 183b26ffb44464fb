//! A server: it follows the log, and writes it while it holds the lease. What decides is the real [`Desk`]; storing takes time, and
//! it may crash, sleep, or lose the log before, between and after.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use plfm_api::documents::{Newest, Report};
use plfm_core::command::Command;
use plfm_core::digest::Digest;
use plfm_core::event::{Actor, Envelope};
use plfm_core::evolve::evolve;
use plfm_core::ids::{NodeId, RequestId};
use plfm_core::reconcile::FORGET_AFTER;
use plfm_core::refusal::{Refusal, RefusalClass};
use plfm_core::sequencer::desk::{Ask, Desk, Found, ROUNDS_MAX};
use plfm_core::state::State;
use plfm_core::units::{Seq, Timestamp};
use plfm_store::StoreError;

use crate::ctx::{Clock, Ctx, Happening, ServerEvent};
use crate::disk::{Disk, Write};
use crate::scenario::Append;
use crate::trace::Note;

pub mod streams;

use streams::Streams;

const TICK: Duration = Duration::from_secs(1);

pub struct Server {
    pub index: usize,
    pub mind: Option<Mind>,
    pub clock: Clock,
    /// It does nothing before.
    pub sleeps_until: Timestamp,
    /// From the log.
    pub is_cut_off: bool,
    pub life: u64,
}

/// What is lost in a crash.
pub struct Mind {
    pub desk: Desk,
    pub is_writer: bool,
    /// The first batch of its term is not durable yet.
    opens: bool,
    newest: Newest,
    inbox: VecDeque<Input>,
    /// In the order of what the desk was asked: those in flight first.
    answers: Vec<(RequestId, Result<Seq, Refusal>)>,
    /// Of those, so many are in flight.
    launched: usize,
    busy: bool,
    /// Of what the log says: it decides nothing until it has read that.
    is_unsure: bool,
    rounds: usize,
    looks_at: Option<Timestamp>,
    pub streams: Streams,
}

enum Input {
    Ask(Ask),
    Report(NodeId, Report),
}

/// What clients were told: it is durable.
pub type Acknowledged = Vec<(RequestId, Seq)>;

impl Server {
    pub fn new(index: usize) -> Self {
        let (mind, clock, sleeps_until) = (None, Clock::default(), Timestamp::default());
        Self { index, mind, clock, sleeps_until, is_cut_off: false, life: 0 }
    }

    pub fn starts(&mut self, ctx: &mut Ctx, disk: &Disk) {
        ctx.note(Note::Server(self.index, "starts"));
        self.life += 1;
        let mut state = State::default();
        disk.tail(Seq(0)).iter().for_each(|envelope| evolve(&mut state, envelope));
        self.mind = Some(Mind::new(Desk::new(state, self.clock.shows(ctx.now()), ctx.minds.rules)));
        self.wait(ctx, 0..500, ServerEvent::Ticks);
    }

    pub fn crashes(&mut self, ctx: &mut Ctx) {
        ctx.note(Note::Server(self.index, "crashes"));
        if let Some(mind) = self.mind.take() {
            mind.streams.all_break(ctx);
        }
    }

    fn wait(&self, ctx: &mut Ctx, range: std::ops::Range<u64>, what: ServerEvent) {
        ctx.soon(range, Happening::Server { server: self.index, life: self.life, what });
    }

    pub fn is_writer(&self) -> bool {
        self.mind.as_ref().is_some_and(|mind| mind.is_writer)
    }

    pub fn is_idle(&self) -> bool {
        self.mind.as_ref().is_some_and(|mind| mind.is_writer && !mind.busy && mind.inbox.is_empty())
    }

    pub fn happens(&mut self, ctx: &mut Ctx, disk: &mut Disk, what: ServerEvent) -> Acknowledged {
        match what {
            ServerEvent::Ticks => self.ticks(ctx, disk),
            ServerEvent::Looks => self.looks(ctx),
            ServerEvent::Writes => self.writes(ctx, disk),
            ServerEvent::Stored => return self.stored(ctx),
            ServerEvent::NotStored => return self.not_stored(ctx, disk),
            ServerEvent::Follows => self.follows(ctx, disk),
        }
        Acknowledged::new()
    }

    fn ticks(&mut self, ctx: &mut Ctx, disk: &mut Disk) {
        ctx.after(TICK, Happening::Server { server: self.index, life: self.life, what: ServerEvent::Ticks });
        let Some(mind) = &mut self.mind else { return };
        if self.is_cut_off || disk.is_down {
            return;
        }
        let holds = disk.holds(self.index, ctx.now());
        if holds && !mind.is_writer {
            self.takes_over(ctx, disk);
        } else if !holds && mind.is_writer && !mind.busy {
            ctx.note(Note::Server(self.index, "steps down"));
            mind.is_writer = false;
            mind.inbox.clear();
        }
        self.becomes_sure(ctx, disk);
        self.follows(ctx, disk);
    }

    fn takes_over(&mut self, ctx: &mut Ctx, disk: &Disk) {
        self.follows(ctx, disk);
        let now = self.clock.shows(ctx.now());
        let Some(mind) = &mut self.mind else { return };
        ctx.note(Note::Server(self.index, "takes over"));
        mind.desk = Desk::new(State::clone(mind.desk.state()), now, ctx.minds.rules);
        (mind.is_writer, mind.opens, mind.is_unsure, mind.newest) = (true, true, false, Newest::default());
        let first = (mind.desk.state().cluster.is_none()).then(first);
        let log = disk.is_restored.then_some(Command::StartLog);
        for command in first.into_iter().chain(log).chain([Command::StartWriter]) {
            let request = mind.desk.heard().facts(now, ctx.rng.u128(..)).ids().fresh();
            mind.inbox.push_back(Input::Ask(Ask { command, actor: Actor::System, request }));
        }
        if mind.desk.state().term.0 > 0 {
            ctx.coverage.consequence("fail-over");
        }
        self.works(ctx);
    }

    /// Takes in what others wrote.
    fn follows(&mut self, ctx: &mut Ctx, disk: &Disk) {
        let Some(mind) = self.mind.as_mut().filter(|mind| !mind.is_writer) else { return };
        let tail = disk.tail(mind.desk.state().seq);
        if !self.is_cut_off && !disk.is_down && !tail.is_empty() {
            mind.desk.failed();
            mind.desk.overtaken(&tail, self.clock.shows(ctx.now()), &mut || 0);
            mind.streams.tell(ctx, &mind.desk.state().clone());
        }
    }

    pub fn asked(&mut self, ctx: &mut Ctx, ask: Ask) {
        self.takes(ctx, Input::Ask(ask));
    }

    pub fn reported(&mut self, ctx: &mut Ctx, node: NodeId, report: Report) {
        self.takes(ctx, Input::Report(node, report));
    }

    fn takes(&mut self, ctx: &mut Ctx, input: Input) {
        let Some(mind) = self.mind.as_mut().filter(|mind| mind.is_writer && !mind.is_unsure) else { return };
        mind.inbox.push_back(input);
        // What comes while something is being stored is decided on top of it, or a moment later.
        if !mind.busy || ctx.rng.bool() {
            self.works(ctx);
        }
    }

    fn looks(&mut self, ctx: &mut Ctx) {
        let Some(mind) = self.mind.as_mut().filter(|mind| mind.is_writer) else { return };
        // One that a sooner look has overtaken finds that already set anew.
        if mind.looks_at.is_some_and(|at| at <= ctx.queue.now()) {
            mind.looks_at = None;
            if !mind.busy && !mind.is_unsure {
                self.works(ctx);
            }
        }
    }

    fn works(&mut self, ctx: &mut Ctx) {
        let now = self.clock.shows(ctx.now());
        let Some(mind) = &mut self.mind else { return };
        (mind.busy, mind.rounds) = (true, 0);
        while let Some(input) = mind.inbox.pop_front() {
            match input {
                Input::Ask(ask) => mind.decides(ctx, ask, now),
                Input::Report(node, report) => mind.reported(ctx, node, report, now),
            }
        }
        self.goes_on(ctx);
    }

    /// Stores what was decided, and looks meanwhile whether there is more to decide.
    fn goes_on(&mut self, ctx: &mut Ctx) {
        let now = self.clock.shows(ctx.now());
        let Some(mind) = &mut self.mind else { return };
        let begins = mind.launches();
        if mind.desk.batch().is_empty() {
            mind.reconciles(ctx, now);
        }
        if begins || mind.launches() {
            return self.wait(ctx, 1..10, ServerEvent::Writes);
        }
        if mind.desk.in_flight().is_some() {
            return;
        }
        mind.desk.stored();
        mind.answers.clear();
        mind.busy = false;
        if !mind.inbox.is_empty() {
            self.works(ctx);
        } else if let Some(at) = mind.desk.next_run() {
            let at = self.clock.when(at).max(ctx.now() + Duration::from_millis(1));
            self.looks_again(ctx, at);
        }
    }

    fn looks_again(&mut self, ctx: &mut Ctx, at: Timestamp) {
        let Some(mind) = &mut self.mind else { return };
        if mind.looks_at.is_none_or(|known| at < known) {
            mind.looks_at = Some(at);
            ctx.queue.at(at, Happening::Server { server: self.index, life: self.life, what: ServerEvent::Looks });
        }
    }

    fn writes(&mut self, ctx: &mut Ctx, disk: &mut Disk) {
        let now = self.clock.shows(ctx.now());
        let Some(mind) = &mut self.mind else { return };
        if self.is_cut_off || disk.is_down || full(ctx) {
            drop(self.not_stored(ctx, disk));
            return;
        }
        let since = mind.desk.heard().since;
        let Some(batch) = mind.desk.in_flight().map(|batch| batch.to_vec()) else { return };
        let write = Write { server: self.index, life: self.life, since, batch };
        match disk.write(write) {
            Ok(()) => {
                ctx.soon(1..10, Happening::LogSyncs { life: disk.life });
                disk.crashes_at_write.take().into_iter().for_each(|down| ctx.after(Duration::ZERO, down));
            }
            Err(StoreError::Conflict { .. }) if disk.is_quiet() => {
                ctx.coverage.consequence("overtaken by another writer");
                ctx.note(Note::Server(self.index, "is overtaken"));
                let tail = disk.tail(mind.desk.state().seq);
                mind.overtaken(ctx, &tail, now);
                self.goes_on(ctx);
            }
            // What came before is not durable yet: the store makes the second wait.
            Err(_) => self.wait(ctx, 1..10, ServerEvent::Writes),
        }
    }

    fn stored(&mut self, ctx: &mut Ctx) -> Acknowledged {
        let Some(mind) = &mut self.mind else { return Acknowledged::new() };
        mind.opens = false;
        // What was so already is no news, and leaves nothing in the log to look for.
        let flown = mind.desk.in_flight().cloned().unwrap_or_default();
        let news: BTreeSet<RequestId> = flown.iter().map(|envelope| envelope.request).collect();
        let state = mind.desk.stored();
        let answers: Vec<_> = mind.answers.drain(..std::mem::take(&mut mind.launched)).collect();
        mind.streams.tell(ctx, &state);
        self.goes_on(ctx);
        let answers = answers.into_iter().filter(|(request, _)| news.contains(request));
        answers.filter_map(|(request, answer)| Some((request, answer.ok()?))).collect()
    }

    /// As far as it was told: what the log says is read, and until it can be nothing is decided.
    fn not_stored(&mut self, ctx: &mut Ctx, disk: &Disk) -> Acknowledged {
        let is_blind = self.is_cut_off || disk.is_down;
        let now = self.clock.shows(ctx.now());
        let Some(mind) = &mut self.mind else { return Acknowledged::new() };
        let tail = disk.tail(mind.desk.state().seq);
        match mind.desk.found(&tail) {
            _ if is_blind => mind.is_unsure = true,
            Found::Stored => {
                ctx.coverage.consequence("what was said to have failed was stored");
                return self.stored(ctx);
            }
            Found::Others => {
                mind.overtaken(ctx, &tail, now);
                self.goes_on(ctx);
                return Acknowledged::new();
            }
            Found::Nothing => {}
        }
        mind.desk.failed();
        mind.answers.clear();
        (mind.launched, mind.busy) = (0, false);
        // Without its opening it is no writer; it tries to become one again.
        mind.is_writer &= !mind.opens;
        // What the platform itself began to say, it says again.
        let at = ctx.now() + Duration::from_secs(1);
        self.looks_again(ctx, at);
        Acknowledged::new()
    }

    /// What it could not read when it had to.
    fn becomes_sure(&mut self, ctx: &mut Ctx, disk: &Disk) {
        let now = self.clock.shows(ctx.now());
        let Some(mind) = self.mind.as_mut().filter(|mind| mind.is_unsure) else { return };
        mind.is_unsure = false;
        let tail = disk.tail(mind.desk.state().seq);
        mind.overtaken(ctx, &tail, now);
        self.works(ctx);
    }

    /// So long after the end that the state drops what ended.
    pub fn much_later(&mut self, ctx: &mut Ctx) -> Vec<Envelope> {
        let now = ctx.now() + FORGET_AFTER + FORGET_AFTER;
        ctx.queue.skip_to(now);
        let Some(mind) = &mut self.mind else { return Vec::new() };
        let now = self.clock.shows(now);
        mind.reconciles(ctx, now);
        mind.desk.batch().to_vec()
    }
}

fn full(ctx: &mut Ctx) -> bool {
    let full = ctx.appends.iter().position(|glitch| *glitch == Append::Full);
    full.is_some_and(|index| {
        ctx.coverage.append(&ctx.appends.remove(index));
        true
    })
}

impl Mind {
    fn new(desk: Desk) -> Self {
        Self {
            desk,
            is_writer: false,
            opens: false,
            newest: Newest::default(),
            inbox: VecDeque::new(),
            answers: Vec::new(),
            launched: 0,
            busy: false,
            is_unsure: false,
            rounds: 0,
            looks_at: None,
            streams: Streams::default(),
        }
    }

    fn overtaken(&mut self, ctx: &mut Ctx, tail: &[Envelope], now: Timestamp) {
        let decided = self.desk.overtaken(tail, now, &mut || ctx.rng.u128(..));
        self.answers.iter_mut().zip(decided).for_each(|((_, answer), decided)| *answer = decided);
        self.launched = 0;
        self.streams.tell(ctx, &self.desk.state().clone());
    }

    /// Whether something is to be stored that was not before.
    fn launches(&mut self) -> bool {
        let launched = self.desk.launch().is_some();
        if launched {
            self.launched = self.answers.len();
        }
        launched
    }

    fn decides(&mut self, ctx: &mut Ctx, ask: Ask, now: Timestamp) {
        ctx.coverage.command(&ask.command);
        let request = ask.request;
        let decided = self.desk.ask(ask, now, ctx.rng.u128(..));
        self.answers.push((request, decided));
    }

    fn reported(&mut self, ctx: &mut Ctx, node: NodeId, report: Report, now: Timestamp) {
        if !self.newest.admit(node, report.number) {
            return;
        }
        self.desk.hears(node, report.images, now);
        let request = self.desk.heard().facts(now, ctx.rng.u128(..)).ids().fresh();
        let instances = report.instances.into_iter().map(|it| (it.instance, it.status)).collect();
        let command = Command::Observe { node, capacity: Some(report.capacity), instances, volumes: report.volumes };
        self.decides(ctx, Ask { command, actor: Actor::Node(node), request }, now);
        let refused = self.answers.last().and_then(|(_, decided)| decided.clone().err());
        ctx.expect(refused.is_none(), || format!("an honest report is refused: {refused:?}"));
    }

    fn reconciles(&mut self, ctx: &mut Ctx, now: Timestamp) {
        self.rounds += 1;
        ctx.expect(self.rounds <= ROUNDS_MAX, || "reconcile does not come to rest".to_owned());
        for (command, decided) in self.desk.reconcile(now, &mut || ctx.rng.u128(..)) {
            ctx.coverage.command(&command);
            let fits = decided.as_ref().err().is_none_or(|refusal| refusal.class() == RefusalClass::Stale);
            ctx.expect(fits, || format!("the platform refuses its own {command:?}: {decided:?}"));
        }
    }
}

fn first() -> Command {
    let prefix = "fd00:706c::".parse().expect("it is an address");
    Command::Bootstrap { domain: "example.com".to_owned(), prefix, admin: Digest::of(b"admin") }
}
