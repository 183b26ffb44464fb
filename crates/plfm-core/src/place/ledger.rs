//! What orgs have in one decision, choices of the decision included, against what they may have (P-QUO-3).

use std::collections::BTreeMap;

use crate::event::Resources;
use crate::ids::OrgId;
use crate::quota::{Dimension, Excess};
use crate::state::{Committed, State};
use crate::units::Timestamp;

pub struct Ledger<'a> {
    state: &'a State,
    now: Timestamp,
    pages: BTreeMap<OrgId, Page>,
}

#[derive(Clone, Copy)]
struct Page {
    counted: Committed,
    starts: u64,
}

impl<'a> Ledger<'a> {
    pub const fn new(state: &'a State, now: Timestamp) -> Self {
        Self { state, now, pages: BTreeMap::new() }
    }

    pub fn check(&self, org: OrgId, needs: &Resources) -> Result<(), Excess> {
        let Some(owner) = self.state.orgs.get(&org) else { return Ok(()) };
        let Page { counted, starts } = self.page(org);
        owner.limits.check_held(counted, needs.into())?;
        owner.limits.check(Dimension::StartsPerMinute, starts, 1)
    }

    pub fn book(&mut self, org: OrgId, needs: &Resources) {
        let mut page = self.page(org);
        page.counted.add(needs);
        page.starts += 1;
        self.pages.insert(org, page);
    }

    fn page(&self, org: OrgId) -> Page {
        let fresh = || Page {
            counted: self.state.index().usage(org).counted,
            starts: self.state.starts(org, self.now).count() as u64,
        };
        self.pages.get(&org).copied().unwrap_or_else(fresh)
    }
}
