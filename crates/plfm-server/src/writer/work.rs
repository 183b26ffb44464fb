//! The writer's thread decides, another one stores: while one batch is on its way to the disk, the next is decided on top of it.
//!
//! ```text
//!   inbox ─▶ decide, and let the platform decide ─▶ launch ─▶ [append] ─▶ publish ─▶ answer
//!                     ▲                                           │
//!                     └── meanwhile the next ◀────────────────────┘
//! ```

use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never, select_biased};
use plfm_api::documents::{IMAGES_MAX, Newest, Report};
use plfm_core::check::check;
use plfm_core::command::Command;
use plfm_core::event::{Actor, Envelope};
use plfm_core::ids::{NodeId, RequestId};
use plfm_core::reason::chain;
use plfm_core::refusal::Refusal;
use plfm_core::sequencer::desk::{Ask, Desk, Found, Heard, ROUNDS_MAX, Rules};
use plfm_core::state::State;
use plfm_core::units::{Seq, Timestamp};
use plfm_store::{Store, StoreError};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{mpsc, watch};

use super::{Input, PAGE, QUEUE_MAX, Reply, SubmitError, now};

/// Commands of one transaction at most: enough to pay for an fsync, few enough to answer soon.
const BATCH_MAX: usize = 1_000;
/// Fewer are not worth an fsync of their own while others wait.
const SHARE_MIN: usize = 32;
/// Nobody waits longer than this for the other half to be stored.
const TURN_MAX: Duration = Duration::from_millis(20);
/// So long a thread looks for the other's next word before it sleeps: to be woken can take as long as to decide a whole batch.
const SPIN_MAX: Duration = Duration::from_micros(100);
/// So often a batch is decided again when another writer was faster; two that both write take turns.
const TRIES_MAX: usize = 8;
/// Without anything to do it looks this often.
const LOOK_MAX: Duration = Duration::from_secs(60);

type Batch = Arc<Vec<Envelope>>;

pub struct Work {
    inbox: Receiver<Input>,
    store: Arc<dyn Store>,
    /// To the thread that stores, and back; both ends of it go with this one.
    launch: Sender<Batch>,
    landed: Receiver<Result<(), StoreError>>,
    /// To the task that answers.
    told: mpsc::UnboundedSender<Vec<Answer>>,
    desk: Desk,
    pub publish: watch::Sender<Arc<State>>,
    pub heard: watch::Sender<Heard>,
    newest: Newest,
    entropy: Entropy,
    look_at: Option<Timestamp>,
    /// Something was decided since the platform was last asked what it wants.
    is_news: bool,
    /// It was asked since the last launch; once while something is stored is enough for what is new.
    was_asked: bool,
    launched_at: Instant,
    /// Someone was heard who is not told of yet.
    heard_someone: bool,
    /// In which it wanted something, without being asked anything in between.
    rounds: usize,
    tries: usize,
    /// Why it is not known what the log says: until it is, nobody is told anything, for it may be untrue.
    unsure: Option<String>,
    /// Whom the batch in flight answers, then whom the next does; in the order of what the desk was asked.
    flying: Vec<Answer>,
    waiting: Vec<Answer>,
}

/// What was decided, for whom; for nobody where the platform asked itself.
struct Answer {
    reply: Option<Reply>,
    decided: Result<Seq, Refusal>,
}

impl Work {
    /// A writer that has written its first word. An empty log is bootstrapped with `first`.
    pub fn open(
        store: Arc<dyn Store>,
        state: State,
        first: Command,
        inbox: Receiver<Input>,
    ) -> Result<Self, SubmitError> {
        let desk = Desk::new(state, now(), Rules::default());
        let publish = watch::Sender::new(desk.state().clone());
        let heard = watch::Sender::new(desk.heard());
        let (launch, landed) = storing(store.clone());
        let mut work = Self {
            inbox,
            store,
            launch,
            landed,
            told: answering(),
            desk,
            publish,
            heard,
            newest: Newest::default(),
            entropy: Entropy::default(),
            look_at: None,
            is_news: true,
            was_asked: false,
            launched_at: Instant::now(),
            heard_someone: true,
            rounds: 0,
            tries: 0,
            unsure: None,
            flying: Vec::new(),
            waiting: Vec::new(),
        };
        let first = work.desk.state().cluster.is_none().then_some(first);
        for command in first.into_iter().chain([Command::StartWriter]) {
            work.write_now(command)?;
        }
        Ok(work)
    }

