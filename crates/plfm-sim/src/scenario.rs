//! What happens to the fleet from outside, as a list: what clients ask and what goes wrong, each at its time. It is made from a seed
//! first and lived through after, so that a failure shrinks by taking steps out of the list.

use std::fmt;

use fastrand::Rng;
use plfm_core::fair::Class;
use serde::{Deserialize, Serialize};

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

impl Scenario {
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut steps = clocks(&mut rng);
        let (memory_mib, arm) = ([128, 256, 2_000][rng.usize(..3)], rng.u8(..16) == 0);
        steps.push(Step { at_ms: 2_000, what: What::Asks(Operation::CreateTemplate { memory_mib, arm }) });
        for _ in 0..rng.usize(8..24) {
            steps.push(step(&mut rng, What::Asks));
        }
        for _ in 0..rng.usize(20..90) {
            steps.push(step(&mut rng, What::Fails));
        }
        if rng.u8(..4) == 0 {
            steps.push(step(&mut rng, |rng: Restored| What::Fails(rng.0)));
        }
        steps.sort_by_key(|step| step.at_ms);
        Self { seed, steps }
    }
}

trait Drawn {
    fn draw(rng: &mut Rng) -> Self;
}

struct Restored(Fault);

impl Drawn for Restored {
    fn draw(rng: &mut Rng) -> Self {
        Self(Fault::Restore { lost: rng.u64(1..80) })
    }
}

fn step<T: Drawn>(rng: &mut Rng, what: impl Fn(T) -> What) -> Step {
    Step { at_ms: rng.u64(0..BAD_TIMES_MS), what: what(T::draw(rng)) }
}

/// Clocks differ from the beginning and stay so.
fn clocks(rng: &mut Rng) -> Vec<Step> {
    let node = Fault::NodeClock { node: rng.usize(..NODES), ahead_ms: rng.i64(-300_000..300_000) };
    let server = Fault::ServerClock { server: rng.usize(..SERVERS), ahead_ms: rng.i64(-20_000..20_000) };
    [node, server].map(|fault| Step { at_ms: 0, what: What::Fails(fault) }).into()
}

impl Drawn for Operation {
    fn draw(rng: &mut Rng) -> Self {
        let (app, prod) = (rng.u8(..3), rng.u8(..4) == 0);
        match rng.u8(..28) {
            0 | 1 => Self::Scale { app, prod, replicas: rng.u32(0..5) },
            2 if rng.bool() => Self::Stop { app, prod },
            2 => Self::Rollback { app, prod, to: rng.bool().then(|| rng.usize(..8)) },
            3 if rng.bool() => Self::DeleteRoute { which: rng.usize(..8) },
            3 | 17 => Self::CreateToken,
            18 => Self::RevokeToken { which: rng.usize(..3) },
            10 | 11 => {
                let goes_on = rng.u8(..4) == 0;
                Self::CreateSandbox { timeout_seconds: rng.u64(1..90), urgent: rng.bool(), goes_on }
            }
            12 if rng.bool() => Self::SetSandboxTimeout { which: rng.usize(..4), timeout_seconds: rng.u64(..90) },
            12 => Self::KillSandbox { which: rng.usize(..4) },
            13 | 21 if rng.bool() => Self::PauseSandbox { which: rng.usize(..4) },
            13 | 21 => Self::ResumeSandbox { which: rng.usize(..4), timeout_seconds: rng.u64(1..90) },
            14 | 19 => Self::SnapshotSandbox { which: rng.usize(..4), named: rng.bool() },
            16 | 20 => Self::ReleaseSnapshot { which: rng.usize(..4) },
            15 => {
                let count = rng.u8(1..5);
                Self::ForkSandbox { which: rng.usize(..4), count, timeout_seconds: rng.u64(1..90) }
            }
            4..=6 => {
                let orders = [Order::Drain, Order::Disable, Order::Activate, Order::Tolerate, Order::Distrust];
                let order = orders[rng.usize(..orders.len())];
                Self::Order { node: rng.usize(..NODES), order }
            }
            7 => Self::ForceReschedule,
            8 if rng.bool() => {
                Self::Constrain { env: rng.bool().then_some((app, prod)), zone: (rng.u8(..3) > 0).then(|| rng.bool()) }
            }
            8 => Self::LimitInstances { most: rng.u64(1..20) },
            9 if rng.bool() => Self::WeighOrg { weight: rng.u32(1..4) },
            9 if rng.bool() => Self::WeighProject { weight: rng.u32(1..4) },
            9 => Self::Prioritize { app, prod, class: Class::ALL[rng.usize(..4)] },
            _ => Self::Deploy {
                app,
                prod,
                web: Process::draw(rng),
                worker: (rng.u8(..4) == 0).then(|| rng.u32(0..3)),
                arm: rng.u8(..16) == 0,
                expose: (rng.u8(..3) == 0).then(|| Exposed { port: 7_000 + rng.u16(..3), worker: rng.u8(..4) == 0 }),
                worker_has_volume: rng.u8(..8) == 0,
            },
        }
    }
}

