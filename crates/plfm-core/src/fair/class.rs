//! Classes of one project's requests: how they take turns, and how waiting raises them (A-TEN-11).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The most urgent first. It orders the requests of one project and never reaches across.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Critical,
    High,
    #[default]
    Normal,
    Low,
}

/// Who waits this long is served like the next class.
pub const RISES_AFTER: Duration = Duration::from_secs(60);

impl Class {
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Normal, Self::Low];

    pub const fn code(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// Between two turns of a class lie so many of the critical one: together they are served 8 : 4 : 2 : 1.
    const fn stride(self) -> u64 {
        1 << self as u64
    }

    /// What it counts as after so long a wait.
    pub fn after(self, waited: Duration) -> Self {
        let rises = usize::try_from(waited.as_secs() / RISES_AFTER.as_secs()).unwrap_or(usize::MAX);
        Self::ALL[(self as usize).saturating_sub(rises)]
    }
}

/// When each class is next, in turns of the critical one; kept from one decision to the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turns {
    now: u64,
    due: [u64; 4],
}

impl Turns {
    /// Of those that have requests: who is due first, of equals the more urgent.
    pub fn next(&self, waiting: impl Iterator<Item = Class>) -> Option<Class> {
        waiting.min_by_key(|class| (self.due(*class), *class))
    }

    pub fn take(&mut self, class: Class) {
        self.now = self.due(class);
        self.due[class as usize] = self.now + class.stride();
    }

    /// A class that had no requests has saved nothing up.
    fn due(&self, class: Class) -> u64 {
        self.due[class as usize].max(self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_served_eight_to_four_to_two_to_one() {
        let (mut turns, mut served) = (Turns::default(), [0; 4]);
        for _ in 0..15 * 8 {
            let class = turns.next(Class::ALL.into_iter()).expect("all wait");
            turns.take(class);
            served[class as usize] += 1;
        }
        assert_eq!(served, [64, 32, 16, 8]);
    }

    #[test]
    fn who_was_away_has_saved_nothing_up() {
        let mut turns = Turns::default();
        (0..100).for_each(|_| turns.take(Class::Low));
        let mut order = Vec::new();
        for _ in 0..12 {
            let class = turns.next([Class::Low, Class::Normal].into_iter()).expect("both wait");
            turns.take(class);
            order.push(class);
        }
        assert_eq!(order.iter().filter(|class| **class == Class::Normal).count(), 9);
    }

    #[test]
    fn waiting_raises() {
        let after = |seconds| Class::Low.after(Duration::from_secs(seconds));
        assert_eq!([0, 59, 60, 120, 180, 9_999].map(after), {
            use Class::*;
            [Low, Low, Normal, High, Critical, Critical]
        });
    }
}
