//! Where wanted instances go: hard filters, then a score, then the smallest id (spec P-SCH-20 to -24, first form).
//!
//! Pure, with the "why not" as data. What it chooses is decided again in `decide`, one by one.

use std::collections::BTreeMap;

use crate::decide::{INELIGIBLE_AFTER, resources};
use crate::event::{Resources, Waiting};
use crate::facts::Facts;
use crate::ids::*;
use crate::phase::NodePhase;
use crate::state::{Committed, Node, State};
use crate::units::Mebibytes;

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
    // Nearly always, and the board is a walk over the fleet.
    if wanted.is_empty() {
        return Placement::default();
    }
    let mut board = Board::new(state, facts);
    let mut placement = Placement::default();
    for want in wanted {
        for _ in 0..want.count {
            match board.choose(state, want) {
                Ok(node) => placement.choices.push(board.take(state, want, node)),
                Err(why) => {
                    placement.waiting.push((want.env, want.process.clone(), why));
                    break;
                }
            }
        }
    }
    placement
}

/// The eligible nodes with what is held on them, choices of this round included.
struct Board {
    nodes: BTreeMap<NodeId, Committed>,
    /// Instances of a group on a node.
    group: BTreeMap<(EnvId, String, NodeId), u32>,
}

impl Board {
    fn new(state: &State, facts: &Facts) -> Self {
        let committed = state.committed();
        let eligible = |id: NodeId, node: &Node| node.phase == NodePhase::Active && facts.silent(id) < INELIGIBLE_AFTER;
        let nodes = state.nodes.iter().filter(|(id, node)| eligible(**id, node));
        let nodes = nodes.map(|(id, _)| (*id, committed.get(id).copied().unwrap_or_default())).collect();
        let mut group = BTreeMap::new();
        for instance in state.instances.values().filter(|instance| instance.holds_resources()) {
            *group.entry((instance.env, instance.process.clone(), instance.node)).or_default() += 1;
        }
        Self { nodes, group }
    }

    fn choose(&self, state: &State, want: &Wanted) -> Result<NodeId, Waiting> {
        let offers = self.offers(state, want)?;
        let fits = |(_, node, held, needs): &&Offer<'_>| free_memory(node, held) >= needs.memory + needs.overhead;
        let with_memory: Vec<_> = offers.iter().filter(fits).collect();
        let largest_free = |free: fn(&Node, &Committed) -> Mebibytes| {
            offers.iter().map(|(_, node, held, _)| free(node, held)).max().unwrap_or_default()
        };
        let needs = offers[0].3;
        if with_memory.is_empty() {
            let wanted = needs.memory + needs.overhead;
            return Err(Waiting::NoCapacityMemory { wanted, largest_free: largest_free(free_memory) });
        }
        let with_disk = with_memory.iter().filter(|(_, node, held, needs)| free_disk(node, held) >= needs.disk);
        // Ids are ordered, so of equal scores the smallest id is the last maximum in reverse.
        with_disk
            .rev()
            .max_by_key(|(id, node, held, _)| self.score(want, *id, node, held))
            .map(|(id, ..)| *id)
            .ok_or_else(|| Waiting::NoCapacityDisk { wanted: needs.disk, largest_free: largest_free(free_disk) })
    }

    /// The nodes that could run it if they were empty.
    fn offers<'a>(&'a self, state: &'a State, want: &Wanted) -> Result<Vec<Offer<'a>>, Waiting> {
        if self.nodes.is_empty() {
            return Err(Waiting::NoNodesActive);
        }
        let image = state.releases.get(&want.release).map(|release| &release.image);
        let offer = |(id, held): (&NodeId, &'a Committed)| {
            let node = state.nodes.get(id)?;
            image?.platforms.get(&node.capacity.arch)?;
            Some((*id, node, held, resources(state, want.release, &want.process, node)?))
        };
        let offers: Vec<_> = self.nodes.iter().filter_map(offer).collect();
        if offers.is_empty() { Err(self.wrong_platform(state, want)) } else { Ok(offers) }
    }

    fn wrong_platform(&self, state: &State, want: &Wanted) -> Waiting {
        let release = state.releases.get(&want.release);
        let offered = release.map(|release| release.image.platforms.keys().cloned().collect()).unwrap_or_default();
        let mut nodes: Vec<_> =
            self.nodes.keys().filter_map(|id| Some(state.nodes.get(id)?.capacity.arch.clone())).collect();
        nodes.sort();
        nodes.dedup();
        Waiting::ImagePlatformUnavailable { offered, nodes }
    }

    /// Spread a group over nodes first, then balance memory.
    fn score(&self, want: &Wanted, id: NodeId, node: &Node, held: &Committed) -> i64 {
        let same = self.group.get(&(want.env, want.process.clone(), id)).copied().unwrap_or(0);
        // Nodes say themselves how much they have, so nothing is too much to count with.
        let free_percent = u128::from(free_memory(node, held).0) * 100 / u128::from(node.capacity.memory.0.max(1));
        i64::try_from(free_percent).unwrap_or(100) - i64::from(same) * 1_000
    }

    fn take(&mut self, state: &State, want: &Wanted, node: NodeId) -> Choice {
        let resources = state.nodes.get(&node).and_then(|host| resources(state, want.release, &want.process, host));
        if let Some((held, resources)) = self.nodes.get_mut(&node).zip(resources) {
            held.add(&resources);
        }
        *self.group.entry((want.env, want.process.clone(), node)).or_default() += 1;
        Choice { env: want.env, process: want.process.clone(), release: want.release, node }
    }
}

type Offer<'a> = (NodeId, &'a Node, &'a Committed, Resources);

fn free_memory(node: &Node, held: &Committed) -> Mebibytes {
    node.capacity.memory - held.memory
}

fn free_disk(node: &Node, held: &Committed) -> Mebibytes {
    node.capacity.disk - held.disk
}
