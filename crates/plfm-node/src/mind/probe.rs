//! When an instance is asked for its health, and what the answers add up to (P-VM-33, -34).

use std::time::Duration;

use plfm_api::documents::Workload;
use plfm_core::manifest::Health;
use plfm_core::units::Timestamp;

/// Until it is ready a workload is asked often: a deploy waits for the answer.
const STARTING_INTERVAL: Duration = Duration::from_millis(500);
/// P-VM-34: no ports, no health check: ready when alive this long.
pub const ALIVE_IS_READY: Duration = Duration::from_secs(1);
/// How often an implicit probe looks once the workload is ready.
const IMPLICIT_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Default)]
pub struct Tally {
    pub next_at: Option<Timestamp>,
    pub successes: u32,
    pub failures: u32,
}

/// What an answer amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Undecided,
    Healthy,
    Sick,
}

impl Tally {
    pub fn count(&mut self, healthy: bool, ready: bool, workload: &Workload, now: Timestamp) -> Verdict {
        let (wanted, allowed) = thresholds(workload.health.as_ref());
        (self.successes, self.failures) = if healthy { (self.successes + 1, 0) } else { (0, self.failures + 1) };
        self.next_at = Some(now + interval(workload.health.as_ref(), ready || healthy));
        match healthy {
            true if self.successes >= wanted => Verdict::Healthy,
            false if self.failures >= allowed => Verdict::Sick,
            _ => Verdict::Undecided,
        }
    }
}

fn thresholds(health: Option<&Health>) -> (u32, u32) {
    health.map_or((1, 3), |health| (health.success_threshold, health.failure_threshold))
}

fn interval(health: Option<&Health>, ready: bool) -> Duration {
    match health {
        _ if !ready => STARTING_INTERVAL,
        Some(health) => Duration::from_secs(health.interval_seconds.into()),
        None => IMPLICIT_INTERVAL,
    }
}
