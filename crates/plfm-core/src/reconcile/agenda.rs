//! The moments that a round waits for. Each comparison with the clock goes through here, so that none is forgotten.

use crate::units::Timestamp;

#[derive(Debug)]
pub struct Agenda {
    pub now: Timestamp,
    next: Option<Timestamp>,
}

impl Agenda {
    pub const fn new(now: Timestamp) -> Self {
        Self { now, next: None }
    }

    /// Whether a moment has come; if not, it is one to wait for.
    pub fn is_due(&mut self, at: Timestamp) -> bool {
        self.note(at);
        self.now >= at
    }

    pub fn note(&mut self, at: Timestamp) {
        if self.now < at {
            self.next = Some(self.next.map_or(at, |next| next.min(at)));
        }
    }

    pub const fn next(self) -> Option<Timestamp> {
        self.next
    }
}
