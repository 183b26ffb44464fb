//! The fleet in numbers, for who watches it: read from the state when asked, nothing is remembered for it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::event::Waiting;
use crate::facts::Facts;
use crate::fair::{Amounts, Class};
use crate::ids::*;
use crate::phase::{InstancePhase, NodePhase};
use crate::state::{Committed, Group, State};
use crate::units::Timestamp;

use super::Wanted;
use super::board::Board;
use super::kind::Wish;

#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    pub nodes: BTreeMap<NodePhase, usize>,
    pub instances: BTreeMap<InstancePhase, usize>,
    /// Groups of replicas that wait for room.
    pub waits: Vec<Wait>,
    /// The greatest part of the fleet that each project holds of anything.
    pub shares: Vec<(ProjectId, f64)>,
    /// How even that is, by weight, among those that wait: 1 is even, 1/n is all for one (Jain, Chiu, Hawe 1984).
    pub jain_index: f64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    pub env: EnvId,
    pub process: String,
    pub since: Timestamp,
    /// Longer than fairness promises (A-TEN-18).
    pub starves: bool,
}

/// Whoever has less than a fair part and would fit somewhere waits no longer than this, if as much as it needs comes free each
/// [`TURNOVER`].
pub const STARVED_AFTER: Duration = Duration::from_secs(60);
const TURNOVER: Duration = Duration::from_secs(30);

pub fn figures(state: &State, facts: &Facts) -> Figures {
    let capacity = Board::new(state, facts).capacity();
    let dominant = |id: ProjectId| Amounts::from(state.index().held_by(id)).dominant(capacity).as_f64();
    let shares: Vec<_> = state.projects.keys().map(|id| (*id, dominant(*id))).collect();
    let waits: Vec<_> =
        waiting(state).map(|(env, name, group)| wait(state, facts, &shares, env, name, group)).collect();
    let waiting: Vec<_> = waits.iter().filter_map(|wait| state.envs.get(&wait.env)).collect();
    let waiting = shares.iter().filter(|(id, _)| waiting.iter().any(|env| project_of(state, env.app) == Some(*id)));
    let holdings = waiting.filter_map(|(id, share)| Some((*share, state.projects.get(id)?.weight)));
    Figures {
        nodes: count(state.nodes.values().map(|node| node.phase)),
        instances: count(state.instances.values().map(|instance| instance.status.phase)),
        jain_index: jain(holdings.collect()),
        waits,
        shares,
    }
}

fn waiting(state: &State) -> impl Iterator<Item = (EnvId, &String, &Group)> {
    let envs = state.index().unsettled().filter_map(|id| Some((id, state.envs.get(&id)?)));
    let groups = envs.flat_map(|(id, env)| env.groups.iter().map(move |(name, group)| (id, name, group)));
    groups.filter(|(.., group)| group.waiting.as_ref().is_some_and(Waiting::is_for_free_room))
}

fn wait(state: &State, facts: &Facts, shares: &[(ProjectId, f64)], env: EnvId, name: &str, group: &Group) -> Wait {
    let since = group.waiting_since.unwrap_or(facts.now);
    let waited = facts.now.since(since);
    let project = state.envs.get(&env).and_then(|env| project_of(state, env.app));
    let below = || project.is_some_and(|id| has_less_than_its_part(state, shares, id));
    let starves = waited > STARVED_AFTER && below() && others_were_served(state, env, name, group, since, waited);
    Wait { env, process: name.to_owned(), since, starves }
}

fn project_of(state: &State, app: AppId) -> Option<ProjectId> {
    state.apps.get(&app).map(|app| app.project)
}

/// Of what the fleet has, by the weight of its org among the orgs and its own among the projects of the org; who holds and wants nothing
/// has no part.
fn has_less_than_its_part(state: &State, shares: &[(ProjectId, f64)], id: ProjectId) -> bool {
    let Some(project) = state.projects.get(&id) else { return false };
    let there: Vec<_> = shares.iter().filter(|(other, share)| *other == id || *share > 0.0).collect();
    let known = || there.iter().filter_map(|(other, _)| state.projects.get(other));
    let siblings: u32 = known().filter(|other| other.org == project.org).map(|other| other.weight).sum();
    let orgs: BTreeMap<OrgId, u32> =
        known().filter_map(|other| Some((other.org, state.orgs.get(&other.org)?.weight))).collect();
    let of_orgs =
        f64::from(orgs.get(&project.org).copied().unwrap_or(1)) / f64::from(orgs.values().sum::<u32>().max(1));
    let part = of_orgs * f64::from(project.weight) / f64::from(siblings.max(1));
    shares.iter().any(|(other, share)| *other == id && *share < part)
}

