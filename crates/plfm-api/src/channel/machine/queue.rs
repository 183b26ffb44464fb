//! Whose turn it is to send: streams that have just become ready go before those that have been sending.

use std::collections::VecDeque;

/// So many turns of fresh streams, then one of a busy one: fresh ones may not starve bulk.
const FRESH_RUN_MAX: u32 = 8;

#[derive(Default)]
pub struct Queue {
    fresh: VecDeque<u32>,
    busy: VecDeque<u32>,
    run: u32,
}

impl Queue {
    pub fn fresh(&mut self, id: u32) {
        self.fresh.push_back(id);
    }

    /// Back in line after a turn that was not enough.
    pub fn again(&mut self, id: u32) {
        self.busy.push_back(id);
    }

    pub fn next(&mut self) -> Option<u32> {
        if self.run < FRESH_RUN_MAX
            && let Some(id) = self.fresh.pop_front()
        {
            self.run += 1;
            return Some(id);
        }
        self.run = 0;
        self.busy.pop_front().or_else(|| self.fresh.pop_front())
    }
}
