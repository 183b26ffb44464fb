//! The eligible nodes in one decision, what is held on them, and who is where: choices of the decision included.
//!
//! Nodes are kept in the order of what they are worth to anyone. A group looks from the best downwards for one without its own kind;
//! only where there is none, its own spread tells nodes apart (P-SCH-23). Those that have its image already are looked at beside the
//! best. So a choice looks at few nodes, and only the chosen one is scored anew.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::digest::Digest;
use crate::event::{ReleaseImage, Resources, Waiting};
use crate::facts::{Facts, INELIGIBLE_AFTER};
use crate::fair::Amounts;
use crate::ids::*;
use crate::state::{Committed, Node, State};
use crate::units::{Mebibytes, Timestamp};

use super::kind::{Home, Kind, Wish};
use super::{NODE_INSTANCES_MAX, has_room, score};

pub struct Board<'a> {
    state: &'a State,
    now: Timestamp,
    /// By id: of equal scores the smallest id wins.
    seats: Vec<Seat<'a>>,
    by_worth: BTreeSet<(Reverse<i64>, usize)>,
    groups: BTreeMap<(EnvId, &'a str), Siblings>,
    /// Which seats need not fetch an image.
    holders: BTreeMap<&'a Digest, BTreeSet<usize>>,
}

/// Instances of one group, by seat.
type Siblings = BTreeMap<usize, u32>;

struct Seat<'a> {
    id: NodeId,
    node: &'a Node,
    held: Committed,
    worth: i64,
    /// For one that has waited long.
    reserved: bool,
}

pub fn is_eligible(facts: &Facts, id: NodeId, node: &Node) -> bool {
    node.takes_work() && facts.silent(id) < INELIGIBLE_AFTER
}

impl<'a> Board<'a> {
    pub fn new(state: &'a State, facts: &'a Facts) -> Self {
        let eligible = state.nodes.iter().filter(|(id, node)| is_eligible(facts, **id, node));
        let seat = |(id, node): (&NodeId, &'a Node)| {
            let held = state.index().held(*id);
            Seat { id: *id, node, held, worth: score::of_node(node, held, facts.now), reserved: false }
        };
        let seats: Vec<_> = eligible.map(seat).collect();
        let by_worth = seats.iter().enumerate().map(|(place, seat)| (Reverse(seat.worth), place)).collect();
        let mut holders = BTreeMap::<_, BTreeSet<_>>::new();
        for (place, seat) in seats.iter().enumerate() {
            for image in facts.heard.get(&seat.id).iter().flat_map(|contact| contact.images.iter()) {
                holders.entry(image).or_default().insert(place);
            }
        }
        Self { state, now: facts.now, seats, by_worth, groups: BTreeMap::new(), holders }
    }

    /// The best seat for one more of this kind, and what it takes there.
    pub fn find(&mut self, wish: Wish<'a>) -> Option<(usize, Resources)> {
        let kind = wish.kind;
        let (state, seats, alone) = (self.state, &self.seats, Siblings::new());
        let siblings = match wish.group {
            Some(group) => self.groups.entry(group).or_insert_with(|| siblings(state, seats, group)),
            None => &alone,
        };
        let holders = kind.images().filter_map(|image| self.holders.get(image)).flatten().copied().collect();
        let place = choose(seats, &self.by_worth, siblings, &holders, kind)?;
        Some((place, kind.needs_on(seats[place].node)))
    }

    /// It is there from now on.
    pub fn seat(&mut self, wish: Wish<'a>, place: usize) -> NodeId {
        if let Some(group) = wish.group {
            *self.groups.entry(group).or_default().entry(place).or_default() += 1;
        }
        let seat = &mut self.seats[place];
        self.by_worth.remove(&(Reverse(seat.worth), place));
        seat.held = seat.held.plus(wish.kind.takes_on(seat.node));
        seat.worth = score::of_node(seat.node, seat.held, self.now);
        self.by_worth.insert((Reverse(seat.worth), place));
        seat.id
    }

