//! What every part of the world has at hand: the queue, chance, the trace, and the place to say that something is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;
use plfm_api::documents::{PlanMessage, Report};
use plfm_core::ids::{BootId, InstanceId, LogId, NodeId, VolumeId};
use plfm_core::phase::Desired;
use plfm_core::sequencer::desk::{Ask, Rules};
use plfm_core::units::{Seq, Timestamp};
use plfm_node::mind::{Action, Local, Observed, Plan, step};
use ulid::Ulid;

use crate::coverage::Coverage;
use crate::host::Machine;
use crate::queue::Queue;
use crate::scenario::{Append, Glitch};
use crate::trace::{Note, Trace};

/// 2026-01-01: far enough from 0 that a time that was never set shows.
const BEGINNING: u64 = 1_767_225_600_000;

pub type StepFn = fn(&Local, &Plan, &Observed, Timestamp) -> Vec<Action>;

/// What thinks: the real minds, unless someone tests whether broken ones are found.
#[derive(Debug, Clone, Copy)]
pub struct Minds {
    pub rules: Rules,
    pub step: StepFn,
}

impl Default for Minds {
    fn default() -> Self {
        Self { rules: Rules::default(), step }
    }
}

/// Everything that can happen. What concerns one life of a server or a node names it: after a crash it comes to nothing.
#[derive(Debug)]
pub enum Happening {
    /// The next of the scenario.
    Step(usize),
    Asked(Box<Ask>),
    ReportArrives(NodeId, Box<Report>),
    Server {
        server: usize,
        life: u64,
        what: ServerEvent,
    },
    ServerStarts(usize),
    ServerMends(usize),
    LogSyncs {
        life: u64,
    },
    LogCrashes {
        down_ms: u64,
    },
    LogStarts,
    Connects {
        node: usize,
        life: u64,
    },
    PlanArrives {
        node: usize,
        life: u64,
        stream: u64,
        message: Box<PlanMessage>,
    },
    StreamBreaks {
        node: usize,
        life: u64,
        stream: u64,
    },
    Heartbeat {
        node: usize,
        life: u64,
    },
    NodeLooks {
        node: usize,
        life: u64,
    },
    MachineAppears {
        node: usize,
        life: u64,
        id: InstanceId,
        machine: Box<Machine>,
    },
    Finishes {
        node: usize,
        life: u64,
        action: Action,
        fails: bool,
    },
    WorkloadEnds {
        node: usize,
        id: InstanceId,
        boot: BootId,
    },
    /// It crashes in the middle of something.
    NodeStumbles(usize),
    NodeStarts(usize),
    NodeMends(usize),
    /// An operator says that the log which the node hears of is the right one.
    Adopts(usize),
    EdgeLooks(usize),
    EdgeMends(usize),
    /// From here on nothing fails any more.
    Calm,
    LastOrders,
    /// Is everything as it should be?
    Inspect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerEvent {
    /// Renews the lease, or sees whether it is free.
    Ticks,
    Looks,
    Writes,
    /// What it wrote is durable.
    Stored,
    /// What it wrote is lost, or it does not know.
    NotStored,
    Follows,
}

pub struct Ctx {
    pub minds: Minds,
    pub queue: Queue<Happening>,
    pub rng: Rng,
    pub trace: Trace,
    pub coverage: Coverage,
    pub calm: bool,
    /// What should be, by the newest durable event.
    pub desired: BTreeMap<InstanceId, Desired>,
    /// Of this log a backup has kept so much; the plans of what came after are on their way still.
    pub lost: Option<(LogId, Seq)>,
    /// The volumes that nodes have made, and where.
    pub made: BTreeMap<VolumeId, usize>,
    /// Those of which someone has said so.
    pub unwanted: BTreeSet<VolumeId>,
    pub glitches: BTreeMap<(usize, Glitch), u32>,
    pub appends: Vec<Append>,
    pub violation: Option<String>,
}

impl Ctx {
    pub fn new(seed: u64, kept: usize, minds: Minds) -> Self {
        Self {
            minds,
            queue: Queue::new(Timestamp(BEGINNING)),
            rng: Rng::with_seed(seed),
            trace: Trace::new(kept),
            coverage: Coverage::default(),
            calm: true,
            desired: BTreeMap::new(),
            lost: None,
            made: BTreeMap::new(),
            unwanted: BTreeSet::new(),
            glitches: BTreeMap::new(),
            appends: Vec::new(),
            violation: None,
        }
    }

    pub fn now(&self) -> Timestamp {
        self.queue.now()
    }

    pub fn after(&mut self, wait: Duration, what: Happening) {
        let at = self.now() + wait;
        self.queue.at(at, what);
    }

    pub fn soon(&mut self, range: Range<u64>, what: Happening) {
        let wait = self.ms(range);
        self.after(wait, what);
    }

    /// A wait of so many milliseconds.
    pub fn ms(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.rng.u64(range))
    }

    /// Whether this is the time that something was to go wrong.
    pub fn glitch(&mut self, node: usize, glitch: Glitch) -> bool {
        let Some(left) = self.glitches.get_mut(&(node, glitch)).filter(|left| **left > 0) else { return false };
        *left -= 1;
        self.coverage.glitch(&glitch);
        true
    }

    pub fn boot(&mut self) -> BootId {
        let at = self.now().0;
        Ulid::from_parts(at, self.rng.u128(..) >> 48).into()
    }

    pub fn note(&mut self, note: Note) {
        self.trace.add(self.queue.now(), note);
    }

    /// The first violation counts; what follows from it does not.
    pub fn violate(&mut self, what: impl FnOnce() -> String) {
        self.violation.get_or_insert_with(what);
    }

    pub fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violate(what);
        }
    }
}

/// A clock that is ahead of the world's, or behind.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock(pub i64);

impl Clock {
    /// What it shows at a moment of the world.
    pub fn shows(self, at: Timestamp) -> Timestamp {
        Timestamp(at.0.saturating_add_signed(self.0))
    }

    /// The moment of the world at which it shows that.
    pub fn when(self, shown: Timestamp) -> Timestamp {
        Timestamp(shown.0.saturating_add_signed(-self.0))
    }
}
