//! Whether so many nodes fell silent at once that the fault is likely elsewhere: with the network, or with whoever listens (P-SCH-41).
//!
//! Moving work then would stop what still runs, on nodes that are about to be heard again. One node of any fleet may be lost, for that
//! is what machines do, and in a fleet of three it is a third; the guard speaks from two on, and from more than 30 % on.

use std::time::Duration;

use crate::facts::{Facts, INELIGIBLE_AFTER};
use crate::ids::NodeId;
use crate::phase::NodePhase;
use crate::state::{Node, State};
use crate::units::Timestamp;

const MASS_PERCENT: u32 = 30;
const MASS_MIN: u32 = 2;
/// At once means within this; and for as long nobody freezes again what an operator forced.
const MASS_WINDOW: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dark {
    pub silent: u32,
    /// Those that were heard before it began.
    pub nodes: u32,
}

/// Who is silent, as of now or of when it began.
pub fn dark(state: &State, facts: &Facts) -> Dark {
    let begun = state.rescheduling.frozen_since.unwrap_or(facts.now);
    let mut dark = Dark { silent: 0, nodes: 0 };
    for (id, node) in &state.nodes {
        match standing(state, *id, node, facts, begun) {
            Some(true) => dark = Dark { silent: dark.silent + 1, nodes: dark.nodes + 1 },
            Some(false) => dark.nodes += 1,
            None => {}
        }
    }
    dark
}

/// Whether a node is silent; none for one that had left before, or was emptied to be switched off.
fn standing(state: &State, id: NodeId, node: &Node, facts: &Facts, begun: Timestamp) -> Option<bool> {
    let leaves = node.phase.is_leaving() || node.returns_to.is_leaving();
    if leaves && state.live_on(id).next().is_none() {
        return None;
    }
    match node.phase {
        NodePhase::Decommissioned => None,
        NodePhase::Offline => (node.phase_at + MASS_WINDOW > begun).then_some(true),
        _ => Some(facts.silent(id) >= INELIGIBLE_AFTER),
    }
}

/// Whether an operator has just said that the silent will not be back.
pub fn is_forced(state: &State, facts: &Facts) -> bool {
    state.rescheduling.forced_at.is_some_and(|at| facts.now < at + MASS_WINDOW)
}

impl Dark {
    pub fn is_mass(self) -> bool {
        self.silent >= MASS_MIN && self.silent * 100 > self.nodes * MASS_PERCENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Rescheduling;
    use crate::testing::node;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    /// Nodes without work, each with its phase, what it returns to, and for how long it is so.
    fn silent(nodes: &[(NodePhase, NodePhase, u64)]) -> (u32, u32) {
        let mut state = State::default();
        for (number, (phase, returns_to, seconds)) in nodes.iter().enumerate() {
            let (phase, returns_to, phase_at) = (*phase, *returns_to, Timestamp(NOW.0 - seconds * 1_000));
            let id = NodeId::new(ulid::Ulid::from_parts(1, number as u128));
            state.nodes.insert(id, Node { phase, returns_to, phase_at, ..node() });
        }
        let Dark { silent, nodes } = dark(&state, &Facts { now: NOW, ..Facts::default() });
        (silent, nodes)
    }

    #[test]
    fn who_left_empty_or_long_ago_is_not_among_those_that_fell_silent() {
        use NodePhase::*;
        for (nodes, expected) in [
            (&[(Active, Active, 100), (Active, Active, 100)][..], (2, 2)),
            (&[(Offline, Active, 59), (Active, Active, 100)], (2, 2)),
            (&[(Offline, Active, 60), (Active, Active, 100)], (1, 1)),
            (&[(Draining, Draining, 1), (Offline, Draining, 1)], (0, 0)),
            (&[(Decommissioned, Decommissioned, 1)], (0, 0)),
        ] {
            assert_eq!(silent(nodes), expected, "{nodes:?}");
        }
    }

    #[test]
    fn a_word_of_force_holds_for_a_minute() {
        let facts = Facts { now: NOW, ..Facts::default() };
        for (seconds, holds) in [(0, true), (59, true), (60, false), (100, false)] {
            let forced_at = Some(Timestamp(NOW.0 - seconds * 1_000));
            let state =
                State { rescheduling: Rescheduling { forced_at, ..Rescheduling::default() }, ..State::default() };
            assert_eq!(is_forced(&state, &facts), holds, "{seconds} s ago");
        }
    }

    #[test]
    fn one_node_of_any_fleet_may_be_lost() {
        let most = |nodes| (0..=nodes).filter(|silent| !Dark { silent: *silent, nodes }.is_mass()).count() - 1;
        assert_eq!([1, 2, 3, 6, 7, 10, 100].map(most), [1, 1, 1, 1, 2, 3, 30]);
    }
}
