//! One run: the fleet is set up, lives through a scenario, is given sound releases, and has to settle.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use plfm_core::command::Command;
use plfm_core::digest::Digest;
use plfm_core::event::{Actor, Capacity, Isolation};
use plfm_core::facts::Facts;
use plfm_core::sequencer::desk::Ask;
use plfm_core::units::{Mebibytes, MilliCpu, Seq, Timestamp};

use crate::client::{Client, last_orders, zone};
use crate::coverage::Coverage;
use crate::ctx::{Ctx, Happening, Minds};
use crate::disk::Disk;
use crate::edge::Edge;
use crate::judge::Judge;
use crate::node::Node;
use crate::scenario::{BAD_TIMES_MS, EDGES, NODES, SERVERS, Scenario};
use crate::server::Server;
use crate::settled::{does_not_speak, ends_by, unsettled};

mod faults;
mod happens;

const NAMES: [(&str, u64); NODES] = [("one", 4_096), ("two", 3_072), ("three", 2_048)];
/// By then the last node that was cut off has been heard for long enough to count as back, so that it takes orders, and the last
/// workload that had to end has ended.
const RECOVERY: Duration = Duration::from_secs(180);
/// A rollout may take ten minutes and a crash loop waits five: more than this is never.
const SETTLED_BY: Duration = Duration::from_secs(2_400);
const INSPECTION: Duration = Duration::from_secs(5);
/// Settled, it must stay as it is: no event, for so long.
const QUIET: Duration = Duration::from_secs(120);
/// Far more than any run has needed: what never ends is a fault too.
const STEPS_MAX: u64 = 2_000_000;

/// What a run that went well has to say.
#[derive(Debug)]
pub struct Passed {
    pub coverage: Coverage,
    pub lasted: Duration,
}

/// What a run that went wrong has to say.
#[derive(Debug)]
pub struct Failed {
    pub step: u64,
    pub at: Timestamp,
    pub what: String,
    pub trace: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, at, what, trace } = self;
        writeln!(f, "step {step}, {at}: {what}")?;
        write!(f, "the last that happened:\n{trace}")
    }
}

/// Lives one scenario; `kept` is how many of the last things that happened a failure tells.
pub fn run(scenario: &Scenario, minds: Minds, kept: usize) -> Result<Passed, Box<Failed>> {
    let mut world = World::new(scenario, minds, kept);
    let began = world.ctx.now();
    let outcome = catch_unwind(AssertUnwindSafe(|| world.lives()));
    if let Err(panic) = outcome {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.ctx.violate(|| format!("panic: {}", text.unwrap_or_default()));
    }
    let (step, at) = (world.step, world.ctx.now());
    match world.ctx.violation {
        None => Ok(Passed { coverage: world.ctx.coverage, lasted: world.lasted.since(began) }),
        Some(what) => Err(Box::new(Failed { step, at, what, trace: world.ctx.trace.to_string() })),
    }
}

struct World {
    ctx: Ctx,
    scenario: Scenario,
    disk: Disk,
    servers: Vec<Server>,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    client: Client,
    judge: Judge,
    streams: u64,
    /// What a backup has in any case.
    set_up_at: Seq,
    step: u64,
    ordered_at: Option<Timestamp>,
    settled: Option<(Timestamp, Seq)>,
    lasted: Timestamp,
    is_over: bool,
}

impl World {
    fn new(scenario: &Scenario, minds: Minds, kept: usize) -> Self {
        Self {
            ctx: Ctx::new(scenario.seed, kept, minds),
            scenario: scenario.clone(),
            disk: Disk::default(),
            servers: (0..SERVERS).map(Server::new).collect(),
            nodes: Vec::new(),
            edges: (0..EDGES).map(Edge::new).collect(),
            client: Client::default(),
            judge: Judge::default(),
            streams: 0,
            set_up_at: Seq(0),
            step: 0,
            ordered_at: None,
            settled: None,
            lasted: Timestamp::default(),
            is_over: false,
        }
    }

    fn lives(&mut self) {
        self.sets_up();
        self.bad_times_begin();
        while !self.is_over && self.ctx.violation.is_none() {
            self.goes_on();
        }
        self.lasted = self.ctx.now();
        if self.ctx.violation.is_none() {
            self.looks_back();
        }
    }

