//! Who waits for room, and in which order they would be served if there were enough (A-TEN-19): about the order in which they come.
//! Computed when someone asks; never stored.

use crate::event::Waiting;
use crate::facts::Facts;
use crate::fair::{Amounts, Class, Pool, Share};
use crate::ids::*;
use crate::state::{Committed, Env, State};

use super::Wanted;
use super::kind::Wish;
use super::session::Session;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The next one first.
    pub groups: Vec<(EnvId, String)>,
    /// What each org holds of the fleet, divided by its weight: the least comes next.
    pub orgs: Vec<(OrgId, Share)>,
    /// The same of projects, within their org.
    pub projects: Vec<(ProjectId, Share)>,
}

/// As if one of each came and there were room for all.
pub fn line(state: &State, facts: &Facts) -> Line {
    let envs = state.index().unsettled().filter_map(|id| Some((id, state.envs.get(&id)?)));
    let wanted: Vec<_> = envs.flat_map(|(env, owner)| waiting(env, owner)).collect();
    let queue = Session::new(state, facts).queue(&wanted);
    let (orgs, projects) = (queue.orgs(), queue.projects());
    let mut all = All { state, served: Vec::new() };
    queue.serve(&mut all);
    Line { groups: all.served, orgs, projects }
}

impl Line {
    /// From one.
    pub fn place_of(&self, env: EnvId, process: &str) -> Option<usize> {
        self.groups.iter().position(|(of, name)| *of == env && name == process).map(|before| before + 1)
    }
}

fn waiting(env: EnvId, owner: &Env) -> impl Iterator<Item = Wanted> {
    let (waiting, class) = (owner.groups.iter(), owner.class);
    let waiting = waiting.filter(|(_, group)| group.waiting.as_ref().is_some_and(Waiting::is_for_free_room));
    waiting.map(move |(process, group)| {
        let (process, release, since) = (process.clone(), group.release, group.waiting_since);
        Wanted { env, process, release, count: 1, class, since }
    })
}

/// Has room for everyone, and notes who came when.
struct All<'a> {
    state: &'a State,
    served: Vec<(EnvId, String)>,
}

impl<'a> Pool<&'a Wanted> for All<'a> {
    fn take(&mut self, want: &&'a Wanted, _: Class) -> Option<Amounts> {
        self.served.push((want.env, want.process.clone()));
        let size = Wish::of(self.state, want).map(|wish| Committed::of(1, wish.kind.size));
        Some(size.unwrap_or_default().into())
    }

    fn reserve(&mut self, _: &&'a Wanted) -> bool {
        false
    }
}
