//! Who is served next when there is not enough for all (A-TEN-10 to -12, -18).
//!
//! Weighted dominant-resource fairness: of what an org or project holds, the resource of which it holds the greatest part of the whole
//! is its dominant one; whoever's dominant share, divided by its weight, is smallest comes next. First among the orgs, then among the
//! projects of that org by the same rule; equals by their oldest request. Within a project, classes take turns.
//!
//! What does not fit is passed over, so nothing idles; but the first that has waited for long has room kept for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::{OrgId, ProjectId};
use crate::state::Committed;
use crate::units::Timestamp;

pub use self::class::{Class, Turns};

mod class;

/// Processors, memory, disk, and instances themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts(pub [u64; 4]);

/// A dominant share divided by a weight, as a binary fraction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u128);

/// Has waited so long that smaller requests no longer go past it on the node that has most room.
pub const RESERVE_AFTER: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    pub weight: u32,
    pub used: Amounts,
}

/// Where requests are served from.
pub trait Pool<T> {
    /// Serves one, or says that it does not fit.
    fn take(&mut self, request: &T, class: Class) -> Option<Amounts>;
    /// Serves nobody else from where this request would soonest fit, if there is such a place.
    fn reserve(&mut self, request: &T) -> bool;
}

#[derive(Debug)]
pub struct Queue<T> {
    now: Timestamp,
    capacity: Amounts,
    orgs: BTreeMap<OrgId, Org>,
    projects: BTreeMap<ProjectId, Project<T>>,
    /// The neediest first.
    order: BTreeSet<(Key, OrgId)>,
}

#[derive(Debug)]
struct Org {
    account: Account,
    key: Option<Key>,
    order: BTreeSet<(Key, ProjectId)>,
}

#[derive(Debug)]
struct Project<T> {
    org: OrgId,
    account: Account,
    turns: Turns,
    lanes: BTreeMap<Class, BTreeMap<(Timestamp, u64), Request<T>>>,
    key: Option<Key>,
}

/// What one waits for: so many of the same.
#[derive(Debug)]
struct Request<T> {
    what: T,
    count: u32,
}

/// The smaller the needier; equals by age.
type Key = (Share, Timestamp);

impl<T> Queue<T> {
    pub fn new(now: Timestamp, capacity: Amounts) -> Self {
        Self { now, capacity, orgs: BTreeMap::new(), projects: BTreeMap::new(), order: BTreeSet::new() }
    }

    pub fn org(&mut self, id: OrgId, account: Account) {
        self.orgs.entry(id).or_insert(Org { account, key: None, order: BTreeSet::new() });
    }

    pub fn project(&mut self, org: OrgId, id: ProjectId, account: Account, turns: Turns) {
        let fresh = || Project { org, account, turns, lanes: BTreeMap::new(), key: None };
        self.projects.entry(id).or_insert_with(fresh);
    }

    /// So many of the same, waiting since then; first come, first served within a class, and who waits for long rises.
    pub fn push(&mut self, project: ProjectId, class: Class, since: Timestamp, count: u32, what: T) {
        let Some(queue) = self.projects.get_mut(&project) else { return };
        let lane = queue.lanes.entry(class.after(self.now.since(since))).or_default();
        // Ties of time go by the order of coming.
        let number = lane.range((since, 0)..=(since, u64::MAX)).next_back().map_or(0, |((_, last), _)| last + 1);
        lane.insert((since, number), Request { what, count });
        self.rank(project);
    }

    /// What each org has, divided by its weight.
    pub fn orgs(&self) -> Vec<(OrgId, Share)> {
        self.orgs.iter().map(|(id, org)| (*id, org.account.key(self.capacity))).collect()
    }

    /// What each project has, divided by its weight.
    pub fn projects(&self) -> Vec<(ProjectId, Share)> {
        self.projects.iter().map(|(id, project)| (*id, project.account.key(self.capacity))).collect()
    }

