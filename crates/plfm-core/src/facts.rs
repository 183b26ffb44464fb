//! What the outside knows when something is decided: the time, fresh entropy, and what each node said of itself.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ulid::Ulid;

use crate::digest::Digest;
use crate::ids::NodeId;
use crate::units::Timestamp;

/// A silent node gets no new work after this, and has to show again that it stays (P-SCH-40).
pub const INELIGIBLE_AFTER: Duration = Duration::from_secs(30);
/// Three heartbeats in a row take so long (P-SCH-40).
pub const BACK_AFTER: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub now: Timestamp,
    /// Fresh for each decision; ids come from it.
    pub entropy: u128,
    /// Since when this writer listens. A new writer judges no node lost before a whole offline interval of its own.
    pub writer_since: Timestamp,
    /// What this writer has heard of each node.
    pub heard: BTreeMap<NodeId, Contact>,
}

/// A node as it is heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// The first word after a silence.
    pub since: Timestamp,
    pub last: Timestamp,
    /// By the digest of the platform's manifest: what need not be fetched to run there.
    pub images: Arc<BTreeSet<Digest>>,
}

impl Facts {
    pub fn ids(&self) -> Ids {
        Ids { now: self.now, state: Cell::new(self.entropy) }
    }

    /// A node gave a sign of life.
    pub fn hear(&mut self, node: NodeId, images: Arc<BTreeSet<Digest>>) {
        let now = self.now;
        let unbroken = self.heard.get(&node).filter(|known| now.since(known.last) < INELIGIBLE_AFTER);
        let since = unbroken.map_or(now, |known| known.since);
        self.heard.insert(node, Contact { since, last: now, images });
    }

    /// Whether a node that was lost speaks again and goes on speaking.
    pub fn is_back(&self, node: NodeId) -> bool {
        self.heard.get(&node).is_some_and(|contact| contact.last.since(contact.since) >= BACK_AFTER)
    }

    pub fn has_image(&self, node: NodeId, image: &Digest) -> bool {
        self.heard.get(&node).is_some_and(|contact| contact.images.contains(image))
    }

    /// How long a node has been silent, as far as this writer can know.
    pub fn silent(&self, node: NodeId) -> Duration {
        self.now.since(self.heard_at(node))
    }

    /// When a node was last heard, or could last have been.
    pub fn heard_at(&self, node: NodeId) -> Timestamp {
        self.heard.get(&node).map_or(self.writer_since, |contact| contact.last.max(self.writer_since))
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

    /// SplitMix64 (Steele, Lea, Flood 2014) twice: well mixed, and no secret.
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
    fn a_node_is_back_after_three_heartbeats_in_a_row() {
        let node = Facts::default().ids().fresh();
        let back = |beats: &[u64]| {
            let mut facts = Facts::default();
            for at in beats {
                facts.now = Timestamp(at * 1000);
                facts.hear(node, Arc::default());
            }
            facts.is_back(node)
        };
        assert!(!back(&[]) && !back(&[100]) && !back(&[100, 101, 102, 110]));
        assert!(back(&[100, 110, 120]));
        assert!(!back(&[0, 10, 20, 51]) && back(&[0, 31, 41, 51]), "a silence begins it anew");
    }

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
