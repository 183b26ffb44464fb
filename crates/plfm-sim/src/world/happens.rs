//! Everything that happens, brought to whom it concerns.

use std::time::Duration;

use plfm_api::documents::Report;
use plfm_core::event::Event;
use plfm_core::ids::{InstanceId, NodeId};
use plfm_core::sequencer::desk::Ask;

use super::{RECOVERY, World};
use crate::ctx::{Happening, ServerEvent};
use crate::host::Machine;
use crate::scenario::Append;
use crate::server::streams::Stream;

/// How old an edge's table gets without a fault.
const EDGE_LOOKS: Duration = Duration::from_secs(2);

impl World {
    pub(super) fn happens(&mut self, happening: Happening) {
        use Happening::*;
        let Self { ctx, nodes, servers, disk, edges, .. } = self;
        match happening {
            Step(index) => self.lives_step(index),
            Asked(ask) => self.asked(ask),
            ReportArrives(node, report) => self.report_arrives(node, report),
            Server { server, life, what } => self.server_does(server, life, what),
            ServerStarts(server) => servers[server].starts(ctx, disk),
            ServerMends(server) => servers[server].is_cut_off = false,
            LogSyncs { life } => self.log_syncs(life),
            LogCrashes { down_ms } => self.log_crashes(down_ms),
            LogStarts => disk.is_down = false,
            Connects { node, life } => self.connects(node, life),
            PlanArrives { node, life, stream, message } => nodes[node].hears(ctx, life, stream, *message),
            StreamBreaks { node, life, stream } => nodes[node].stream_breaks(ctx, life, stream),
            Heartbeat { node, life } => nodes[node].beats(ctx, life),
            NodeLooks { node, life } => nodes[node].looks(ctx, life),
            MachineAppears { node, life, id, machine } => self.machine_appears(node, life, id, *machine),
            Finishes { node, life, action, fails } => nodes[node].finishes(ctx, life, action, fails),
            WorkloadEnds { node, id, boot } => nodes[node].workload_ends(ctx, id, boot),
            NodeStumbles(node) => nodes[node].stumbles(ctx),
            NodeStarts(node) => nodes[node].starts(ctx),
            NodeMends(node) => nodes[node].is_cut_off = false,
            Adopts(node) => self.adopts(node),
            EdgeLooks(edge) => self.edge_looks(edge),
            EdgeMends(edge) => edges[edge].is_cut_off = false,
            Calm => self.calms_down(),
            LastOrders => self.last_orders(),
            Inspect => self.inspects(),
        }
    }

    /// At the server that writes: whoever is asked passes it on.
    fn passed_on(&mut self, happening: Happening) -> Option<(usize, Happening)> {
        let writer = self.disk.writer()?;
        let sleeps_until = self.servers[writer].sleeps_until;
        if sleeps_until > self.ctx.now() {
            self.ctx.queue.at(sleeps_until, happening);
            return None;
        }
        Some((writer, happening))
    }

    fn asked(&mut self, ask: Box<Ask>) {
        if let Some((writer, Happening::Asked(ask))) = self.passed_on(Happening::Asked(ask)) {
            self.servers[writer].asked(&mut self.ctx, *ask);
        }
    }

    fn report_arrives(&mut self, node: NodeId, report: Box<Report>) {
        if let Some((writer, Happening::ReportArrives(node, report))) =
            self.passed_on(Happening::ReportArrives(node, report))
        {
            self.servers[writer].reported(&mut self.ctx, node, *report);
        }
    }

    fn server_does(&mut self, index: usize, life: u64, what: ServerEvent) {
        let Self { ctx, servers, disk, judge, client, .. } = self;
        let server = &mut servers[index];
        if server.life != life || server.mind.is_none() {
            return;
        }
        if server.sleeps_until > ctx.now() {
            return ctx.queue.at(server.sleeps_until, Happening::Server { server: index, life, what });
        }
        for (request, seq) in server.happens(ctx, disk, what) {
            if client.asked.remove(&request) {
                judge.acknowledges(ctx, request, seq);
                client.acknowledged.insert(request, seq);
            }
        }
    }

