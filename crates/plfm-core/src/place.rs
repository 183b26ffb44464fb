//! Where wanted instances go: hard filters, then a score, then the smallest id (P-SCH-20 to -24).
//!
//! Pure, with the "why not" as data. What it chooses is decided again in `decide`, one by one. That an image lies on a node already
//! counts for nothing (P-SCH-22 gives it 10): no node says yet which images it has.

use crate::event::{Resources, Waiting};
use crate::facts::Facts;
use crate::ids::*;
use crate::state::{Committed, Node, State};

use self::board::Board;
pub use self::board::is_eligible;

mod board;
pub mod report;
pub mod score;

/// More instances a node never gets: each has its own namespace, links and processes, and a report names them all.
pub const NODE_INSTANCES_MAX: u32 = 1_000;

/// So many more instances of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub env: EnvId,
    pub process: String,
    pub release: ReleaseId,
    pub count: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub env: EnvId,
    pub process: String,
    pub release: ReleaseId,
    pub node: NodeId,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    pub choices: Vec<Choice>,
    pub waiting: Vec<(EnvId, String, Waiting)>,
}

pub fn place(state: &State, facts: &Facts, wanted: &[Wanted]) -> Placement {
    let mut placement = Placement::default();
    if wanted.is_empty() {
        return placement;
    }
    let mut board = Board::new(state, facts);
    let mut without = Vec::new();
    for want in wanted {
        for _ in 0..want.count {
            let Some((node, _)) = board.take(want) else {
                without.push(want);
                break;
            };
            placement.choices.push(choice(want, node));
        }
    }
    // Said at the end, for what is left then is what they lack.
    let waits = |want: &Wanted| (want.env, want.process.clone(), board.why_not(want));
    placement.waiting = without.into_iter().map(waits).collect();
    placement
}

/// The place of a single instance, for a decision that accepts and places at once.
pub fn one(state: &State, facts: &Facts, want: &Wanted) -> Result<NodeId, Waiting> {
    let mut board = Board::new(state, facts);
    board.take(want).map(|(node, _)| node).ok_or_else(|| board.why_not(want))
}

fn choice(want: &Wanted, node: NodeId) -> Choice {
    Choice { env: want.env, process: want.process.clone(), release: want.release, node }
}

/// Whether a node can hold these resources beside what it holds.
pub fn has_room(node: &Node, held: Committed, needs: &Resources) -> bool {
    let then = held.plus(needs.into());
    then.memory <= node.capacity.memory && then.disk <= node.capacity.disk && then.instances <= NODE_INSTANCES_MAX
}
