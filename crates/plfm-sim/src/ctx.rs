//! What every part of the world has at hand: the queue, chance, the trace, and the place to say that something is wrong.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;
use plfm_api::documents::{PlanMessage, Report};
use plfm_core::command::Command;
use plfm_core::ids::{BootId, InstanceId, NodeId};
use plfm_core::phase::Desired;
use plfm_core::units::Timestamp;
use plfm_node::mind::Action;
use ulid::Ulid;

use crate::coverage::Coverage;
use crate::host::Machine;
use crate::queue::Queue;
use crate::trace::{Note, Trace};

/// 2026-01-01: far enough from 0 that a time that was never set shows.
const BEGINNING: u64 = 1_767_225_600_000;

/// Everything that can happen. What concerns one life of a writer or a node names it: after a crash it comes to nothing.
#[derive(Debug)]
pub enum Happening {
    Operator,
    Submit(Box<Command>),
    ReportArrives(NodeId, Box<Report>),
    WriterLooks {
        life: u64,
    },
    BatchStored {
        life: u64,
    },
    BatchPublished {
        life: u64,
    },
    WriterCrashes,
    WriterStarts,
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
        machine: Machine,
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
    NodeCrashes(usize),
    /// It crashes in the middle of something.
    NodeStumbles(usize),
    NodeStarts(usize),
    PartitionBegins(usize),
    PartitionEnds(usize),
    /// From here on nothing fails any more.
    Calm,
    LastOrders,
    /// Is everything as it should be?
    Inspect,
}

pub struct Ctx {
    pub queue: Queue<Happening>,
    pub rng: Rng,
    pub trace: Trace,
    pub coverage: Coverage,
    pub calm: bool,
    /// What should be, by the newest durable event.
    pub desired: BTreeMap<InstanceId, Desired>,
    pub violation: Option<String>,
}

impl Ctx {
    pub fn new(seed: u64, kept: usize) -> Self {
        Self {
            queue: Queue::new(Timestamp(BEGINNING)),
            rng: Rng::with_seed(seed),
            trace: Trace::new(kept),
            coverage: Coverage::default(),
            calm: true,
            desired: BTreeMap::new(),
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

    /// A wait of so many milliseconds.
    pub fn ms(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.rng.u64(range))
    }

    /// Something goes wrong, with this probability, while faults are on.
    pub fn mishap(&mut self, probability: f64) -> bool {
        self.rng.f64() < probability && !self.calm
    }

    pub fn fault(&mut self, name: &'static str, probability: f64) -> bool {
        let happens = self.mishap(probability);
        if happens {
            self.coverage.fault(name);
        }
        happens
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
