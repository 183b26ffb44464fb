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
    /// What was seen the last time that it was not well.
    pub last_miss: String,
    /// That it does not answer has been said.
    pub told: bool,
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

#[cfg(test)]
mod tests {
    use plfm_core::manifest::HealthCheck;

    use super::*;
    use crate::mind::tests::workload;

    fn checked() -> Workload {
        let health = Health {
            check: HealthCheck::Tcp,
            port: 8080,
            path: None,
            interval_seconds: 7,
            timeout_seconds: 1,
            grace_period_seconds: 0,
            success_threshold: 2,
            failure_threshold: 4,
        };
        Workload { health: Some(health), ..workload() }
    }

    /// The verdicts on these answers, one after another, and when the next is asked for.
    fn verdicts(workload: &Workload, ready: bool, answers: &[bool]) -> Vec<(Verdict, u64)> {
        let (mut tally, now) = (Tally::default(), Timestamp(0));
        let count = |healthy: &bool| {
            let verdict = tally.count(*healthy, ready, workload, now);
            (verdict, tally.next_at.map_or(0, |at| at.since(now).as_millis() as u64))
        };
        answers.iter().map(count).collect()
    }

    #[test]
    fn without_a_check_one_answer_is_enough_and_three_misses_are_too_many() {
        use Verdict::*;
        let (yes, no) = (true, false);
        assert_eq!(verdicts(&workload(), false, &[yes]), [(Healthy, 10_000)]);
        assert_eq!(verdicts(&workload(), false, &[no, no, no]), [(Undecided, 500), (Undecided, 500), (Sick, 500)]);
        let broken = verdicts(&workload(), true, &[no, no, yes, no]);
        assert_eq!(broken, [(Undecided, 10_000), (Undecided, 10_000), (Healthy, 10_000), (Undecided, 10_000)]);
    }

    #[test]
    fn a_check_has_thresholds_and_an_interval_of_its_own() {
        use Verdict::*;
        let (yes, no) = (true, false);
        assert_eq!(
            verdicts(&checked(), false, &[no, yes, yes]),
            [(Undecided, 500), (Undecided, 7_000), (Healthy, 7_000)]
        );
        let sick = verdicts(&checked(), true, &[no, no, no, no]);
        assert_eq!(
            sick.iter().map(|(verdict, _)| *verdict).collect::<Vec<_>>(),
            [Undecided, Undecided, Undecided, Sick]
        );
    }
}