    /// Serves until nothing more fits; gives back what is left, in the order in which it was refused.
    pub fn serve(mut self, pool: &mut impl Pool<T>) -> Vec<T> {
        let (mut left, mut reserved) = (Vec::new(), false);
        while let Some((project, class)) = self.next() {
            let Some(queue) = self.projects.get_mut(&project) else { break };
            let Some(((since, number), mut request)) = queue.pop(class) else { break };
            match pool.take(&request.what, class) {
                Some(amounts) => {
                    queue.turns.take(class);
                    queue.account.used = queue.account.used.plus(amounts);
                    let org = queue.org;
                    request.count -= 1;
                    if request.count > 0 {
                        queue.lanes.entry(class).or_default().insert((since, number), request);
                    }
                    self.orgs.entry(org).and_modify(|org| org.account.used = org.account.used.plus(amounts));
                }
                None => {
                    let waited_long = self.now.since(since) > RESERVE_AFTER;
                    reserved = reserved || waited_long && pool.reserve(&request.what);
                    left.push(request.what);
                }
            }
            self.rank(project);
        }
        left
    }

    fn next(&self) -> Option<(ProjectId, Class)> {
        let (_, org) = self.order.first()?;
        let (_, project) = self.orgs.get(org)?.order.first()?;
        Some((*project, self.projects.get(project)?.next()?))
    }

    /// Puts a project, and its org, where they now belong.
    fn rank(&mut self, id: ProjectId) {
        let Some(project) = self.projects.get_mut(&id) else { return };
        let Some(org) = self.orgs.get_mut(&project.org) else { return };
        let key = project.head().map(|since| (project.account.key(self.capacity), since));
        move_to(&mut org.order, &mut project.key, key, id);
        let head = org.order.first().map(|((_, since), _)| *since);
        let key = head.map(|since| (org.account.key(self.capacity), since));
        move_to(&mut self.order, &mut org.key, key, project.org);
    }
}

fn move_to<I: Copy + Ord>(order: &mut BTreeSet<(Key, I)>, from: &mut Option<Key>, to: Option<Key>, id: I) {
    if *from != to {
        if let Some(key) = from {
            order.remove(&(*key, id));
        }
        order.extend(to.map(|key| (key, id)));
        *from = to;
    }
}

impl<T> Project<T> {
    fn next(&self) -> Option<Class> {
        self.turns.next(self.lanes.keys().copied())
    }

    fn head(&self) -> Option<Timestamp> {
        self.lanes.get(&self.next()?)?.first_key_value().map(|((since, _), _)| *since)
    }

    fn pop(&mut self, class: Class) -> Option<((Timestamp, u64), Request<T>)> {
        let lane = self.lanes.get_mut(&class)?;
        let first = lane.pop_first();
        if lane.is_empty() {
            self.lanes.remove(&class);
        }
        first
    }
}

impl Account {
    pub fn key(&self, capacity: Amounts) -> Share {
        let Share(dominant) = self.used.dominant(capacity);
        Share(dominant / u128::from(self.weight.max(1)))
    }
}

impl Amounts {
    /// The greatest part of the whole, over all resources there are.
    pub fn dominant(self, capacity: Self) -> Share {
        let parts = self.0.into_iter().zip(capacity.0).filter(|(_, whole)| *whole > 0);
        // 64 bits for the amount and 60 for the fraction stay within 128.
        Share(parts.map(|(used, whole)| (u128::from(used) << 60) / u128::from(whole)).max().unwrap_or(0))
    }

    pub fn plus(self, other: Self) -> Self {
        Self(std::array::from_fn(|resource| self.0[resource].saturating_add(other.0[resource])))
    }
}

impl Share {
    /// For people and statistics.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / (1_u64 << 60) as f64
    }
}

impl From<Committed> for Amounts {
    fn from(held: Committed) -> Self {
        Self([held.cpu.0.into(), held.memory.0, held.disk.0, held.instances.into()])
    }
}

#[cfg(test)]
mod tests;
