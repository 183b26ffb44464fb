//! The one writer: a thread that takes commands from a queue, decides them, appends what follows in one transaction, publishes
//! the new state and answers; then lets the platform itself decide what comes next.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use plfm_api::documents::{IMAGES_MAX, Newest, Report};
use plfm_core::check::check;
use plfm_core::command::Command;
use plfm_core::event::{Actor, Envelope};
use plfm_core::evolve::evolve;
use plfm_core::facts::Facts;
use plfm_core::ids::{NodeId, RequestId};
use plfm_core::reason::chain;
use plfm_core::refusal::Refusal;
use plfm_core::sequencer::desk::{Ask, Desk, Heard, ROUNDS_MAX, Rules};
use plfm_core::state::State;
use plfm_core::units::{Seq, Timestamp};
use plfm_store::{Store, StoreError};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{oneshot, watch};

/// Commands that wait at most; a longer queue would only hide that the disk cannot follow.
const QUEUE_MAX: usize = 4_096;
/// Commands of one transaction at most: enough to pay for an fsync, few enough to answer soon.
const BATCH_MAX: usize = 1_000;
/// Events read in one go when the log is folded.
const PAGE: usize = 10_000;
/// So often a batch is decided again when another writer was faster; two that both write take turns.
const TRIES_MAX: usize = 8;

#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nothing was decided; trying again may work.
    #[error("the server is busy: {QUEUE_MAX} commands wait")]
    Busy,
    #[error("the server cannot write its log: {0}")]
    Store(String),
    #[error("the server is stopping")]
    Stopped,
}

/// The way to the writer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Writer {
    queue: mpsc::SyncSender<Input>,
    state: watch::Receiver<Arc<State>>,
    heard: watch::Receiver<Heard>,
}

/// Everything that can happen to the writer.
enum Input {
    Command(Command, Actor, RequestId, Reply),
    Report(NodeId, Box<Report>, RequestId, Reply),
    Stop,
}

type Reply = oneshot::Sender<Result<Seq, SubmitError>>;

impl Writer {
    /// Starts the thread on the state that the log leads to. An empty log is bootstrapped with `first`.
    pub fn start(
        store: Arc<dyn Store>,
        state: State,
        first: Command,
    ) -> Result<(Self, thread::JoinHandle<()>), SubmitError> {
        let (queue, inbox) = mpsc::sync_channel(QUEUE_MAX);
        let mut work = Work::new(store, state);
        work.open(first)?;
        let (state, heard) = (work.publish.subscribe(), work.heard.subscribe());
        let thread = thread::spawn(move || work.run(&inbox));
        Ok((Self { queue, state, heard }, thread))
    }

    /// The newest published state.
    pub fn state(&self) -> Arc<State> {
        self.state.borrow().clone()
    }

    /// What the writer knows of the outside, for those who explain; it draws no ids.
    pub fn facts(&self) -> Facts {
        self.heard.borrow().facts(now(), 0)
    }

    /// Changes whenever something was appended.
    pub fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.state.clone()
    }

    /// Answers when what was decided is durable and published.
    pub async fn submit(&self, command: Command, actor: Actor, request: RequestId) -> Result<Seq, SubmitError> {
        self.ask(|reply| Input::Command(command, actor, request, reply)).await
    }

    pub async fn report(&self, node: NodeId, report: Report, request: RequestId) -> Result<Seq, SubmitError> {
        self.ask(|reply| Input::Report(node, Box::new(report), request, reply)).await
    }

    async fn ask(&self, input: impl FnOnce(Reply) -> Input) -> Result<Seq, SubmitError> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(input(reply)).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => SubmitError::Busy,
            mpsc::TrySendError::Disconnected(_) => SubmitError::Stopped,
        })?;
        answer.await.unwrap_or(Err(SubmitError::Stopped))
    }

    /// What is queued already is still decided.
    pub fn stop(&self) {
        drop(self.queue.send(Input::Stop));
    }
}

/// The state that a log leads to.
pub fn fold(store: &dyn Store) -> Result<State, StoreError> {
    let mut state = State::default();
    catch_up(store, &mut state)?;
    Ok(state)
}

fn catch_up(store: &dyn Store, state: &mut State) -> Result<(), StoreError> {
    loop {
        let page = store.read(state.seq, PAGE)?;
        page.iter().for_each(|envelope| evolve(state, envelope));
        if page.len() < PAGE {
            return Ok(());
        }
    }
}

struct Work {
    store: Arc<dyn Store>,
    desk: Desk,
    publish: watch::Sender<Arc<State>>,
    heard: watch::Sender<Heard>,
    newest: Newest,
    look_at: Option<Timestamp>,
}

impl Work {
    fn new(store: Arc<dyn Store>, state: State) -> Self {
        let desk = Desk::new(state, now(), Rules::default());
        let publish = watch::Sender::new(desk.state().clone());
        let heard = watch::Sender::new(desk.heard());
        Self { store, desk, publish, heard, newest: Newest::default(), look_at: None }
    }

    fn open(&mut self, first: Command) -> Result<(), SubmitError> {
        if self.desk.state().cluster.is_none() {
            self.decide_now(first)?;
        }
        self.decide_now(Command::StartWriter)?;
        self.reconcile()
    }

    fn decide_now(&mut self, command: Command) -> Result<(), SubmitError> {
        let request = Heard::default().facts(now(), entropy()).ids().fresh();
        self.ask(command, Actor::System, request)?;
        self.append().map(drop)
    }