    /// Keeps the seat where least is missing for nobody else, if it could hold one at all.
    pub fn reserve(&mut self, kind: Kind<'_>) -> bool {
        let able = |seat: &Seat<'_>| {
            kind.suits(seat.id, seat.node) && has_room(seat.node, Committed::default(), kind.takes_on(seat.node))
        };
        let able = self.seats.iter().enumerate().filter(|(_, seat)| able(seat));
        let nearest = able.max_by_key(|(place, seat)| (seat.part_free_of(kind.takes_on(seat.node)), Reverse(*place)));
        let place = nearest.map(|(place, _)| place);
        place.into_iter().for_each(|place| self.seats[place].reserved = true);
        place.is_some()
    }

    pub fn is_reserved(&self, node: NodeId) -> bool {
        self.seats.iter().any(|seat| seat.id == node && seat.reserved)
    }

    /// Everything there is, for shares of it.
    pub fn capacity(&self) -> Amounts {
        let of = |seat: &Seat<'_>| {
            let capacity = &seat.node.capacity;
            let cpu = u64::from(capacity.cpu.0) * score::CPU_OVERCOMMIT;
            Amounts([cpu, capacity.memory.0, capacity.disk.0, NODE_INSTANCES_MAX.into()])
        };
        self.seats.iter().map(of).fold(Amounts::default(), Amounts::plus)
    }

    /// The summary of what every node lacks: of the nodes that the image could run on, the nearest miss.
    pub fn why_not(&self, kind: Option<Kind<'_>>) -> Waiting {
        if self.seats.is_empty() {
            return Waiting::NoNodesActive;
        }
        let Some(kind) = kind else { return self.no_platform(None) };
        match kind.home() {
            Home::Anywhere => {}
            Home::On(home) => return self.why_not_at(kind, home),
            Home::Apart => return Waiting::VolumeConstraintsInvalid,
        }
        let offers: Vec<_> = self.seats.iter().filter(|seat| kind.runs_on(seat.node)).collect();
        if offers.is_empty() {
            return self.no_platform(Some(kind.image()));
        }
        let offers: Vec<_> = offers.into_iter().filter(|seat| kind.asked().are_on(seat.node)).collect();
        let Some(first) = offers.first() else { return Waiting::NoNodeLabelled { asked: kind.asked().all() } };
        let takes = kind.takes_on(first.node);
        let has_memory = |seat: &&Seat<'_>| seat.free_memory() >= kind.takes_on(seat.node).memory;
        if !offers.iter().copied().any(|seat| has_memory(&seat)) {
            let largest_free = offers.iter().map(|seat| seat.free_memory()).max().unwrap_or_default();
            return Waiting::NoCapacityMemory { wanted: takes.memory, largest_free };
        }
        if offers.iter().copied().filter(has_memory).all(|seat| seat.free_disk() < takes.disk) {
            let largest_free = offers.iter().map(|seat| seat.free_disk()).max().unwrap_or_default();
            return Waiting::NoCapacityDisk { wanted: takes.disk, largest_free };
        }
        if offers.iter().any(|seat| seat.has_room(kind)) {
            return Waiting::Reserved;
        }
        Waiting::NoCapacityInstances { most: NODE_INSTANCES_MAX }
    }

    /// What the only node lacks where it can be.
    fn why_not_at(&self, kind: Kind<'_>, home: NodeId) -> Waiting {
        let name = self.state.nodes.get(&home).map_or_else(|| home.to_string(), |node| node.name.clone());
        let Some(seat) = self.seats.iter().find(|seat| seat.id == home) else {
            return Waiting::VolumeHomeNodeOffline { node: name };
        };
        if !kind.runs_on(seat.node) {
            let offered = kind.image().platforms.keys().cloned().collect();
            return Waiting::ImagePlatformUnavailable { offered, nodes: vec![seat.node.capacity.arch.clone()] };
        }
        if !kind.asked().are_on(seat.node) {
            return Waiting::NoNodeLabelled { asked: kind.asked().all() };
        }
        if seat.has_room(kind) { Waiting::Reserved } else { Waiting::VolumeLocalityNoNode { node: name } }
    }

    fn no_platform(&self, image: Option<&ReleaseImage>) -> Waiting {
        let offered = image.map(|image| image.platforms.keys().cloned().collect()).unwrap_or_default();
        let nodes: BTreeSet<_> = self.seats.iter().map(|seat| seat.node.capacity.arch.clone()).collect();
        Waiting::ImagePlatformUnavailable { offered, nodes: nodes.into_iter().collect() }
    }
}