/// Meanwhile others got, of everything, what it needs once each [`TURNOVER`].
fn others_were_served(
    state: &State,
    env: EnvId,
    name: &str,
    group: &Group,
    since: Timestamp,
    waited: Duration,
) -> bool {
    let (process, release) = (name.to_owned(), group.release);
    let wanted = Wanted { env, process, release, count: 1, class: Class::Normal, since: None };
    let Some(wish) = Wish::of(state, &wanted) else { return false };
    let needs = Amounts::from(Committed::of(1, wish.kind.size));
    let others = state.instances.values().filter(|it| it.created_at > since && !it.is_of(env, name));
    let given = others.fold(Amounts::default(), |sum, it| sum.plus(Committed::from(&it.resources).into()));
    let times = waited.as_secs() / TURNOVER.as_secs();
    given.0.iter().zip(needs.0).all(|(given, needs)| *given >= needs * times)
}

fn count<K: Ord>(of: impl Iterator<Item = K>) -> BTreeMap<K, usize> {
    let mut counts = BTreeMap::new();
    of.for_each(|key| *counts.entry(key).or_default() += 1);
    counts
}

/// Of shares, each by its weight.
fn jain(holdings: Vec<(f64, u32)>) -> f64 {
    let values: Vec<_> = holdings.into_iter().map(|(share, weight)| share / f64::from(weight.max(1))).collect();
    let (sum, squares): (f64, f64) = (values.iter().sum(), values.iter().map(|value| value * value).sum());
    if squares == 0.0 { 1.0 } else { sum * sum / (values.len() as f64 * squares) }
}

#[cfg(test)]
mod tests {
    use imbl::Vector;
    use ulid::Ulid;

    use crate::fair::Turns;
    use crate::labels::Labels;
    use crate::quota::Limits;
    use crate::state::{Org, Project};
    use crate::units::Seq;

    use super::*;

    #[test]
    fn even_is_one_and_all_for_one_is_its_part() {
        assert_eq!(jain(Vec::new()), 1.0);
        assert_eq!(jain(vec![(0.0, 1), (0.0, 1)]), 1.0);
        assert_eq!(jain(vec![(0.25, 1), (0.25, 1), (0.25, 1)]), 1.0);
        assert_eq!(jain(vec![(0.5, 1), (0.0, 1)]), 0.5);
        assert_eq!(jain(vec![(0.5, 2), (0.25, 1)]), 1.0, "by weight");
    }

    /// Two orgs have a half each; within one of them a project of weight 3 has three quarters of that.
    #[test]
    fn a_part_is_by_the_weights_of_the_org_and_in_it_of_the_project() {
        let [ours, sibling, stranger] = [1, 2, 3].map(|number| ProjectId::new(Ulid(number)));
        let [org, other] = [1, 2].map(|number| OrgId::new(Ulid(number)));
        let mut state = State::default();
        for (id, org, weight) in [(ours, org, 1), (sibling, org, 3), (stranger, other, 1)] {
            let (name, turns, version) = (String::new(), Turns::default(), Seq(1));
            state.projects.insert(id, Project { org, name: name.clone(), weight, turns, version });
            let (limits, constraints, starts) = (Limits::default(), Labels::default(), Vector::new());
            state.orgs.insert(org, Org { name, weight: 1, limits, constraints, starts, version });
        }
        let has_less = |mine: f64, siblings: f64, strangers: f64| {
            has_less_than_its_part(&state, &[(ours, mine), (sibling, siblings), (stranger, strangers)], ours)
        };
        assert!(has_less(0.9, 0.0, 0.0), "all of it is its part");
        assert!(has_less(0.4, 0.0, 0.1), "a half of it is");
        assert!(!has_less(0.6, 0.0, 0.1));
        assert!(has_less(0.1, 0.1, 0.1), "an eighth of it is");
        assert!(!has_less(0.2, 0.1, 0.1), "the others have less, and are not asked about");
    }
}