    fn run(mut self, inbox: &mpsc::Receiver<Input>) {
        loop {
            let wait = self.look_at.map_or(Duration::from_secs(60), |at| at.since(now()));
            let first = match inbox.recv_timeout(wait) {
                Ok(input) => Some(input),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            };
            let inputs: Vec<_> = first.into_iter().chain(inbox.try_iter()).take(BATCH_MAX).collect();
            let stopping = inputs.iter().any(|input| matches!(input, Input::Stop));
            self.batch(inputs);
            if let Err(error) = self.reconcile() {
                tracing::error!(%error, "the platform's own decisions were not stored");
            }
            if stopping {
                return;
            }
        }
    }

    /// One transaction for all that waited, then the answers.
    fn batch(&mut self, inputs: Vec<Input>) {
        let (mut asked, mut old) = (Vec::with_capacity(inputs.len()), Vec::new());
        for input in inputs {
            let (decided, reply) = match input {
                Input::Command(command, actor, request, reply) => (Some(self.ask(command, actor, request)), reply),
                Input::Report(node, report, request, reply) => (self.report(node, *report, request), reply),
                Input::Stop => continue,
            };
            match decided {
                Some(decided) => asked.push((reply, decided)),
                None => old.push(reply),
            }
        }
        // Told once for all: with many nodes, the map is dear.
        self.heard.send_replace(self.desk.heard());
        let stored = self.append();
        for (index, (reply, decided)) in asked.into_iter().enumerate() {
            drop(reply.send(answer(&stored, index, decided)));
        }
        let seq = self.desk.state().seq;
        old.into_iter().for_each(|reply| drop(reply.send(Ok(seq))));
    }

    /// None for a report that is no news.
    fn report(&mut self, node: NodeId, report: Report, request: RequestId) -> Option<Result<Seq, Refusal>> {
        if !self.newest.admit(node, report.number) {
            return None;
        }
        self.desk.hears(node, report.images.into_iter().take(IMAGES_MAX).collect(), now());
        let instances = report.instances.into_iter().map(|it| (it.instance, it.status)).collect();
        let command = Command::Observe { node, capacity: Some(report.capacity), instances };
        Some(self.ask(command, Actor::Node(node), request))
    }

    fn ask(&mut self, command: Command, actor: Actor, request: RequestId) -> Result<Seq, Refusal> {
        self.desk.ask(Ask { command, actor, request }, now(), entropy())
    }

    /// Makes the batch durable and publishes it; on an error it is as if it had not been decided. The answers are there if all of it
    /// had to be decided again, because another writer was here.
    fn append(&mut self) -> Result<Option<Answers>, SubmitError> {
        let mut again = None;
        for _ in 0..TRIES_MAX {
            match self.store.append(self.desk.batch()) {
                Ok(()) => {
                    self.announce();
                    return Ok(again);
                }
                Err(StoreError::Conflict { .. }) => again = Some(self.follow()?),
                Err(error) => return Err(self.give_up(&error)),
            }
        }
        self.desk.failed();
        Err(SubmitError::Store("other servers write all the time".to_owned()))
    }

    fn announce(&mut self) {
        self.desk.batch().iter().for_each(trace);
        let before = self.desk.state().seq;
        let state = self.desk.stored();
        debug_assert_eq!(check(&state), [], "a decision broke an invariant");
        if state.seq != before {
            self.publish.send_replace(state);
        }
    }

    fn give_up(&mut self, error: &StoreError) -> SubmitError {
        self.desk.failed();
        SubmitError::Store(chain(error))
    }

    /// Takes in what another writer wrote and decides again on the truth.
    fn follow(&mut self) -> Result<Answers, SubmitError> {
        let mut tail = Vec::new();
        loop {
            let seq = tail.last().map_or(self.desk.state().seq, |last: &Envelope| last.seq);
            let page = self.store.read(seq, PAGE).map_err(|error| self.give_up(&error))?;
            let is_last = page.len() < PAGE;
            tail.extend(page);
            if is_last {
                break;
            }
        }
        let decided = self.desk.overtaken(&tail, now(), &mut entropy);
        self.heard.send_replace(self.desk.heard());
        self.publish.send_replace(self.desk.state().clone());
        Ok(decided)
    }

    fn reconcile(&mut self) -> Result<(), SubmitError> {
        for _ in 0..ROUNDS_MAX {
            for refusal in self.desk.reconcile(now(), &mut entropy).into_iter().filter_map(|(_, decided)| decided.err())
            {
                tracing::debug!(%refusal, "the platform's own command no longer fits");
            }
            self.heard.send_replace(self.desk.heard());
            self.look_at = self.desk.next_run();
            if self.desk.batch().is_empty() {
                return Ok(());
            }
            self.append()?;
        }
        self.look_at = Some(now() + Duration::from_secs(1));
        Ok(())
    }
}

type Answers = Vec<Result<Seq, Refusal>>;

fn answer(
    stored: &Result<Option<Answers>, SubmitError>,
    index: usize,
    decided: Result<Seq, Refusal>,
) -> Result<Seq, SubmitError> {
    match stored {
        Ok(Some(again)) => Ok(again[index].clone()?),
        Ok(None) => Ok(decided?),
        Err(SubmitError::Store(why)) => {
            decided.map_err(SubmitError::from).and_then(|_| Err(SubmitError::Store(why.clone())))
        }
        Err(error) => decided.map_err(SubmitError::from).and_then(|_| Err(SubmitError::Store(error.to_string()))),
    }
}

fn entropy() -> u128 {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes once it has booted");
    u128::from_ne_bytes(bytes)
}

fn trace(envelope: &Envelope) {
    tracing::info!(seq = envelope.seq.0, kind = envelope.event.kind(), "event");
}

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
