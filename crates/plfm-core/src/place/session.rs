//! One decision about many: the queue of who wants, the board of where there is room, the ledger of who may.

use std::collections::BTreeMap;

use crate::event::{Resources, Waiting};
use crate::facts::Facts;
use crate::fair::{Account, Amounts, Class, Pool, Queue};
use crate::ids::*;
use crate::state::{Committed, State};
use crate::units::Timestamp;

use super::board::Board;
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
        let waits = |want: &'a Wanted| (want.env, want.process.clone(), self.why_not(want));
        let waiting = left.into_iter().map(waits).collect();
        Placement { choices: self.choices, waiting }
    }

    /// The best place for one more, booked from now on.
    pub fn choose(&mut self, want: &'a Wanted) -> Option<(NodeId, Resources)> {
        let org = self.org(want)?;
        let (seat, needs) = self.board.find(want)?;
        self.ledger.check(org, &needs).ok()?;
        self.ledger.book(org, &needs);
        Some((self.board.seat(want, seat, &needs), needs))
    }

    pub fn why_not(&mut self, want: &'a Wanted) -> Waiting {
        let denied = self
            .board
            .find(want)
            .zip(self.org(want))
            .and_then(|((_, needs), org)| self.ledger.check(org, &needs).err());
        denied.map_or_else(|| self.board.why_not(want), Waiting::OrgQuotaExceeded)
    }

    fn queue(&self, wanted: &'a [Wanted]) -> Queue<&'a Wanted> {
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

    fn enqueue(
        &self,
        want: &'a Wanted,
        used: &BTreeMap<OrgId, Committed>,
        queue: &mut Queue<&'a Wanted>,
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

    fn org(&self, want: &Wanted) -> Option<OrgId> {
        self.state.envs.get(&want.env).map(|env| env.org)
    }
}

impl<'a> Pool<&'a Wanted> for Session<'a> {
    fn take(&mut self, want: &&'a Wanted, class: Class) -> Option<Amounts> {
        let (node, needs) = self.choose(want)?;
        let Wanted { env, process, release, .. } = want;
        self.choices.push(Choice { env: *env, process: process.clone(), release: *release, node, class });
        Some(Committed::from(&needs).into())
    }

    fn reserve(&mut self, want: &&'a Wanted) -> bool {
        // If there is room it was denied.
        self.board.find(want).is_none() && self.board.reserve(want)
    }
}
