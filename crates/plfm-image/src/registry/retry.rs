//! How often and when something is tried again (P-IMG-3).

use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// How often something is tried in all before it has failed.
    pub attempts: u32,
    pub wait_min: Duration,
    pub wait_max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 5, wait_min: Duration::from_secs(1), wait_max: Duration::from_secs(30) }
    }
}

impl Retry {
    /// The wait after the nth failure, or none if that was the last: doubled each time, never less than was asked for.
    pub fn wait(&self, failures: u32, asked: Option<Duration>) -> Option<Duration> {
        let doubled = self.wait_min.saturating_mul(1 << failures.saturating_sub(1).min(16));
        (failures < self.attempts).then(|| doubled.max(asked.unwrap_or_default()).min(self.wait_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_end() {
        let retry = Retry { attempts: 8, ..Retry::default() };
        let waits: Vec<_> = (1..=8).map(|failures| retry.wait(failures, None).map(|wait| wait.as_secs())).collect();
        assert_eq!(waits, [Some(1), Some(2), Some(4), Some(8), Some(16), Some(30), Some(30), None]);
        assert_eq!(retry.wait(1, Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(retry.wait(1, Some(Duration::from_secs(3600))), Some(retry.wait_max));
    }
}
