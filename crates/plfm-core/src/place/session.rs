//! One decision about many: the queue of who wants, the board of where there is room, the ledger of who may.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Resources, Waiting};
use crate::facts::Facts;
use crate::fair::{Account, Amounts, Class, Pool, Queue, RESERVE_AFTER};
use crate::ids::*;
use crate::state::{Committed, Group, State};
use crate::units::Timestamp;

use super::board::Board;
use super::kind::{Kind, Wish};
use super::ledger::Ledger;
use super::{Choice, Placement, Wanted};

pub struct Session<'a> {
    state: &'a State,
    now: Timestamp,
    board: Board<'a>,
    ledger: Ledger<'a>,
    choices: Vec<Choice>,
}

impl<'a> Session<'a> {
    pub fn new(state: &'a State, facts: &'a Facts) -> Self {
        let (board, ledger) = (Board::new(state, facts), Ledger::new(state, facts.now));
        Self { state, now: facts.now, board, ledger, choices: Vec::new() }
    }

    pub fn place(mut self, wanted: &'a [Wanted]) -> Placement {
        let left = self.queue(wanted).serve(&mut self);
        // Said at the end, for what is left then is what they lack.
        let waits = |want: &'a Wanted| (want.env, want.process.clone(), self.why_not_wanted(want));
        let waiting = left.into_iter().map(waits).collect();
        Placement { choices: self.choices, waiting }
    }

    /// The best place for one more, booked from now on.
    pub fn choose(&mut self, wish: Wish<'a>) -> Option<(NodeId, Resources)> {
        let (seat, needs) = self.board.find(wish)?;
        self.ledger.check(wish.org, &needs).ok()?;
        self.ledger.book(wish.org, &needs);
        Some((self.board.seat(wish, seat), needs))
    }

    pub fn why_not(&mut self, wish: Wish<'a>) -> Waiting {
        let found = self.board.find(wish);
        let denied = found.and_then(|(_, needs)| self.ledger.check(wish.org, &needs).err());
        denied.map_or_else(|| self.board.why_not(Some(wish.kind)), Waiting::OrgQuotaExceeded)
    }

    fn why_not_wanted(&mut self, want: &'a Wanted) -> Waiting {
        match Wish::of(self.state, want) {
            Some(wish) => self.why_not(wish),
            None => self.board.why_not(None),
        }
    }

    /// Who has waited long for room keeps what it is about to get: whoever comes now does not go past it. As in the queue, it is the
    /// first of them for whom there could be room at all; who is denied waits for nothing.
    pub fn respect_the_patient(&mut self) {
        let groups = self.state.index().unsettled().filter_map(|id| Some((id, self.state.envs.get(&id)?)));
        let groups = groups.flat_map(|(env, it)| it.groups.iter().map(move |(process, group)| (env, process, group)));
        let patient = |group: &Group| {
            let since = group.waiting_since.filter(|since| self.now.since(*since) > RESERVE_AFTER);
            since.filter(|_| group.waiting.as_ref().is_some_and(Waiting::is_for_free_room))
        };
        let patient = groups.filter_map(|(env, process, group)| Some((patient(group)?, env, process, group.release)));
        let by_age: BTreeSet<_> = patient.collect();
        for (_, env, process, release) in by_age {
            let kind = Kind::of_process(self.state, env, release, process);
            let org = self.state.envs.get(&env).map(|env| env.org);
            let Some(wish) = org.zip(kind).map(|(org, kind)| Wish { org, kind, group: Some((env, process)) }) else {
                continue;
            };
            if self.board.find(wish).is_none() && self.board.reserve(wish.kind) {
                return;
            }
        }
    }

    pub fn is_reserved(&self, node: NodeId) -> bool {
        self.board.is_reserved(node)
    }

    pub fn queue<'w>(&self, wanted: &'w [Wanted]) -> Queue<&'w Wanted> {
        let mut queue = Queue::new(self.now, self.board.capacity());
        let mut used = BTreeMap::<OrgId, Committed>::new();
        for (id, project) in &self.state.projects {
            let org = used.entry(project.org).or_default();
            *org = org.plus(self.state.index().held_by(*id));
        }
        for want in wanted {
            self.enqueue(want, &used, &mut queue);
        }
        queue
    }

    fn enqueue<'w>(
        &self,
        want: &'w Wanted,
        used: &BTreeMap<OrgId, Committed>,
        queue: &mut Queue<&'w Wanted>,
    ) -> Option<()> {
        let app = self.state.apps.get(&self.state.envs.get(&want.env)?.app)?;
        let (org, project) = (self.state.orgs.get(&app.org)?, self.state.projects.get(&app.project)?);
        let of_org = Amounts::from(used.get(&app.org).copied().unwrap_or_default());
        let of_project = Amounts::from(self.state.index().held_by(app.project));
        queue.org(app.org, Account { weight: org.weight, used: of_org });
        queue.project(app.org, app.project, Account { weight: project.weight, used: of_project }, project.turns);
        queue.push(app.project, want.class, want.since.unwrap_or(self.now), want.count, want);
        Some(())
    }
}

impl<'a> Pool<&'a Wanted> for Session<'a> {
    fn take(&mut self, want: &&'a Wanted, class: Class) -> Option<Amounts> {
        let (node, needs) = self.choose(Wish::of(self.state, want)?)?;
        let Wanted { env, process, release, .. } = want;
        self.choices.push(Choice { env: *env, process: process.clone(), release: *release, node, class });
        Some(Committed::from(&needs).into())
    }

    fn reserve(&mut self, want: &&'a Wanted) -> bool {
        let Some(wish) = Wish::of(self.state, want) else { return false };
        // If there is room it was denied.
        self.board.find(wish).is_none() && self.board.reserve(wish.kind)
    }
}
