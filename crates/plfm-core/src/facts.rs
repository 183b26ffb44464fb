//! What the outside knows when something is decided: the time, fresh entropy, and when each node was last heard.

use std::cell::Cell;
use std::collections::BTreeMap;

use ulid::Ulid;

use crate::ids::NodeId;
use crate::units::Timestamp;

#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub now: Timestamp,
    /// Fresh for each decision; ids come from it.
    pub entropy: u128,
    /// Since when this writer listens. A new writer judges no node lost before a whole offline interval of its own.
    pub writer_since: Timestamp,
    /// When this writer last heard each node.
    pub heard: BTreeMap<NodeId, Timestamp>,
}

impl Facts {
    pub fn ids(&self) -> Ids {
        Ids { now: self.now, state: Cell::new(self.entropy) }
    }

    /// How long a node has been silent, as far as this writer can know.
    pub fn silent(&self, node: NodeId) -> std::time::Duration {
        self.now.since(self.heard_at(node))
    }

    /// When a node was last heard, or could last have been.
    pub fn heard_at(&self, node: NodeId) -> Timestamp {
        self.heard.get(&node).copied().unwrap_or_default().max(self.writer_since)
    }
}

/// Ids drawn from one decision's entropy: the same facts give the same ids.
#[derive(Debug)]
pub struct Ids {
    now: Timestamp,
    state: Cell<u128>,
}

impl Ids {
    pub fn fresh<I: From<Ulid>>(&self) -> I {
        Ulid::from_parts(self.now.0, self.draw() >> 48).into()
    }

    /// SplitMix64 (Steele, Lea, Flood 2014) twice; distinct inputs, distinct outputs, no secrets.
    fn draw(&self) -> u128 {
        let state = self.state.get();
        self.state.set(state.wrapping_add(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        let (high, low) = ((state >> 64) as u64, state as u64);
        u128::from(mix(high ^ mix(low))) << 64 | u128::from(mix(low.wrapping_add(mix(high))))
    }
}

fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ids::InstanceId;

    #[test]
    fn ids_of_one_decision_differ_and_repeat_with_its_facts() {
        let draw = |entropy| {
            let ids = Facts { entropy, ..Facts::default() }.ids();
            (0..1000).map(|_| ids.fresh::<InstanceId>()).collect::<BTreeSet<_>>()
        };
        assert_eq!(draw(7).len(), 1000);
        assert_eq!(draw(7), draw(7));
        assert!(draw(7).is_disjoint(&draw(8)));
    }
}
