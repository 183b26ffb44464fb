//! The one writer: takes commands from a queue, decides them, appends what follows in one transaction, publishes the new state and
//! answers; and lets the platform itself decide what comes next. [`work`] is its thread.

use std::sync::Arc;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam_channel::Sender;
use plfm_api::documents::Report;
use plfm_core::command::Command;
use plfm_core::event::Actor;
use plfm_core::evolve::evolve;
use plfm_core::facts::Facts;
use plfm_core::ids::{NodeId, RequestId};
use plfm_core::refusal::Refusal;
use plfm_core::sequencer::desk::Heard;
use plfm_core::state::State;
use plfm_core::units::{Seq, Timestamp};
use plfm_store::{Store, StoreError};
use tokio::sync::{oneshot, watch};

use self::work::Work;

mod work;

/// Commands that wait at most; a longer queue would only hide that the disk cannot follow.
const QUEUE_MAX: usize = 4_096;
/// Events read in one go when the log is folded.
const PAGE: usize = 10_000;

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
    queue: Sender<Input>,
    state: watch::Receiver<Arc<State>>,
    heard: watch::Receiver<Heard>,
}

/// Everything that can happen to the writer.
enum Input {
    Command(Box<Command>, Actor, RequestId, Reply),
    Report(NodeId, Box<Report>, RequestId, Reply),
    Stop,
}

type Reply = oneshot::Sender<Result<Seq, SubmitError>>;

impl Writer {
    /// Starts the thread on the state that the log leads to. An empty log is bootstrapped with `first`. It answers through a task of
    /// the runtime it is called in.
    pub fn start(
        store: Arc<dyn Store>,
        state: State,
        first: Command,
    ) -> Result<(Self, thread::JoinHandle<()>), SubmitError> {
        // Bounded by who asks: of a bounded channel, what lies in it is not dropped with its receiver, and would never be answered.
        let (queue, inbox) = crossbeam_channel::unbounded();
        let work = Work::open(store, state, first, inbox)?;
        let (state, heard) = (work.publish.subscribe(), work.heard.subscribe());
        let thread = thread::spawn(move || work.run());
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
        self.ask(|reply| Input::Command(Box::new(command), actor, request, reply)).await
    }

    pub async fn report(&self, node: NodeId, report: Report, request: RequestId) -> Result<Seq, SubmitError> {
        self.ask(|reply| Input::Report(node, Box::new(report), request, reply)).await
    }

    async fn ask(&self, input: impl FnOnce(Reply) -> Input) -> Result<Seq, SubmitError> {
        if self.queue.len() >= QUEUE_MAX {
            return Err(SubmitError::Busy);
        }
        let (reply, answer) = oneshot::channel();
        self.queue.send(input(reply)).map_err(|_| SubmitError::Stopped)?;
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

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
