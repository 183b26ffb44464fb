//! One run: the fleet is set up, lives through ten bad minutes, is given sound releases, and has to settle.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use plfm_core::command::Command;
use plfm_core::digest::Digest;
use plfm_core::event::{Capacity, Isolation, Scope};
use plfm_core::ids::InstanceId;
use plfm_core::units::{Mebibytes, MilliCpu, Seq, Timestamp};

use crate::coverage::Coverage;
use crate::ctx::{Ctx, Happening};
use crate::host::Machine;
use crate::judge::Judge;
use crate::node::Node;
use crate::operator;
use crate::settled::unsettled;
use crate::trace::Note;
use crate::writer::Writer;

const NODES: [(&str, u64); 3] = [("one", 4_096), ("two", 3_072), ("three", 2_048)];
const BAD_TIMES: Duration = Duration::from_secs(480);
/// By then the last crashed node is back and the last workload that had to end has ended.
const RECOVERY: Duration = Duration::from_secs(150);
/// A rollout may take ten minutes and a crash loop waits five: more than this is never.
const SETTLED_BY: Duration = Duration::from_secs(2_400);
const INSPECTION: Duration = Duration::from_secs(5);
/// Settled, it must stay as it is: no event, for so long.
const QUIET: Duration = Duration::from_secs(120);

/// What a run that went wrong has to say.
#[derive(Debug)]
pub struct Failed {
    pub seed: u64,
    pub step: u64,
    pub at: Timestamp,
    pub what: String,
    pub trace: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, step, at, what, trace } = self;
        writeln!(f, "seed {seed}, step {step}, {at}: {what}")?;
        writeln!(f, "the last that happened:\n{trace}")?;
        write!(f, "again: cargo run -p plfm-sim -- --seed {seed}")
    }
}

/// Runs one seed; what it covered, or what went wrong and the last so many things that happened before.
pub fn run(seed: u64, trace: usize) -> Result<Coverage, Box<Failed>> {
    let mut world = World::new(seed, trace);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.lives()));
    if let Err(panic) = outcome {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.ctx.violate(|| format!("panic: {}", text.unwrap_or_default()));
    }
    let (step, at) = (world.step, world.ctx.now());
    match world.ctx.violation {
        None => Ok(world.ctx.coverage),
        Some(what) => Err(Box::new(Failed { seed, step, at, what, trace: world.ctx.trace.to_string() })),
    }
}

struct World {
    ctx: Ctx,
    writer: Writer,
    nodes: Vec<Node>,
    judge: Judge,
    step: u64,
    ordered_at: Option<Timestamp>,
    settled: Option<(Timestamp, Seq)>,
    is_over: bool,
}

impl World {
    fn new(seed: u64, trace: usize) -> Self {
        Self {
            ctx: Ctx::new(seed, trace),
            writer: Writer::default(),
            nodes: Vec::new(),
            judge: Judge::default(),
            step: 0,
            ordered_at: None,
            settled: None,
            is_over: false,
        }
    }

    fn lives(&mut self) {
        self.sets_up();
        self.bad_times_begin();
        while !self.is_over && self.ctx.violation.is_none() {
            self.goes_on();
        }
        if self.ctx.violation.is_none() {
            self.writer.much_later(&mut self.ctx, &mut self.judge);
        }
    }

    fn sets_up(&mut self) {
        self.writer.starts(&mut self.ctx, &mut self.judge);
        let expires_at = self.ctx.now() + Duration::from_secs(3600);
        let scopes = vec![Scope::AppsRead];
        self.writer.hears(&mut self.ctx, Command::CreateToken { hash: Digest::of(b"reader"), scopes });
        for (name, memory) in NODES {
            let (hash, token, name) = (Digest::of(name.as_bytes()), Digest::of(name.as_bytes()), name.to_owned());
            self.writer.hears(&mut self.ctx, Command::CreateJoinToken { hash, expires_at });
            self.writer.hears(&mut self.ctx, Command::JoinNode { token, name, capacity: capacity(memory) });
        }
        while !self.writer.is_idle() {
            self.goes_on();
        }
        let joined = self.judge.state.nodes.iter().enumerate();
        self.nodes = joined.map(|(index, (id, node))| Node::new(index, *id, node.capacity.clone())).collect();
        assert_eq!(self.nodes.len(), NODES.len(), "every node joins");
    }

    fn bad_times_begin(&mut self) {
        self.ctx.calm = false;
        let Self { ctx, nodes, .. } = self;
        for node in nodes {
            node.starts(ctx);
            let (crash, cut) = (ctx.ms(20_000..300_000), ctx.ms(30_000..400_000));
            ctx.after(crash, Happening::NodeCrashes(node.index));
            ctx.after(cut, Happening::PartitionBegins(node.index));
        }
        let crash = ctx.ms(30_000..200_000);
        ctx.after(crash, Happening::WriterCrashes);
        ctx.after(Duration::ZERO, Happening::Operator);
        ctx.after(BAD_TIMES, Happening::Calm);
    }

    fn goes_on(&mut self) {
        let Some(happening) = self.ctx.queue.pop() else {
            self.is_over = true;
            return self.ctx.violate(|| "time stands still".to_owned());
        };
        self.step += 1;
        self.happens(happening);
    }