    /// Before anyone else may ask.
    fn write_now(&mut self, command: Command) -> Result<(), SubmitError> {
        let request = Heard::default().facts(now(), self.entropy.next()).ids().fresh();
        let decided = self.ask(command, Actor::System, request);
        decided.as_ref().map_err(Refusal::clone)?;
        self.waiting.push(Answer { reply: None, decided });
        while let Some(batch) = self.desk.launch() {
            self.flying = std::mem::take(&mut self.waiting);
            self.land(self.store.append(&batch)).map_err(SubmitError::Store)?;
        }
        Ok(())
    }

    pub fn run(mut self) {
        let mut is_stopping = false;
        loop {
            self.lift_off();
            if self.is_slow() {
                self.tell_whom_it_heard();
            }
            let is_due = self.is_news && !self.was_asked || self.look_at.is_some_and(|at| now() >= at);
            if !is_stopping && is_due {
                self.reconcile();
                self.lift_off();
            }
            let flies = self.desk.in_flight().is_some();
            if is_stopping && !flies {
                return;
            }
            let look = self.look_at.map_or(LOOK_MAX, |at| at.since(now()));
            let has_enough = flies && self.room() == 0;
            let look = if has_enough { look.min(TURN_MAX) } else { look };
            let inbox = if is_stopping || has_enough { never() } else { self.inbox.clone() };
            if flies {
                spin_until(|| !self.landed.is_empty() || !inbox.is_empty());
            }
            select_biased! {
                recv(self.landed) -> landed => match landed {
                    // Who asked has been told.
                    Ok(landed) => drop(self.land(landed)),
                    // The thread that stores has ended: nothing can be promised any more.
                    Err(_) => return,
                },
                recv(inbox) -> input => match input {
                    Ok(input) => is_stopping = self.take(input),
                    Err(_) => is_stopping = true,
                },
                default(look) => {}
            }
        }
    }

    /// What may still be decided for the next batch. When the disk stalls nobody waits to be heard: a node that is not would be
    /// taken for silent.
    fn room(&self) -> usize {
        if self.is_slow() {
            return QUEUE_MAX.saturating_sub(self.waiting.len());
        }
        share(self.flying.len(), self.waiting.len(), self.inbox.len())
    }

    fn is_slow(&self) -> bool {
        self.launched_at.elapsed() >= TURN_MAX
    }

    /// What waits, decided, as far as there is room; whether it was asked to stop.
    fn take(&mut self, first: Input) -> bool {
        let (mut old, mut is_stopping) = (Vec::new(), false);
        let (inbox, is_sure) = (self.inbox.clone(), self.is_sure());
        for input in std::iter::once(first).chain(inbox.try_iter()).take(self.room().max(1)) {
            let (decided, reply) = match input {
                Input::Command(.., reply) if !is_sure => {
                    self.refuse(reply);
                    continue;
                }
                Input::Report(node, report, _, reply) if !is_sure => {
                    self.hear(node, &report);
                    self.refuse(reply);
                    continue;
                }
                Input::Command(command, actor, request, reply) => (Some(self.ask(*command, actor, request)), reply),
                Input::Report(node, report, request, reply) => (self.report(node, *report, request), reply),
                Input::Stop => {
                    is_stopping = true;
                    continue;
                }
            };
            match decided {
                Some(decided) => self.waiting.push(Answer { reply: Some(reply), decided }),
                None => old.push(reply),
            }
            // The disk has nothing to do.
            if !self.landed.is_empty() {
                break;
            }
        }
        (self.is_news, self.rounds) = (true, 0);
        let seq = self.desk.state().seq;
        old.into_iter().for_each(|reply| drop(reply.send(Ok(seq))));
        is_stopping
    }

    /// None for a report that is no news.
    fn report(&mut self, node: NodeId, report: Report, request: RequestId) -> Option<Result<Seq, Refusal>> {
        if !self.newest.admit(node, report.number) {
            return None;
        }
        self.hear(node, &report);
        let instances = report.instances.into_iter().map(|it| (it.instance, it.status)).collect();
        let command = Command::Observe { node, capacity: Some(report.capacity), instances, volumes: report.volumes };
        Some(self.ask(command, Actor::Node(node), request))
    }

    fn hear(&mut self, node: NodeId, report: &Report) {
        self.heard_someone = true;
        self.desk.hears(node, report.images.iter().take(IMAGES_MAX).copied().collect(), now());
    }

    fn refuse(&self, reply: Reply) {
        let why = self.unsure.clone().unwrap_or_default();
        drop(reply.send(Err(SubmitError::Store(why))));
    }