fn siblings(state: &State, seats: &[Seat<'_>], (env, process): (EnvId, &str)) -> Siblings {
    let mut siblings = Siblings::new();
    let same = state.live_in(env).filter(|(_, it)| it.is_of(env, process));
    for place in same.filter_map(|(_, it)| seats.binary_search_by_key(&it.node, |seat| seat.id).ok()) {
        *siblings.entry(place).or_default() += 1;
    }
    siblings
}

fn choose(
    seats: &[Seat<'_>],
    by_worth: &BTreeSet<(Reverse<i64>, usize)>,
    siblings: &Siblings,
    holders: &BTreeSet<usize>,
    kind: Kind<'_>,
) -> Option<usize> {
    let fits = |place: &usize| seats[*place].fits(kind);
    let wanted = kind.replicas();
    let score = |place: &usize| {
        let same = siblings.get(place).copied().unwrap_or_default();
        let fetched = if holders.contains(place) { score::IMAGE } else { 0 };
        (seats[*place].worth + score::spread(same, wanted) + fetched, Reverse(*place))
    };
    let is_alone = |place: &usize| !siblings.contains_key(place) && fits(place);
    let best = by_worth.iter().map(|(_, place)| *place).find(is_alone);
    let best_holder = holders.iter().copied().filter(is_alone).max_by_key(score);
    let alone = best.into_iter().chain(best_holder).max_by_key(score);
    alone.or_else(|| siblings.keys().copied().filter(fits).max_by_key(score))
}

impl Seat<'_> {
    fn fits(&self, kind: Kind<'_>) -> bool {
        !self.reserved && kind.suits(self.id, self.node) && self.has_room(kind)
    }

    fn has_room(&self, kind: Kind<'_>) -> bool {
        has_room(self.node, self.held, kind.takes_on(self.node))
    }

    /// How much of what is scarcest is there, in thousandths of what is needed.
    fn part_free_of(&self, takes: Committed) -> u64 {
        let part = |free: Mebibytes, takes: Mebibytes| free.0.min(takes.0) * 1_000 / takes.0.max(1);
        part(self.free_memory(), takes.memory).min(part(self.free_disk(), takes.disk))
    }

    fn free_memory(&self) -> Mebibytes {
        self.node.capacity.memory - self.held.memory
    }

    fn free_disk(&self) -> Mebibytes {
        self.node.capacity.disk - self.held.disk
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Capacity;
    use crate::manifest::Resources as Size;
    use crate::testing;
    use crate::units::MilliCpu;

    fn node(memory: u64) -> Node {
        let node = testing::node();
        let (cpu, memory, disk) = (MilliCpu(2_000), Mebibytes(memory), Mebibytes(5_000));
        Node { capacity: Capacity { cpu, memory, disk, ..node.capacity }, ..node }
    }

    #[test]
    fn the_whole_counts_processors_as_often_as_they_are_shared() {
        let (mut state, mut facts) = (State::default(), Facts::default());
        for (number, memory) in [(1, 300), (2, 700)] {
            let id = NodeId::new(ulid::Ulid::from_parts(1, number));
            state.nodes.insert(id, node(memory));
            facts.hear(id, Default::default());
        }
        let whole = Amounts([16_000, 1_000, 10_000, 2 * u64::from(NODE_INSTANCES_MAX)]);
        assert_eq!(Board::new(&state, &facts).capacity(), whole);
    }

    #[test]
    fn room_is_kept_only_where_it_could_ever_be() {
        let (mut state, mut facts) = (State::default(), Facts::default());
        for (number, arch, memory) in [(1, "arm64", 4_000), (2, "amd64", 100)] {
            let id = NodeId::new(ulid::Ulid::from_parts(1, number));
            let mut node = node(memory);
            node.capacity.arch = arch.to_owned();
            state.nodes.insert(id, node);
            facts.hear(id, Default::default());
        }
        let digest = Digest::of(b"image");
        let image = ReleaseImage { reference: String::new(), digest, platforms: [("amd64".to_owned(), digest)].into() };
        let reserves = |memory| {
            let size = Size { cpu: MilliCpu(100), memory: Mebibytes(memory), disk: Mebibytes(1) };
            let kind = Kind::anywhere(&image, &size);
            Board::new(&state, &facts).reserve(kind)
        };
        assert!(reserves(100) && !reserves(101));
    }

    #[test]
    fn a_seat_has_as_much_of_a_need_as_of_what_is_scarcest() {
        let (node, id) = (node(1_000), NodeId::new(ulid::Ulid::from_parts(1, 1)));
        let held = Committed { memory: Mebibytes(700), disk: Mebibytes(1_000), ..Committed::default() };
        let seat = Seat { id, node: &node, held, worth: 0, reserved: false };
        let takes =
            |memory, disk| Committed { memory: Mebibytes(memory), disk: Mebibytes(disk), ..Committed::default() };
        assert_eq!(seat.part_free_of(takes(600, 1_000)), 500, "300 of 600 MiB of memory");
        assert_eq!(seat.part_free_of(takes(200, 16_000)), 250, "4,000 of 16,000 MiB of disk");
        assert_eq!(seat.part_free_of(takes(200, 10)), 1_000, "all of it");
    }
}