    fn log_syncs(&mut self, life: u64) {
        let Self { ctx, servers, disk, judge, .. } = self;
        let Some(write) = disk.sync(life) else { return };
        write.batch.iter().for_each(|envelope| judge.read(ctx, envelope, write.since));
        if write.batch.iter().any(|envelope| matches!(envelope.event, Event::LogStarted { .. })) {
            disk.is_restored = false;
        }
        let (server, life) = (write.server, write.life);
        for other in servers.iter().filter(|other| other.index != server) {
            let what = ServerEvent::Follows;
            ctx.soon(1..100, Happening::Server { server: other.index, life: other.life, what });
        }
        let what = match ctx.appends.iter().position(|glitch| *glitch != Append::Full) {
            None => ServerEvent::Stored,
            Some(index) => {
                let glitch = ctx.appends.remove(index);
                ctx.coverage.append(&glitch);
                if glitch == Append::CrashAfter {
                    return self.server_crashes(server, 5_000);
                }
                ServerEvent::NotStored
            }
        };
        ctx.soon(0..5, Happening::Server { server, life, what });
    }

    fn connects(&mut self, index: usize, life: u64) {
        let Self { ctx, nodes, servers, streams, .. } = self;
        let Some(followed) = nodes[index].wants_stream(life) else { return };
        let any = ctx.rng.usize(..servers.len());
        let server = &mut servers[any];
        let answers = !nodes[index].is_cut_off && server.sleeps_until <= ctx.now();
        let Some(mind) = server.mind.as_mut().filter(|_| answers) else {
            return nodes[index].connected(ctx, life, None);
        };
        *streams += 1;
        let (number, node, arrived_at) = (*streams, nodes[index].id, ctx.now());
        nodes[index].connected(ctx, life, Some(number));
        let stream = Stream { number, node, life, followed, told: None, arrived_at };
        mind.streams.open(ctx, &mind.desk.state().clone(), index, stream);
    }

    fn machine_appears(&mut self, index: usize, life: u64, id: InstanceId, machine: Machine) {
        let others = || self.nodes.iter().flat_map(|node| node.host.machines.iter().map(move |of| (node.index, of)));
        let elsewhere = others().any(|(node, (other, _))| node != index && *other == id);
        let twin = others().find(|(_, (other, of))| **other != id && of.address == machine.address);
        let twin = twin.map(|(_, (other, _))| *other);
        self.ctx.expect(!elsewhere, || format!("{id} runs on two nodes"));
        self.ctx.expect(twin.is_none(), || format!("{id} and {twin:?} have one address"));
        self.nodes[index].machine_appears(&mut self.ctx, life, id, machine);
    }

    /// Someone has looked at what the node runs, and at what the log says.
    fn adopts(&mut self, node: usize) {
        self.nodes[node].adopts(&mut self.ctx);
        // One that is away or has not heard yet is told later.
        self.ctx.after(Duration::from_secs(60), Happening::Adopts(node));
    }

    fn edge_looks(&mut self, index: usize) {
        let Self { ctx, edges, servers, judge, nodes, .. } = self;
        let server = &servers[ctx.rng.usize(..servers.len())];
        let answers = server.sleeps_until <= ctx.now();
        if let Some(mind) = server.mind.as_ref().filter(|_| answers && !edges[index].is_cut_off) {
            edges[index].hears(mind.desk.state());
        }
        edges[index].routes(ctx, judge, nodes);
        ctx.after(EDGE_LOOKS, Happening::EdgeLooks(index));
    }

    fn calms_down(&mut self) {
        self.ctx.calm = true;
        self.ctx.glitches.clear();
        self.ctx.appends.clear();
        self.disk.crashes_at_write = None;
        self.ctx.after(RECOVERY, Happening::LastOrders);
    }
}