    fn ask(&mut self, command: Command, actor: Actor, request: RequestId) -> Result<Seq, Refusal> {
        self.desk.ask(Ask { command, actor, request }, now(), self.entropy.next())
    }

    /// One round of what the platform itself wants, on top of all that is decided.
    fn reconcile(&mut self) {
        if !self.is_sure() {
            (self.is_news, self.look_at) = (false, Some(now() + Duration::from_secs(1)));
            return;
        }
        if self.rounds > ROUNDS_MAX {
            (self.is_news, self.look_at) = (false, Some(now() + Duration::from_secs(1)));
            self.rounds = 0;
            return;
        }
        let before = self.desk.batch().len();
        let entropy = &mut self.entropy;
        let wishes = self.desk.reconcile(now(), &mut || entropy.next());
        for refusal in wishes.into_iter().filter_map(|(_, decided)| decided.err()) {
            tracing::debug!(%refusal, "the platform's own command no longer fits");
        }
        self.look_at = self.desk.next_run();
        self.is_news = self.desk.batch().len() > before;
        self.rounds += usize::from(self.is_news);
        self.was_asked = self.desk.in_flight().is_some();
    }

    /// Once for many: with many nodes, the map is dear.
    fn tell_whom_it_heard(&mut self) {
        let since = self.desk.since();
        if self.heard_someone || self.heard.borrow().since != since {
            self.heard.send_replace(self.desk.heard());
            self.heard_someone = false;
        }
    }

    /// Keeps the thread that stores busy, if it has nothing to do.
    fn lift_off(&mut self) {
        if self.desk.in_flight().is_none() {
            self.launch();
            self.settle();
        }
    }

    fn launch(&mut self) {
        self.was_asked = false;
        if let Some(batch) = self.desk.launch() {
            self.flying = std::mem::take(&mut self.waiting);
            self.launched_at = Instant::now();
            // It has nothing to do, so there is room; if it has ended, `landed` says so.
            drop(self.launch.send(batch));
        }
    }

    /// Answers those who asked for nothing new: what is published was true already.
    fn settle(&mut self) {
        self.tell_whom_it_heard();
        if self.desk.in_flight().is_none() {
            self.desk.stored();
            let answers = std::mem::take(&mut self.waiting);
            self.tell(answers);
        }
    }

    /// What came of the batch in flight; why it could not be stored.
    fn land(&mut self, landed: Result<(), StoreError>) -> Result<(), String> {
        match landed {
            Ok(()) => {
                self.tries = 0;
                self.announce();
                Ok(())
            }
            Err(StoreError::Conflict { .. }) if self.tries < TRIES_MAX => {
                self.tries += 1;
                match self.tail() {
                    Ok(tail) => self.is_overtaken(&tail),
                    Err(error) => {
                        let why = chain(&error);
                        self.unsure = Some(why.clone());
                        return Err(self.give_up(&why));
                    }
                }
                Ok(())
            }
            Err(StoreError::Conflict { .. }) => Err(self.give_up("other servers write all the time")),
            Err(error) => self.look_back(&chain(&error)),
        }
    }

    /// An append that failed may have been stored all the same.
    fn look_back(&mut self, why: &str) -> Result<(), String> {
        let tail = match self.tail() {
            Ok(tail) => tail,
            Err(_) => {
                self.unsure = Some(why.to_owned());
                return Err(self.give_up(why));
            }
        };
        match self.desk.found(&tail) {
            Found::Stored => self.announce(),
            Found::Nothing => return Err(self.give_up(why)),
            Found::Others => self.is_overtaken(&tail),
        }
        Ok(())
    }

    /// Whether it knows what the log says; if not, it reads it.
    fn is_sure(&mut self) -> bool {
        if self.unsure.is_none() {
            return true;
        }
        let Ok(tail) = self.tail() else { return false };
        self.unsure = None;
        self.is_overtaken(&tail);
        true
    }

    /// The disk gets something to do before anybody is told: all that follows here it would wait for.
    fn announce(&mut self) {
        let (events, answers) = (self.desk.in_flight().cloned(), std::mem::take(&mut self.flying));
        let state = self.desk.stored();
        debug_assert_eq!(check(&state), [], "a decision broke an invariant");
        self.launch();
        self.publish.send_replace(state);
        self.settle();
        events.iter().flat_map(|batch| batch.iter()).for_each(trace);
        self.tell(answers);
    }

