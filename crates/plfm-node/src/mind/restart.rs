//! Whether and when a failed instance is tried again (P-AGT-13).

use std::time::Duration;

use plfm_core::manifest::{Restart, RestartPolicy};
use plfm_core::reason::{Failure, Reason};
use plfm_core::units::Timestamp;

const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// More failures than this within [`LOOP_WINDOW`] are a crash loop.
const LOOP_FAILURES: usize = 5;
const LOOP_WINDOW: Duration = Duration::from_secs(300);
const LOOP_BACKOFF: Duration = Duration::from_secs(300);
/// Ready this long, and earlier failures no longer count.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// What went wrong lately, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct History(Vec<Timestamp>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// None: it stays failed.
    pub at: Option<Timestamp>,
    pub failure: Failure,
}

impl History {
    pub fn forgive(&mut self) {
        self.0.clear();
    }

    pub fn failed(&mut self, failure: Failure, exit_code: Option<i32>, policy: &Restart, now: Timestamp) -> Retry {
        self.0.push(now);
        // One more than the rule looks at: the list stays short however long a loop lasts.
        let excess = self.0.len().saturating_sub(LOOP_FAILURES + 1 + policy.max_retries.unwrap_or(0).min(64) as usize);
        self.0.drain(..excess);
        if !self.may_retry(&failure, exit_code, policy) {
            return Retry { at: None, failure };
        }
        if self.is_loop(now) {
            let failure = Failure::new(Reason::CrashLoopBackoff, failure.to_string());
            return Retry { at: Some(now + LOOP_BACKOFF), failure };
        }
        Retry { at: Some(now + self.backoff(policy)), failure }
    }

    fn may_retry(&self, failure: &Failure, exit_code: Option<i32>, policy: &Restart) -> bool {
        match failure.reason {
            Reason::ImageTooLarge
            | Reason::ImageLayerInvalid
            | Reason::ImagePlatformUnavailable
            | Reason::GuestProtocolMismatch
            | Reason::SpecUnsupported
            | Reason::SecretsMissing
            | Reason::WorkloadStartFailed
            | Reason::PrestartFailed => false,
            Reason::WorkloadExited | Reason::OomKilled | Reason::HealthcheckFailed | Reason::StartupTimeout => {
                self.policy_allows(exit_code, policy)
            }
            _ => true,
        }
    }

    fn policy_allows(&self, exit_code: Option<i32>, policy: &Restart) -> bool {
        match policy.policy {
            RestartPolicy::Always => true,
            RestartPolicy::Never => false,
            RestartPolicy::OnFailure => {
                exit_code != Some(0) && self.0.len() <= policy.max_retries.unwrap_or(u32::MAX) as usize
            }
        }
    }

    fn is_loop(&self, now: Timestamp) -> bool {
        self.0.iter().filter(|at| now.since(**at) <= LOOP_WINDOW).count() > LOOP_FAILURES
    }

    fn backoff(&self, policy: &Restart) -> Duration {
        let doublings = u32::try_from(self.0.len().saturating_sub(1)).unwrap_or(u32::MAX).min(6);
        BACKOFF_MAX.min(Duration::from_secs(u64::from(policy.backoff_seconds)) * 2_u32.pow(doublings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(policy: RestartPolicy, max_retries: Option<u32>) -> Restart {
        Restart { policy, max_retries, backoff_seconds: 2 }
    }

    fn exited() -> Failure {
        Failure::new(Reason::WorkloadExited, "")
    }

    #[test]
    fn the_list_stays_as_short_as_the_rule_allows() {
        for (max_retries, kept) in [(None, 1), (Some(3), 4), (Some(1_000), 65)] {
            let mut history = History::default();
            for second in 0..200 {
                let now = Timestamp(second * 1_000);
                history.failed(exited(), Some(1), &policy(RestartPolicy::Always, max_retries), now);
            }
            assert_eq!(history.0.len(), LOOP_FAILURES + kept, "{max_retries:?}");
        }
    }

    #[test]
    fn waits_double_until_the_loop_is_plain() {
        let always = policy(RestartPolicy::Always, None);
        let mut history = History::default();
        let mut now = Timestamp(1_000_000);
        let mut waits = Vec::new();
        for _ in 0..7 {
            let retry = history.failed(exited(), Some(1), &always, now);
            let at = retry.at.unwrap();
            waits.push((at.since(now).as_secs(), retry.failure.reason));
            now = at;
        }
        use Reason::{CrashLoopBackoff as Loop, WorkloadExited as Exit};
        assert_eq!(waits, [(2, Exit), (4, Exit), (8, Exit), (16, Exit), (32, Exit), (300, Loop), (60, Exit)]);
    }

    #[test]
    fn what_is_forgiven_counts_no_more() {
        let always = policy(RestartPolicy::Always, None);
        let (mut history, now) = (History::default(), Timestamp(0));
        let wait = |history: &mut History| history.failed(exited(), Some(1), &always, now).at.unwrap().since(now);
        assert_eq!([wait(&mut history), wait(&mut history)], [Duration::from_secs(2), Duration::from_secs(4)]);
        history.forgive();
        assert_eq!(wait(&mut history), Duration::from_secs(2));
    }

    #[test]
    fn the_policy_decides_what_an_end_means() {
        let retries = |which, max, code, times| {
            let (mut history, restart) = (History::default(), policy(which, max));
            (0..times).filter(|_| history.failed(exited(), Some(code), &restart, Timestamp(0)).at.is_some()).count()
        };
        assert_eq!(retries(RestartPolicy::Never, None, 1, 3), 0);
        assert_eq!(retries(RestartPolicy::OnFailure, Some(2), 1, 5), 2);
        assert_eq!(retries(RestartPolicy::OnFailure, Some(2), 0, 1), 0);
    }

    #[test]
    fn what_another_try_cannot_mend_is_not_tried() {
        let failure = Failure::new(Reason::WorkloadStartFailed, "exec \"/nope\"");
        let retry = History::default().failed(failure, None, &policy(RestartPolicy::Always, None), Timestamp(0));
        assert_eq!(retry.at, None);
    }
}