impl Drawn for Process {
    fn draw(rng: &mut Rng) -> Self {
        use Temper::*;
        let temper = [Serves, Serves, Serves, Serves, NeverAnswers, Crashes, EndsWell, CannotStart][rng.usize(..8)];
        let port = temper != Serves || rng.bool();
        Self {
            temper,
            replicas: rng.u32(0..5),
            memory_mib: if rng.u8(..20) == 0 { 3_000 } else { [64, 128, 256, 512][rng.usize(..4)] },
            disk_gib: if rng.u8(..30) == 0 { 60 } else { 1 },
            policy: [Policy::Always, Policy::Always, Policy::OnFailure, Policy::Never][rng.usize(..4)],
            backoff_seconds: rng.u32(0..3),
            port,
            health: port && rng.bool(),
            volume: rng.u8(..6) == 0,
        }
    }
}

impl Drawn for Fault {
    fn draw(rng: &mut Rng) -> Self {
        let (node, server) = (rng.usize(..NODES), rng.usize(..SERVERS));
        let long = rng.u8(..3) == 0;
        let lasts_ms = if long { rng.u64(60_000..120_000) } else { rng.u64(1_000..30_000) };
        match rng.u8(..32) {
            0..=2 => Self::NodeCrashes { node, down_ms: lasts_ms, forgets: rng.u8(..16) == 0 },
            3 | 4 => Self::NodeCut { node, lasts_ms },
            5 => Self::NodeShrinks { node, percent: rng.u64(60..=100) },
            6 | 7 => Self::WorkloadEnds { node },
            8 => Self::WorkloadSick { node, lasts_ms },
            9..=11 => Self::ServerCrashes { server, down_ms: rng.u64(500..20_000) },
            12 => Self::ServerPauses { server, lasts_ms },
            13 => Self::ServerCut { server, lasts_ms: rng.u64(500..30_000) },
            14 | 15 => Self::Append { glitch: [Append::Full, Append::Unheard, Append::CrashAfter][rng.usize(..3)] },
            16 => Self::LogCrashes { down_ms: rng.u64(100..10_000) },
            17 => Self::EdgeCut { edge: rng.usize(..EDGES), lasts_ms },
            18 if rng.bool() => Self::NodeDiskFills { node },
            18 => Self::NodeDiskEmpties { node },
            // What is seldom done seldom fails.
            _ if rng.u8(..4) == 0 => {
                let seldom = [Glitch::PauseFails, Glitch::ResumeFails, Glitch::ResumeFails, Glitch::TakeFails];
                let glitch = seldom[rng.usize(..4)];
                Self::Next { node, glitch }
            }
            _ => Self::Next { node, glitch: Glitch::ALL[rng.usize(..Glitch::ALL.len())] },
        }
    }
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
