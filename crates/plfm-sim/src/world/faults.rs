//! The steps of a scenario, as they befall the world.

use std::time::Duration;

use plfm_core::event::{Actor, Degradation};
use plfm_core::facts::Facts;
use plfm_core::sequencer::desk::Ask;
use plfm_core::units::{Mebibytes, Seq};

use super::World;
use crate::ctx::{Clock, Ctx, Happening};
use crate::node::Node;
use crate::scenario::{Fault, Operation, What};
use crate::trace::Note;

impl World {
    pub(super) fn lives_step(&mut self, index: usize) {
        let what = self.scenario.steps[index].what.clone();
        self.ctx.note(Note::Step(what.clone()));
        match what {
            What::Asks(operation) => self.client_asks(&operation),
            What::Fails(fault) => {
                self.ctx.coverage.fault(&fault);
                self.fails(fault);
            }
        }
    }

    fn client_asks(&mut self, operation: &Operation) {
        let Self { ctx, client, judge, .. } = self;
        client.now = ctx.now();
        let command = client.command(operation, &judge.state);
        let facts = Facts { now: ctx.now(), entropy: ctx.rng.u128(..), ..Facts::default() };
        let request = facts.ids().fresh();
        client.asked.insert(request);
        ctx.soon(1..100, Happening::Asked(Box::new(Ask { command, actor: Actor::System, request })));
    }

    fn fails(&mut self, fault: Fault) {
        let Self { ctx, nodes, servers, edges, .. } = self;
        let ms = Duration::from_millis;
        match fault {
            // With its memory lost and its clock set back nothing is left that orders a node's reports; it is mute until then.
            Fault::NodeCrashes { node, down_ms, forgets } => {
                let forgets = forgets && nodes[node].clock.0 >= 0;
                nodes[node].crashes(ctx, ms(down_ms), forgets);
            }
            Fault::NodeCut { node, lasts_ms } => self.node_is_cut_off(node, lasts_ms),
            Fault::NodeShrinks { node, percent } => shrinks(&mut nodes[node], percent),
            Fault::NodeDiskFills { node } => nodes[node].capacity.degraded = [Degradation::DiskPressure].into(),
            Fault::NodeDiskEmpties { node } => nodes[node].capacity.degraded.clear(),
            Fault::NodeClock { node, ahead_ms } => nodes[node].clock = Clock(ahead_ms),
            Fault::WorkloadEnds { node } => workload_ends(ctx, &mut nodes[node]),
            Fault::WorkloadSick { node, lasts_ms } => workload_sick(ctx, &mut nodes[node], ms(lasts_ms)),
            Fault::Next { node, glitch } => *ctx.glitches.entry((node, glitch)).or_default() += 1,
            Fault::ServerCrashes { server, down_ms } => self.server_crashes(server, down_ms),
            Fault::ServerPauses { server, lasts_ms } => servers[server].sleeps_until = ctx.now() + ms(lasts_ms),
            Fault::ServerCut { server, lasts_ms } => {
                servers[server].is_cut_off = true;
                ctx.after(ms(lasts_ms), Happening::ServerMends(server));
            }
            Fault::ServerClock { server, ahead_ms } => servers[server].clock = Clock(ahead_ms),
            Fault::Append { glitch } => ctx.appends.push(glitch),
            Fault::LogCrashes { down_ms } => self.disk.crashes_at_write = Some(Happening::LogCrashes { down_ms }),
            Fault::Restore { lost } => self.restores(lost),
            Fault::EdgeCut { edge, lasts_ms } => {
                edges[edge].is_cut_off = true;
                ctx.after(ms(lasts_ms), Happening::EdgeMends(edge));
            }
        }
    }

    fn node_is_cut_off(&mut self, node: usize, lasts_ms: u64) {
        let Self { ctx, nodes, servers, .. } = self;
        nodes[node].is_cut_off = true;
        for mind in servers.iter_mut().filter_map(|server| server.mind.as_mut()) {
            mind.streams.close(ctx, node);
        }
        ctx.after(Duration::from_millis(lasts_ms), Happening::NodeMends(node));
    }

    pub(super) fn server_crashes(&mut self, server: usize, down_ms: u64) {
        if self.servers[server].mind.is_some() {
            self.servers[server].crashes(&mut self.ctx);
            self.ctx.after(Duration::from_millis(down_ms), Happening::ServerStarts(server));
        }
    }

    pub(super) fn log_crashes(&mut self, down_ms: u64) {
        let Self { ctx, servers, disk, .. } = self;
        for write in disk.crashes() {
            ctx.coverage.consequence("un-synced append lost");
            let (server, life) = (write.server, servers[write.server].life);
            let what = crate::ctx::ServerEvent::NotStored;
            ctx.after(Duration::ZERO, Happening::Server { server, life, what });
        }
        ctx.after(Duration::from_millis(down_ms), Happening::LogStarts);
    }

    /// Someone stops the servers, puts a backup in the place of the log, and starts them; then looks at each node.
    fn restores(&mut self, lost: u64) {
        (0..self.servers.len()).for_each(|server| self.server_crashes(server, 2_000));
        let Self { ctx, disk, judge, client, set_up_at, nodes, .. } = self;
        disk.crashes();
        disk.is_down = false;
        let kept = Seq(judge.state.seq.0.saturating_sub(lost)).max(*set_up_at);
        disk.restore(kept);
        judge.restores(ctx, &disk.tail(Seq(0)));
        client.acknowledged.retain(|_, seq| *seq <= kept);
        client.asked.clear();
        let waits: Vec<_> = nodes.iter().map(|node| (node.index, ctx.ms(10_000..120_000))).collect();
        waits.into_iter().for_each(|(node, wait)| ctx.after(wait, Happening::Adopts(node)));
    }
}

/// What a host can spare changes a little, and never beyond what it has.
fn shrinks(node: &mut Node, percent: u64) {
    node.capacity.memory = Mebibytes(node.host.memory.0 * percent / 100);
}

fn workload_ends(ctx: &mut Ctx, node: &mut Node) {
    let Some(id) = node.any_machine(ctx) else { return };
    let boot = node.host.machines[&id].boot;
    node.workload_ends(ctx, id, boot);
}

fn workload_sick(ctx: &mut Ctx, node: &mut Node, lasts: Duration) {
    let Some(id) = node.any_machine(ctx) else { return };
    let now = ctx.now();
    node.host.machines.get_mut(&id).into_iter().for_each(|machine| machine.falls_sick(now, lasts));
}
