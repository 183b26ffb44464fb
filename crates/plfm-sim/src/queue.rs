//! Everything that will happen, by virtual time; what is due at one moment comes in the order it was asked for.

use std::collections::BTreeMap;

use plfm_core::units::Timestamp;

#[derive(Debug)]
pub struct Queue<T> {
    coming: BTreeMap<(Timestamp, u64), T>,
    now: Timestamp,
    asked: u64,
}

impl<T> Queue<T> {
    pub fn new(now: Timestamp) -> Self {
        Self { coming: BTreeMap::new(), now, asked: 0 }
    }

    pub fn now(&self) -> Timestamp {
        self.now
    }

    pub fn at(&mut self, at: Timestamp, what: T) {
        self.asked += 1;
        self.coming.insert((at.max(self.now), self.asked), what);
    }

    /// Lets time pass at once; what was due in it comes late.
    pub fn skip_to(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// The next one; it is then.
    pub fn pop(&mut self) -> Option<T> {
        let ((at, _), what) = self.coming.pop_first()?;
        self.now = self.now.max(at);
        Some(what)
    }
}
