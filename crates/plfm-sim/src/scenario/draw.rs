//! A scenario from a seed.

use fastrand::Rng;
use plfm_core::fair::Class;

use super::*;

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
            16 if rng.bool() => Self::DeleteVolume { which: rng.usize(..4) },
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
