//! An edge: it has a table of some server, maybe an old one, and sends what comes in to one of the instances in it.

use plfm_api::views::RouteTable;
use plfm_core::state::State;

use crate::ctx::Ctx;
use crate::judge::Judge;
use crate::node::Node;

pub struct Edge {
    pub index: usize,
    pub table: RouteTable,
    pub is_cut_off: bool,
}

impl Edge {
    pub fn new(index: usize) -> Self {
        Self { index, table: RouteTable::default(), is_cut_off: false }
    }

    pub fn hears(&mut self, state: &State) {
        if self.table.seq != state.seq {
            self.table = plfm_api::views::route_table(state);
        }
    }

    /// A request comes in for each entry; whoever answers at the address has to be who the table says, of the entry's app.
    pub fn routes(&self, ctx: &mut Ctx, judge: &Judge, nodes: &[Node]) {
        for route in self.table.routes() {
            let Some(backend) = ctx.rng.choice(&route.backends).cloned() else { continue };
            ctx.coverage.consequence("request routed");
            let app = judge.apps.get(&backend.instance);
            ctx.expect(app == Some(&route.app), || format!("{:?} of {} leads to {app:?}", route.entry, route.app));
            let mut machines = nodes.iter().flat_map(|node| &node.host.machines);
            let answers = machines.find(|(_, machine)| machine.address == backend.address);
            let other = answers.map(|(id, _)| *id).filter(|id| *id != backend.instance);
            let of = backend.instance;
            ctx.expect(other.is_none(), || format!("what is sent to {of} arrives at {other:?}: one address"));
        }
    }
}
