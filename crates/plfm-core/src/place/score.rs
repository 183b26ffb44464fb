//! How good a place is (P-SCH-22), in thousandths of a point; a higher score wins.

use std::time::Duration;

use crate::state::{Committed, Node};
use crate::units::Timestamp;

/// Apart from one's own kind.
pub const SPREAD: u64 = 100_000;
/// On processors that are little asked for.
pub const CPU: u64 = 50_000;
/// Processors are shared: so many times more may be asked for than there are before a node counts as full.
pub const CPU_OVERCOMMIT: u64 = 4;
/// On memory that is free.
pub const MEMORY: u64 = 20_000;
/// Where the image need not be fetched.
pub const IMAGE: i64 = 10_000;
/// Away from where boots failed lately.
pub const TROUBLE: i64 = 30_000;
/// So many failed boots are trouble …
pub const TROUBLE_FAILURES: usize = 3;
/// … when the first of them is no older than this.
pub const TROUBLE_WINDOW: Duration = Duration::from_secs(600);

/// What a node is worth to anyone.
pub fn of_node(node: &Node, held: Committed, now: Timestamp) -> i64 {
    let processors = u64::from(node.capacity.cpu.0) * CPU_OVERCOMMIT;
    let memory = node.capacity.memory.0;
    let idle = share(CPU, processors.saturating_sub(held.cpu.0.into()), processors);
    let free = share(MEMORY, memory.saturating_sub(held.memory.0), memory);
    idle + free - if in_trouble(node, now) { TROUBLE } else { 0 }
}

/// What it is worth to a group that wants so many, and has so many there.
pub fn spread(same: u32, wanted: u32) -> i64 {
    share(SPREAD, wanted.saturating_sub(same).into(), wanted.max(1).into())
}

fn in_trouble(node: &Node, now: Timestamp) -> bool {
    let oldest = node.failed_boots.first().filter(|_| node.failed_boots.len() >= TROUBLE_FAILURES);
    oldest.is_some_and(|oldest| now.since(*oldest) < TROUBLE_WINDOW)
}

/// `weight × part / whole`. Nodes say themselves how much they have, so nothing is too much to count with.
fn share(weight: u64, part: u64, whole: u64) -> i64 {
    let points = u128::from(weight) * u128::from(part) / u128::from(whole.max(1));
    i64::try_from(points).unwrap_or(i64::MAX).min(weight as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use crate::units::{Mebibytes, MilliCpu};

    #[test]
    fn shares_are_whole_numbers_between_nothing_and_the_weight() {
        assert_eq!((share(100, 1, 3), share(100, 0, 0), share(100, 5, 0)), (33, 0, 100));
        assert_eq!(share(SPREAD, u64::MAX, u64::MAX), 100_000);
        assert_eq!((spread(0, 4), spread(1, 4), spread(4, 4), spread(9, 4)), (100_000, 75_000, 0, 0));
    }

    fn node(failed_boots: Vec<Timestamp>) -> Node {
        Node { failed_boots, ..testing::node() }
    }

    #[test]
    fn processors_are_shared_and_memory_is_not() {
        let held = |cpu, memory| Committed { cpu: MilliCpu(cpu), memory: Mebibytes(memory), ..Committed::default() };
        let worth = |held| of_node(&node(Vec::new()), held, Timestamp(0));
        assert_eq!(worth(held(0, 0)), 70_000);
        assert_eq!(worth(held(1_000, 0)), 57_500, "a quarter of four times as much");
        assert_eq!(worth(held(4_000, 250)), 15_000);
    }

    #[test]
    fn trouble_is_three_failed_boots_in_ten_minutes() {
        let at = |count| vec![Timestamp(0); count];
        let worth = |boots, now| of_node(&node(boots), Committed::default(), now);
        let window = Timestamp(0) + TROUBLE_WINDOW;
        assert_eq!(worth(at(2), Timestamp(0)), 70_000);
        assert_eq!(worth(at(3), Timestamp(window.0 - 1)), 40_000);
        assert_eq!(worth(at(3), window), 70_000);
    }
}
