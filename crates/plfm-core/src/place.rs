//! Where wanted instances go: fairness says who is next, the quota whether it may, hard filters and a score where to (P-SCH-20 to -24).
//!
//! Pure, with the "why not" as data. What it chooses is decided again in `decide`, one by one.

use crate::event::{Resources, Waiting};
use crate::facts::{Facts, INELIGIBLE_AFTER};
use crate::fair::Class;
use crate::ids::*;
use crate::phase::NodePhase;
use crate::quota::Excess;
use crate::state::{Committed, Footprint, Instance, Node, State};
use crate::units::Timestamp;

pub use self::board::is_eligible;
use self::kind::Asked;
pub(crate) use self::kind::Kind;
pub use self::kind::Wish;
use self::session::Session;

mod board;
pub mod figures;
mod kind;
mod ledger;
pub mod line;
pub mod report;
pub mod score;
mod session;

/// More instances a node never gets: each has its own namespace, links and processes, and a report names them all.
pub const NODE_INSTANCES_MAX: u32 = 1_000;

/// So many more instances of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub env: EnvId,
    pub process: String,
    pub release: ReleaseId,
    pub count: u32,
    pub class: Class,
    /// Since when it waits; none if it is wanted only now.
    pub since: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub env: EnvId,
    pub process: String,
    pub release: ReleaseId,
    pub node: NodeId,
    /// As which it was served.
    pub class: Class,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    pub choices: Vec<Choice>,
    pub waiting: Vec<(EnvId, String, Waiting)>,
}

/// Why a single instance gets no place: it may not, or it has to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoPlace {
    Denied(Excess),
    Waits(Waiting),
}

pub fn place(state: &State, facts: &Facts, wanted: &[Wanted]) -> Placement {
    if wanted.is_empty() { Placement::default() } else { Session::new(state, facts).place(wanted) }
}

/// The place of a single instance and what it takes there, for a decision that accepts and places at once.
pub fn one(state: &State, facts: &Facts, wish: Wish<'_>) -> Result<(NodeId, Resources), NoPlace> {
    let mut session = Session::new(state, facts);
    session.respect_the_patient();
    session.choose(wish).ok_or_else(|| match session.why_not(wish) {
        Waiting::OrgQuotaExceeded(excess) => NoPlace::Denied(excess),
        waiting => NoPlace::Waits(waiting),
    })
}

/// Of the disk of its node, to keep its memory on.
pub fn no_room_to_pause(state: &State, it: &Instance) -> Option<Waiting> {
    let free = state.nodes.get(&it.node)?.capacity.disk - state.index().held(it.node).disk;
    let wanted = it.resources.memory;
    let reserved = it.footprint != Footprint::Awake;
    (!reserved && wanted > free).then_some(Waiting::NoCapacityDisk { wanted, largest_free: free })
}

/// Where it is paused, for nowhere else is it.
pub fn no_room_to_resume(state: &State, facts: &Facts, it: &Instance) -> Option<Waiting> {
    let node = state.nodes.get(&it.node)?;
    if node.phase != NodePhase::Active || facts.silent(it.node) >= INELIGIBLE_AFTER {
        return Some(Waiting::NoNodesActive);
    }
    if is_kept_for_others(state, facts, it.node) {
        return Some(Waiting::Reserved);
    }
    let wanted = Committed::from(&it.resources).memory - it.held().memory;
    let free = node.capacity.memory - state.index().held(it.node).memory;
    (wanted > free).then_some(Waiting::NoCapacityMemory { wanted, largest_free: free })
}

/// Why no other of its kind comes to be beside it, where alone that could be, with `more` that is decided in the same moment.
pub fn no_room_beside(state: &State, facts: &Facts, it: &Instance, more: Committed) -> Option<Waiting> {
    let (node, asked) = (state.nodes.get(&it.node)?, Asked::of(state, it.org, None));
    if !asked.are_on(node) {
        return Some(Waiting::NoNodeLabelled { asked: asked.all() });
    }
    if is_kept_for_others(state, facts, it.node) {
        return Some(Waiting::Reserved);
    }
    no_room_there(state, facts, it.node, more, Committed::from(&it.resources))
}

/// Somebody has waited long for the room that its node has.
fn is_kept_for_others(state: &State, facts: &Facts, node: NodeId) -> bool {
    let mut session = Session::new(state, facts);
    session.respect_the_patient();
    session.is_reserved(node)
}

/// Why its node, where alone it can be, does not take this much beside what it holds and `more` that is decided in the same moment.
pub fn no_room_there(state: &State, facts: &Facts, node: NodeId, more: Committed, needs: Committed) -> Option<Waiting> {
    let it = state.nodes.get(&node)?;
    if !it.takes_work() || facts.silent(node) >= INELIGIBLE_AFTER {
        return Some(Waiting::NoNodesActive);
    }
    let (held, most) = (state.index().held(node).plus(more), &it.capacity);
    if held.instances + needs.instances > NODE_INSTANCES_MAX {
        return Some(Waiting::NoCapacityInstances { most: NODE_INSTANCES_MAX });
    }
    let (memory, disk) = (most.memory - held.memory, most.disk - held.disk);
    if needs.memory > memory {
        return Some(Waiting::NoCapacityMemory { wanted: needs.memory, largest_free: memory });
    }
    (needs.disk > disk).then_some(Waiting::NoCapacityDisk { wanted: needs.disk, largest_free: disk })
}

/// Whether a node can hold these resources beside what it holds.
pub fn has_room(node: &Node, held: Committed, takes: Committed) -> bool {
    let then = held.plus(takes);
    then.memory <= node.capacity.memory && then.disk <= node.capacity.disk && then.instances <= NODE_INSTANCES_MAX
}