    fn tell(&self, answers: Vec<Answer>) {
        // Nobody is left to be told when the runtime has ended.
        drop(self.told.send(answers));
    }

    /// As if nothing of it, or after it, had been asked; what is true already needs no storing.
    fn give_up(&mut self, why: &str) -> String {
        tracing::error!(why, "decisions were not stored");
        self.desk.failed();
        self.tries = 0;
        // What the platform itself began to say, it says again.
        (self.is_news, self.look_at) = (false, Some(now() + Duration::from_secs(1)));
        for Answer { reply, decided } in self.flying.drain(..).chain(self.waiting.drain(..)) {
            let answer = decided.map_err(SubmitError::from).and_then(|_| Err(SubmitError::Store(why.to_owned())));
            reply.map(|reply| reply.send(answer));
        }
        why.to_owned()
    }

    /// What the log has beyond what is published.
    fn tail(&self) -> Result<Vec<Envelope>, StoreError> {
        let mut tail = Vec::new();
        loop {
            let seq = tail.last().map_or(self.desk.state().seq, |last: &Envelope| last.seq);
            let page = self.store.read(seq, PAGE)?;
            let is_last = page.len() < PAGE;
            tail.extend(page);
            if is_last {
                return Ok(tail);
            }
        }
    }

    /// Takes in what another writer wrote and decides again on the truth.
    fn is_overtaken(&mut self, tail: &[Envelope]) {
        let entropy = &mut self.entropy;
        let again = self.desk.overtaken(tail, now(), &mut || entropy.next());
        let asked = self.flying.drain(..).chain(self.waiting.drain(..));
        self.waiting = asked.zip(again).map(|(answer, decided)| Answer { decided, ..answer }).collect();
        self.heard.send_replace(self.desk.heard());
        self.publish.send_replace(self.desk.state().clone());
        self.is_news = true;
    }
}

impl Answer {
    fn tell(self) {
        let decided = self.decided.map_err(SubmitError::from);
        self.reply.map(|reply| reply.send(decided));
    }
}

/// Half of those who wait, so that they take turns: while one half is being stored, the other is answered, asks again and is decided.
fn share(flying: usize, decided: usize, queued: usize) -> usize {
    let asking = flying + decided + queued;
    asking.div_ceil(2).clamp(SHARE_MIN, BATCH_MAX).saturating_sub(decided)
}

/// A thread that appends one batch after another, and says what came of each.
fn storing(store: Arc<dyn Store>) -> (Sender<Batch>, Receiver<Result<(), StoreError>>) {
    let (launch, launched) = bounded::<Batch>(1);
    let (land, landed) = bounded(1);
    thread::spawn(move || {
        for batch in launched.iter() {
            if land.send(store.append(&batch)).is_err() {
                return;
            }
            spin_until(|| !launched.is_empty());
        }
    });
    (launch, landed)
}

/// Only where somebody else can work meanwhile.
fn spin_until(has_come: impl Fn() -> bool) {
    static IS_ALONE: LazyLock<bool> =
        LazyLock::new(|| thread::available_parallelism().is_ok_and(|count| count.get() == 1));
    let since = Instant::now();
    while !*IS_ALONE && !has_come() && since.elapsed() < SPIN_MAX {
        std::hint::spin_loop();
    }
}

/// A task that answers whole batches: to wake one task from outside of the runtime costs a system call, to wake many from within none.
fn answering() -> mpsc::UnboundedSender<Vec<Answer>> {
    let (told, mut batches) = mpsc::unbounded_channel::<Vec<Answer>>();
    tokio::spawn(async move {
        while let Some(answers) = batches.recv().await {
            answers.into_iter().for_each(Answer::tell);
        }
    });
    told
}

/// Fresh numbers for ids, a system call for many of them: they must differ, and are no secret.
#[derive(Default)]
struct Entropy {
    base: u128,
    left: u16,
}

impl Entropy {
    const OF_ONE_BASE: u16 = 256;

    fn next(&mut self) -> u128 {
        if self.left == 0 {
            let mut bytes = [0; 16];
            SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes once it has booted");
            (self.base, self.left) = (u128::from_ne_bytes(bytes), Self::OF_ONE_BASE);
        }
        self.left -= 1;
        // Whoever draws from it mixes it first.
        self.base.wrapping_add(u128::from(self.left) << 64 | u128::from(self.left))
    }
}

fn trace(envelope: &Envelope) {
    tracing::info!(seq = envelope.seq.0, kind = envelope.event.kind(), "event");
}

#[cfg(test)]
mod tests;