    fn happens(&mut self, happening: Happening) {
        use Happening::*;
        let Self { ctx, writer, nodes, judge, .. } = self;
        match happening {
            Operator => self.operator_acts(),
            Submit(command) => writer.hears(ctx, *command),
            ReportArrives(node, report) => writer.reported(ctx, node, *report),
            WriterLooks { life } => writer.looks(ctx, life),
            BatchStored { life } => writer.stored(ctx, judge, life),
            BatchPublished { life } => writer.published(ctx, judge, life),
            WriterCrashes => self.writer_crashes(),
            WriterStarts => writer.starts(ctx, judge),
            Connects { node, life } => self.connects(node, life),
            PlanArrives { node, life, stream, message } => nodes[node].hears(ctx, life, stream, *message),
            StreamBreaks { node, life, stream } => nodes[node].stream_breaks(ctx, life, stream),
            Heartbeat { node, life } => nodes[node].beats(ctx, life),
            NodeLooks { node, life } => nodes[node].looks(ctx, life),
            MachineAppears { node, life, id, machine } => self.machine_appears(node, life, id, machine),
            Finishes { node, life, action, fails } => nodes[node].finishes(ctx, life, action, fails),
            WorkloadEnds { node, id, boot } => nodes[node].workload_ends(ctx, id, boot),
            NodeCrashes(node) => self.node_crashes(node),
            NodeStumbles(node) => nodes[node].crashes(ctx),
            NodeStarts(node) => nodes[node].starts(ctx),
            PartitionBegins(node) => self.partition_begins(node),
            PartitionEnds(node) => nodes[node].is_cut_off = false,
            Calm => self.calms_down(),
            LastOrders => self.last_orders(),
            Inspect => self.inspects(),
        }
    }

    fn operator_acts(&mut self) {
        let ctx = &mut self.ctx;
        if ctx.calm {
            return;
        }
        let order = operator::order(ctx);
        let (way, pause) = (ctx.ms(1..100), ctx.ms(2_000..60_000));
        ctx.after(way, Happening::Submit(Box::new(order)));
        ctx.after(pause, Happening::Operator);
    }

    fn writer_crashes(&mut self) {
        let ctx = &mut self.ctx;
        if self.writer.mind.is_none() || !ctx.fault("writer crashed", 1.0) {
            return;
        }
        self.writer.crashes(ctx);
        let (down, again) = (ctx.ms(500..20_000), ctx.ms(30_000..200_000));
        ctx.after(down, Happening::WriterStarts);
        ctx.after(again, Happening::WriterCrashes);
    }

    fn node_crashes(&mut self, node: usize) {
        let ctx = &mut self.ctx;
        if ctx.fault("node crashed", 1.0) {
            self.nodes[node].crashes(ctx);
            let again = ctx.ms(60_000..400_000);
            ctx.after(again, Happening::NodeCrashes(node));
        }
    }

    fn partition_begins(&mut self, node: usize) {
        let ctx = &mut self.ctx;
        if !ctx.fault("partition", 1.0) {
            return;
        }
        self.writer.loses(ctx, node);
        self.nodes[node].cut_off(self.writer.streams());
        let lasts = if ctx.mishap(0.4) { ctx.ms(60_000..120_000) } else { ctx.ms(1_000..30_000) };
        let again = lasts + ctx.ms(60_000..400_000);
        ctx.after(lasts, Happening::PartitionEnds(node));
        ctx.after(again, Happening::PartitionBegins(node));
    }

    fn connects(&mut self, index: usize, life: u64) {
        let (ctx, node) = (&mut self.ctx, &mut self.nodes[index]);
        if node.wants_stream(life) {
            let answers = !node.is_cut_off;
            let stream = answers.then(|| self.writer.connects(ctx, index, node.id, life)).flatten();
            node.connected(ctx, life, stream);
        }
    }

    fn machine_appears(&mut self, index: usize, life: u64, id: InstanceId, machine: Machine) {
        let elsewhere = self.nodes.iter().find(|node| node.index != index && node.host.machines.contains_key(&id));
        self.ctx.expect(elsewhere.is_none(), || format!("{id} runs on two nodes"));
        self.nodes[index].machine_appears(&mut self.ctx, life, id, machine);
    }

    fn calms_down(&mut self) {
        self.ctx.calm = true;
        self.ctx.after(RECOVERY, Happening::LastOrders);
    }

    fn last_orders(&mut self) {
        let orders = operator::last_orders(&mut self.ctx, &self.judge.state);
        orders.into_iter().for_each(|order| self.writer.hears(&mut self.ctx, order));
        self.ordered_at = Some(self.ctx.now());
        self.ctx.after(INSPECTION, Happening::Inspect);
    }

    fn inspects(&mut self) {
        let (now, seq) = (self.ctx.now(), self.judge.state.seq);
        match (unsettled(&self.judge.state, &self.nodes), self.settled) {
            (Some(what), Some(_)) => self.ctx.violate(|| format!("it was settled, and now {what}")),
            (Some(what), None) => {
                let waited = self.ordered_at.map(|at| now.since(at)).unwrap_or_default();
                self.ctx.expect(waited < SETTLED_BY, || format!("it does not settle: {what}"));
            }
            (None, None) => self.settled = Some((now, seq)),
            (None, Some((since, at_seq))) => {
                self.ctx.expect(seq == at_seq, || "it was settled, and something more happened".to_owned());
                self.is_over = now.since(since) >= QUIET;
            }
        }
        self.ctx.note(Note::Writer("is inspected"));
        self.ctx.after(INSPECTION, Happening::Inspect);
    }
}

fn capacity(memory: u64) -> Capacity {
    Capacity {
        arch: "amd64".to_owned(),
        isolation: Isolation::Vm,
        cpu: MilliCpu(8_000),
        memory: Mebibytes(memory),
        disk: Mebibytes(50 << 10),
        overhead: Mebibytes(64),
        tunnel: "[fd00::1]:7443".to_owned(),
    }
}
