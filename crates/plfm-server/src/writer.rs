//! The one writer: a thread that takes commands from a queue, decides them, appends what follows in one transaction, publishes
//! the new state and answers; then lets the platform itself decide what comes next.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use plfm_api::documents::{Report, ReportNumber};
use plfm_core::check::check;
use plfm_core::command::Command;
use plfm_core::event::{Actor, Envelope};
use plfm_core::evolve::evolve;
use plfm_core::facts::Facts;
use plfm_core::ids::{NodeId, RequestId};
use plfm_core::reconcile::{NextRun, reconcile};
use plfm_core::refusal::Refusal;
use plfm_core::sequencer::{Origin, Sequencer};
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
/// Rounds of `reconcile` after one batch. Each round acts on what the last one did; a rollout step needs two or three.
const ROUNDS_MAX: usize = 16;

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

/// When which node was last heard, and since when anybody listens.
#[derive(Debug, Clone, Default)]
struct Heard {
    since: Timestamp,
    nodes: BTreeMap<NodeId, Timestamp>,
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
        let Heard { since, nodes } = self.heard.borrow().clone();
        Facts { now: now(), entropy: 0, writer_since: since, heard: nodes }
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
    sequencer: Sequencer,
    publish: watch::Sender<Arc<State>>,
    random: SystemRandom,
    /// As of the newest decision.
    facts: Facts,
    heard: watch::Sender<Heard>,
    reports: BTreeMap<NodeId, ReportNumber>,
    next_run: NextRun,
}

impl Work {
    fn new(store: Arc<dyn Store>, state: State) -> Self {
        let sequencer = Sequencer::new(state);
        let publish = watch::Sender::new(sequencer.state().clone());
        let facts = Facts { writer_since: now(), ..Facts::default() };
        let heard = watch::Sender::new(Heard { since: facts.writer_since, ..Heard::default() });
        let (random, reports) = (SystemRandom::new(), BTreeMap::new());
        Self { store, sequencer, publish, random, facts, heard, reports, next_run: None }
    }

    fn open(&mut self, first: Command) -> Result<(), SubmitError> {
        if self.sequencer.state().cluster.is_none() {
            self.decide_now(first)?;
        }
        self.decide_now(Command::StartWriter)?;
        self.reconcile()
    }

    fn decide_now(&mut self, command: Command) -> Result<(), SubmitError> {
        self.decide(command, Actor::System, None)?;
        self.append().map_err(SubmitError::Store)
    }

    fn run(mut self, inbox: &mpsc::Receiver<Input>) {
        loop {
            let wait = self.next_run.map_or(Duration::from_secs(60), |at| at.since(now()));
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
        let mut answers = Vec::with_capacity(inputs.len());
        for input in inputs {
            let (decided, reply) = match input {
                Input::Command(command, actor, request, reply) => (self.decide(command, actor, Some(request)), reply),
                Input::Report(node, report, request, reply) => (self.report(node, *report, request), reply),
                Input::Stop => continue,
            };
            answers.push((reply, decided.map_err(SubmitError::from)));
        }
        // Told once for all: with many nodes, the map is dear.
        self.heard.send_modify(|heard| heard.nodes.clone_from(&self.facts.heard));
        let stored = self.append();
        for (reply, decided) in answers {
            let answer = match &stored {
                Ok(()) => decided,
                Err(why) => decided.and_then(|_| Err(SubmitError::Store(why.clone()))),
            };
            drop(reply.send(answer));
        }
    }

    fn report(&mut self, node: NodeId, report: Report, request: RequestId) -> Result<Seq, Refusal> {
        let last = self.reports.get(&node).copied().unwrap_or_default();
        if report.number <= last {
            return Ok(self.sequencer.tentative().seq);
        }
        self.reports.insert(node, report.number);
        self.facts.heard.insert(node, now());
        let instances = report.instances.into_iter().map(|it| (it.instance, it.status)).collect();
        let command = Command::Observe { node, capacity: Some(report.capacity), instances };
        self.decide(command, Actor::Node(node), Some(request))
    }

    fn decide(&mut self, command: Command, actor: Actor, request: Option<RequestId>) -> Result<Seq, Refusal> {
        self.refresh();
        let request = request.unwrap_or_else(|| self.facts.ids().fresh());
        self.sequencer.submit(command, Origin { actor, request, cause: None }, &self.facts)
    }

    /// Makes the batch durable and publishes it; where it cannot, it says why, and it is as if nothing had been decided.
    fn append(&mut self) -> Result<(), String> {
        if self.sequencer.batch().is_empty() {
            return Ok(());
        }
        match self.store.append(self.sequencer.batch()) {
            Ok(()) => {
                self.announce();
                Ok(())
            }
            Err(error) => {
                self.sequencer.abandon();
                self.follow(&error);
                Err(chain(&error))
            }
        }
    }

    fn announce(&mut self) {
        self.sequencer.batch().iter().for_each(trace);
        let state = self.sequencer.commit();
        debug_assert_eq!(check(&state), [], "a decision broke an invariant");
        self.publish.send_replace(state);
    }

    /// Another writer was here: take in what it wrote, so that the next try is decided on the truth.
    fn follow(&mut self, error: &StoreError) {
        let StoreError::Conflict { .. } = error else { return };
        let mut state = State::clone(self.sequencer.state());
        match catch_up(&*self.store, &mut state) {
            Ok(()) => {
                self.sequencer = Sequencer::new(state);
                self.publish.send_replace(self.sequencer.state().clone());
            }
            Err(error) => tracing::error!(%error, "cannot read what another writer wrote"),
        }
    }

    fn reconcile(&mut self) -> Result<(), SubmitError> {
        for _ in 0..ROUNDS_MAX {
            self.refresh();
            let (commands, next_run) = reconcile(self.sequencer.tentative(), &self.facts);
            self.next_run = next_run;
            for command in commands {
                // Made from this very state, but an earlier command of the round may have overtaken it.
                if let Err(refusal) = self.decide(command, Actor::System, None) {
                    tracing::debug!(%refusal, "the platform's own command no longer fits");
                }
            }
            if self.sequencer.batch().is_empty() {
                return Ok(());
            }
            self.append().map_err(SubmitError::Store)?;
        }
        self.next_run = Some(now() + Duration::from_secs(1));
        Ok(())
    }

    /// Another decision: it is later, and its ids are others.
    fn refresh(&mut self) {
        (self.facts.now, self.facts.entropy) = (now(), self.entropy());
    }

    fn entropy(&self) -> u128 {
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes).expect("the kernel gives random bytes once it has booted");
        u128::from_ne_bytes(bytes)
    }
}

fn trace(envelope: &Envelope) {
    tracing::info!(seq = envelope.seq.0, kind = envelope.event.kind(), "event");
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