    fn sets_up(&mut self) {
        let Self { ctx, servers, disk, .. } = self;
        servers.iter_mut().for_each(|server| server.starts(ctx, disk));
        while !self.servers.iter().any(Server::is_idle) {
            self.goes_on();
        }
        let expires_at = self.ctx.now() + Duration::from_secs(3600);
        for (name, memory) in NAMES {
            let (hash, token, name) = (Digest::of(name.as_bytes()), Digest::of(name.as_bytes()), name.to_owned());
            self.asks(Command::CreateJoinToken { hash, expires_at });
            let capacity = Capacity { labels: zone(name == NAMES[0].0), ..capacity(memory) };
            self.asks(Command::JoinNode { token, name, capacity });
        }
        while self.judge.state.nodes.len() < NODES {
            self.goes_on();
        }
        let joined = self.judge.state.nodes.iter().enumerate();
        self.nodes = joined.map(|(index, (id, node))| Node::new(index, *id, node.capacity.clone())).collect();
        self.set_up_at = self.judge.state.seq;
    }

    /// A client asks some server.
    fn asks(&mut self, command: Command) {
        let facts = Facts { now: self.ctx.now(), entropy: self.ctx.rng.u128(..), ..Facts::default() };
        let ask = Ask { command, actor: Actor::System, request: facts.ids().fresh() };
        self.happens(Happening::Asked(Box::new(ask)));
    }

    fn bad_times_begin(&mut self) {
        self.ctx.calm = false;
        let Self { ctx, nodes, scenario, .. } = self;
        nodes.iter_mut().for_each(|node| node.starts(ctx));
        for (index, step) in scenario.steps.iter().enumerate() {
            ctx.after(Duration::from_millis(step.at_ms), Happening::Step(index));
        }
        (0..EDGES).for_each(|edge| ctx.soon(0..1_000, Happening::EdgeLooks(edge)));
        ctx.after(Duration::from_millis(BAD_TIMES_MS), Happening::Calm);
    }

    fn goes_on(&mut self) {
        let Some(happening) = self.ctx.queue.pop().filter(|_| self.step < STEPS_MAX) else {
            self.is_over = true;
            return self.ctx.violate(|| "time stands still, or never ends".to_owned());
        };
        self.step += 1;
        self.happens(happening);
    }

    fn last_orders(&mut self) {
        let mute = self.nodes.iter().find_map(does_not_speak);
        self.ctx.expect(mute.is_none(), || format!("long after the faults {}", mute.unwrap_or_default()));
        let orders = last_orders(&mut self.ctx, &self.judge.state);
        orders.into_iter().for_each(|order| self.asks(order));
        self.ordered_at = Some(self.ctx.now());
        self.ctx.after(INSPECTION, Happening::Inspect);
    }

    fn inspects(&mut self) {
        let (now, seq) = (self.ctx.now(), self.judge.state.seq);
        let unsettled = unsettled(&self.judge.state, &self.nodes, &self.edges);
        // Whose time is over before it has been quiet for long enough is waited for first.
        let unsettled = unsettled.or_else(|| {
            let until = now + QUIET + INSPECTION;
            self.settled.is_none().then(|| ends_by(&self.judge.state, until)).flatten()
        });
        match (unsettled, self.settled) {
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
        self.ctx.after(INSPECTION, Happening::Inspect);
    }

    /// Nothing that was promised is missing, every server knows the same, and what ended is forgotten in time.
    fn looks_back(&mut self) {
        let Self { ctx, judge, client, servers, .. } = self;
        client.acknowledged.iter().for_each(|(request, seq)| judge.acknowledges(ctx, *request, *seq));
        for server in servers.iter() {
            let known = server.mind.as_ref().map(|mind| mind.desk.state());
            ctx.expect(known.is_some_and(|known| **known == judge.state), || {
                format!("server {} differs from the log", server.index)
            });
        }
        let Some(writer) = servers.iter_mut().find(|server| server.is_writer()) else { return };
        let last = writer.much_later(ctx);
        let since = Timestamp::default();
        last.iter().for_each(|envelope| judge.read(ctx, envelope, since));
        let left = judge.state.instances.values().filter(|instance| !instance.holds_resources()).count();
        ctx.expect(left == 0, || format!("{left} instances that ended long ago are still in the state"));
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
        degraded: Default::default(),
        labels: Default::default(),
    }
}
