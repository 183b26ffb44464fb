//! What happens to the fleet from outside, as a list: what clients ask and what goes wrong, each at its time. It is made from a seed
//! first and lived through after, so that a failure shrinks by taking steps out of the list.

use std::fmt;

use plfm_core::fair::Class;
use serde::{Deserialize, Serialize};

mod draw;

pub const NODES: usize = 3;
pub const SERVERS: usize = 3;
pub const EDGES: usize = 2;
/// How long clients ask and things go wrong.
pub const BAD_TIMES_MS: u64 = 480_000;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// Of everything that the steps leave open: how long things take, what is drawn where.
    pub seed: u64,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub at_ms: u64,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Asks(Operation),
    Fails(Fault),
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    Deploy {
        app: u8,
        prod: bool,
        web: Process,
        worker: Option<u32>,
        arm: bool,
        expose: Option<Exposed>,
        /// The volume is the worker's.
        #[serde(default)]
        worker_has_volume: bool,
    },
    Scale {
        app: u8,
        prod: bool,
        replicas: u32,
    },
    Stop {
        app: u8,
        prod: bool,
    },
    Rollback {
        app: u8,
        prod: bool,
        to: Option<usize>,
    },
    DeleteRoute {
        which: usize,
    },
    CreateToken,
    RevokeToken {
        which: usize,
    },
    CreateTemplate {
        memory_mib: u64,
        arm: bool,
    },
    CreateSandbox {
        timeout_seconds: u64,
        urgent: bool,
        /// From the snapshot of the one name that there is.
        #[serde(default)]
        goes_on: bool,
    },
    SetSandboxTimeout {
        which: usize,
        timeout_seconds: u64,
    },
    PauseSandbox {
        which: usize,
    },
    ResumeSandbox {
        which: usize,
        timeout_seconds: u64,
    },
    KillSandbox {
        which: usize,
    },
    SnapshotSandbox {
        which: usize,
        named: bool,
    },
    DeleteVolume {
        which: usize,
    },
    ReleaseSnapshot {
        which: usize,
    },
    ForkSandbox {
        which: usize,
        count: u8,
        timeout_seconds: u64,
    },
    Order {
        node: usize,
        order: Order,
    },
    ForceReschedule,
    LimitInstances {
        most: u64,
    },
    /// Of one environment, or of all; one zone has one node, another the rest.
    Constrain {
        env: Option<(u8, bool)>,
        zone: Option<bool>,
    },
    WeighOrg {
        weight: u32,
    },
    WeighProject {
        weight: u32,
    },
    Prioritize {
        app: u8,
        prod: bool,
        class: Class,
    },
}

/// What an operator says of a node. None is decommissioned: the fleet has to be whole in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    Drain,
    Disable,
    Activate,
    Tolerate,
    Distrust,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Process {
    pub temper: Temper,
    pub replicas: u32,
    pub memory_mib: u64,
    pub disk_gib: u64,
    pub policy: Policy,
    pub backoff_seconds: u32,
    pub port: bool,
    pub health: bool,
    /// One replica at most, where its volume is.
    #[serde(default)]
    pub volume: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Exposed {
    pub port: u16,
    pub worker: bool,
}

/// How a workload behaves; its command says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Temper {
    Serves,
    NeverAnswers,
    Crashes,
    EndsWell,
    CannotStart,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    Always,
    OnFailure,
    Never,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    NodeCrashes {
        node: usize,
        down_ms: u64,
        forgets: bool,
    },
    NodeCut {
        node: usize,
        lasts_ms: u64,
    },
    NodeShrinks {
        node: usize,
        percent: u64,
    },
    NodeDiskFills {
        node: usize,
    },
    NodeDiskEmpties {
        node: usize,
    },
    NodeClock {
        node: usize,
        ahead_ms: i64,
    },
    /// Something on it ends by itself.
    WorkloadEnds {
        node: usize,
    },
    WorkloadSick {
        node: usize,
        lasts_ms: u64,
    },
    /// The next time that something of this sort happens on the node, it goes wrong.
    Next {
        node: usize,
        glitch: Glitch,
    },
    ServerCrashes {
        server: usize,
        down_ms: u64,
    },
    ServerPauses {
        server: usize,
        lasts_ms: u64,
    },
    /// From the log.
    ServerCut {
        server: usize,
        lasts_ms: u64,
    },
    ServerClock {
        server: usize,
        ahead_ms: i64,
    },
    /// Of the next append.
    Append {
        glitch: Append,
    },
    /// The disk of the log forgets what it had not synced.
    LogCrashes {
        down_ms: u64,
    },
    /// The log is lost; a backup that lacks the newest events takes its place.
    Restore {
        lost: u64,
    },
    EdgeCut {
        edge: usize,
        lasts_ms: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Glitch {
    ReportLost,
    ReportDoubled,
    ReportLate,
    PlanBroken,
    PlanDoubled,
    PlanLate,
    PullSlow,
    PullFails,
    DiskFull,
    NoMachine,
    BootFails,
    AdoptFails,
    ProbeFails,
    PauseFails,
    ResumeFails,
    TakeFails,
    StopFails,
    DestroyFails,
    CrashInBoot,
    /// It began something, and its memory does not know.
    CrashUnwritten,
    /// It did something, and its memory does not know.
    CrashUnheard,
}

impl Glitch {
    pub const ALL: &[Self] = &[
        Self::ReportLost,
        Self::ReportDoubled,
        Self::ReportLate,
        Self::PlanBroken,
        Self::PlanDoubled,
        Self::PlanLate,
        Self::PullSlow,
        Self::PullFails,
        Self::DiskFull,
        Self::NoMachine,
        Self::BootFails,
        Self::AdoptFails,
        Self::ProbeFails,
        Self::PauseFails,
        Self::ResumeFails,
        Self::TakeFails,
        Self::StopFails,
        Self::DestroyFails,
        Self::CrashInBoot,
        Self::CrashUnwritten,
        Self::CrashUnheard,
    ];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Append {
    /// Not stored, and said so.
    Full,
    /// Stored, and the answer is lost.
    Unheard,
    /// Stored, and the writer ends in that moment.
    CrashAfter,
}

impl Temper {
    pub const BAD: &[Self] = &[Self::NeverAnswers, Self::Crashes, Self::EndsWell, Self::CannotStart];

    pub const fn command(self) -> &'static str {
        match self {
            Self::Serves => "serve",
            Self::NeverAnswers => "hang",
            Self::Crashes => "crash",
            Self::EndsWell => "end",
            Self::CannotStart => "missing",
        }
    }
}

impl Policy {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::OnFailure => "on-failure",
            Self::Never => "never",
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| {
            let text = serde_json::to_string(&step.what).map_err(|_| fmt::Error)?;
            writeln!(f, "  {:>7} ms  {text}", step.at_ms)
        })
    }
}
