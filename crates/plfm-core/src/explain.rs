//! Why something is here, or not: what, why, and what to type next. Read from the state; nothing is remembered for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Entry, Waiting};
use crate::facts::{Facts, INELIGIBLE_AFTER};
use crate::ids::*;
use crate::labels::label;
use crate::phase::{DeployStatus, Desired, InstancePhase, NodePhase};
use crate::place::Wanted;
use crate::place::line::Line;
use crate::place::report::{Report, Verdict, report};
use crate::quota::Dimension;
use crate::state::{Env, Group, Instance, State};

pub use self::node::node;

mod node;
mod rollout;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub subject: String,
    pub answer: String,
    /// The most urgent first; empty when all is well.
    pub findings: Vec<Finding>,
    /// What each node says to one more of each process type.
    pub places: Vec<Places>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    pub process: String,
    /// Why the next one has no place.
    pub waiting: Option<&'static str>,
    pub nodes: Vec<(NodeId, Verdict)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Of a closed set: a phase, the reason of a failure or of waiting, or one that [`CODES`] adds.
    pub code: &'static str,
    pub what: String,
    pub why: String,
    pub next: String,
}

/// What a finding is about where neither a phase nor a reason says it.
pub const CODES: &[&str] = &["deploy_failed", "rolling", "port_closed", "node_silent", "node_degraded", "stays"];

/// Ports of its table that an edge could not open, and why.
pub type ClosedPorts = BTreeMap<u16, String>;

/// An app in an env: its deploy, the room for it, its instances, its ports. None when there is no such env.
pub fn env(state: &State, facts: &Facts, closed: &ClosedPorts, id: EnvId) -> Option<Explanation> {
    let env = state.envs.get(&id)?;
    let app = &state.apps.get(&env.app)?.name;
    let subject = format!("{app} in {}", env.name);
    let mut line = None;
    let (deploys, rooms) = (
        failed_deploys(state, env),
        env.groups.iter().filter_map(|(name, it)| room(state, facts, &mut line, id, name, it)),
    );
    let wanted: Vec<_> = state.live_in(id).filter(|(_, it)| it.desired == Desired::Running).collect();
    let nodes: BTreeSet<NodeId> = wanted.iter().map(|(_, it)| it.node).collect();
    let nodes = nodes.iter().filter_map(|id| node::degraded(state.nodes.get(id)?));
    let instances = wanted.iter().filter_map(|(id, it)| trouble(state, facts, *id, it));
    let ports = ports(state, id).filter_map(|port| Some(shut(port, closed.get(&port)?, app, &env.name)));
    let rolling = env.groups.iter().filter_map(|(name, it)| rollout::rolling(state, id, name, it));
    let findings = deploys.into_iter().chain(rooms).chain(rolling).chain(instances).chain(nodes).chain(ports);
    let findings: Vec<_> = findings.collect();
    let of_group = |(name, it): (&String, &Group)| {
        let waiting = it.waiting.as_ref().map(Waiting::code);
        Places { waiting, ..places(state, facts, id, name, it.release) }
    };
    let places = env.groups.iter().map(of_group).collect();
    let counts: Vec<_> = env.groups.iter().map(|(name, group)| count(state, id, name, group)).collect();
    let all = counts.iter().all(|(_, whole)| *whole) && findings.is_empty();
    let counts = counts.into_iter().map(|(text, _)| text).collect::<Vec<_>>().join(", ");
    Some(Explanation { answer: answer(&subject, all, &counts), subject, findings, places })
}

/// One instance. None when it is not known (any more).
pub fn instance(state: &State, facts: &Facts, id: InstanceId) -> Option<Explanation> {
    let instance = state.instances.get(&id)?;
    let node = node_name(state, instance.node);
    let phase = instance.status.phase;
    let answer = match instance.desired {
        Desired::Running => format!("{phase} on {node}"),
        other => format!("{phase} on {node}, and should be {other}"),
    };
    let finding = leaving(id, instance).or_else(|| trouble(state, facts, id, instance));
    let places = instance.replica().map(|it| places(state, facts, it.env, &it.process, it.release));
    let (findings, places) = (finding.into_iter().collect(), places.into_iter().collect());
    Some(Explanation { subject: id.to_string(), answer, findings, places })
}

/// As the fleet stands now; what it was when something was placed there is not kept.
fn places(state: &State, facts: &Facts, env: EnvId, process: &str, release: ReleaseId) -> Places {
    let class = state.envs.get(&env).map(|env| env.class).unwrap_or_default();
    let wanted = Wanted { env, process: process.to_owned(), release, count: 1, class, since: None };
    Places { process: process.to_owned(), waiting: None, nodes: report(state, facts, wanted).nodes }
}

fn answer(subject: &str, all: bool, counts: &str) -> String {
    match (all, counts) {
        (_, "") => format!("{subject} has never been deployed"),
        (true, counts) => format!("{subject} is as it should be: {counts}"),
        (false, counts) => format!("{subject} is not as it should be: {counts}"),
    }
}

/// `web 1 of 2 ready`, and whether that is enough.
fn count(state: &State, env: EnvId, name: &str, group: &Group) -> (String, bool) {
    let wanted = state.process(group.release, name).map_or(0, |process| process.scaling.min as usize);
    let ready = state.live_in(env).filter(|(_, it)| it.is_of(env, name) && it.is_ready()).count();
    (format!("{name} {ready} of {wanted} ready"), ready >= wanted)
}

fn ports(state: &State, env: EnvId) -> impl Iterator<Item = u16> + '_ {
    let routes = state.routes.values().filter(move |route| route.env == env);
    routes.filter_map(|route| if let Entry::TcpPort(port) = route.entry { Some(port) } else { None })
}

fn shut(port: u16, why: &str, app: &str, env: &str) -> Finding {
    let what = format!("port {port} of the edge is not open");
    Finding { code: "port_closed", what, why: why.to_owned(), next: reopen(port, app, env) }
}

/// What to do about a port that an edge cannot open.
pub fn reopen(port: u16, app: &str, env: &str) -> String {
    format!("make the port free for the edge, or take it away with `plfm unexpose {port} --app {app} --env {env}`")
}

fn failed_deploys(state: &State, env: &Env) -> Vec<Finding> {
    let mut deploys: Vec<DeployId> = env.groups.values().map(|group| group.deploy).collect();
    deploys.sort();
    deploys.dedup();
    deploys.into_iter().filter_map(|id| failed_deploy(state, id)).collect()
}

fn failed_deploy(state: &State, id: DeployId) -> Option<Finding> {
    let deploy = state.deploys.get(&id).filter(|deploy| deploy.status == DeployStatus::Failed)?;
    let failure = deploy.failure.as_ref();
    Some(Finding {
        code: "deploy_failed",
        what: format!("{id} has failed: it tries one instance every few minutes"),
        why: failure.map_or_else(|| "no reason was given".to_owned(), ToString::to_string),
        next: match failure {
            Some(failure) => format!("{}; then `plfm deploy`", failure.reason.hint()),
            None => "`plfm deploy`".to_owned(),
        },
    })
}

fn room(
    state: &State,
    facts: &Facts,
    line: &mut Option<Line>,
    env: EnvId,
    name: &str,
    group: &Group,
) -> Option<Finding> {
    let waiting = group.waiting.as_ref()?;
    let class = state.envs.get(&env).map(|env| env.class).unwrap_or_default();
    let (process, since) = (name.to_owned(), group.waiting_since);
    let wanted = Wanted { env, process, release: group.release, count: 1, class, since };
    let asks_nodes =
        waiting.is_for_room() || matches!(waiting, Waiting::NoNodesActive | Waiting::NoNodeLabelled { .. });
    let nodes = if asks_nodes { what_nodes_say(state, &report(state, facts, wanted)) } else { String::new() };
    let line = line.get_or_insert_with(|| crate::place::line::line(state, facts));
    let turn = turn(state, line, env, name);
    Some(Finding {
        code: waiting.code(),
        what: format!("{name} waits for a place"),
        why: format!("{waiting}{nodes}{}", turn.unwrap_or_default()),
        next: make_room(state, env, waiting),
    })
}

/// `; of 12 nodes 9 memory, 3 silent; node-c lacks 120 MiB of memory`, where one node is not all.
fn what_nodes_say(state: &State, report: &Report) -> String {
    // Of the only node the waiting says all, unless it may not take anything.
    let is_news = |verdict: &Verdict| report.nodes.len() > 1 || matches!(verdict, Verdict::Degraded(_));
    let Some((nearest, verdict)) = report.nearest_miss().filter(|(_, verdict)| is_news(verdict)) else {
        return String::new();
    };
    let counts: Vec<_> = report.counts().into_iter().map(|(code, count)| format!("{count} {code}")).collect();
    let (all, nearest) = (report.nodes.len(), node_name(state, nearest));
    format!("; of {all} nodes {}; nearest: {nearest} {verdict}", counts.join(", "))
}

/// Where it is not alone: `; it is about 2 of 3 in line (the share of its org, by weight, is 0.31, of its project 0.31)`.
fn turn(state: &State, line: &Line, env: EnvId, name: &str) -> Option<String> {
    let (place, all) = (line.place_of(env, name)?, line.groups.len());
    let app = state.apps.get(&state.envs.get(&env)?.app)?;
    let org = line.orgs.iter().find(|(id, _)| *id == app.org)?.1.as_f64();
    let project = line.projects.iter().find(|(id, _)| *id == app.project)?.1.as_f64();
    let shares = format!("the share of its org, by weight, is {org:.2}, of its project {project:.2}");
    (all > 1).then(|| format!("; it is about {place} of {all} in line ({shares})"))
}

fn make_room(state: &State, env: EnvId, waiting: &Waiting) -> String {
    match waiting {
        Waiting::NoNodesActive if state.nodes.is_empty() => {
            "join a node: `plfm node token` prints the command".to_owned()
        }
        Waiting::NoNodesActive if state.nodes.values().any(|node| node.trouble().is_some()) => {
            "mend a node that is degraded (`plfm node explain`), or add a node: `plfm node token` prints the command"
                .to_owned()
        }
        Waiting::NoNodesActive => match state.nodes.values().find(|node| node.phase.is_leaving()) {
            Some(node) => format!(
                "add a node: `plfm node token` prints the command; or let one take work again: `plfm node activate {}`",
                node.name
            ),
            None => "see which nodes are silent with `plfm nodes`, and start them".to_owned(),
        },
        Waiting::NoCapacityMemory { .. } => {
            "lower `resources.memory`, or add a node: `plfm node token` prints the command".to_owned()
        }
        Waiting::NoCapacityDisk { .. } => {
            "lower `resources.disk`, or add a node: `plfm node token` prints the command".to_owned()
        }
        Waiting::Reserved => "wait, or add a node: `plfm node token` prints the command".to_owned(),
        Waiting::OrgQuotaExceeded(excess) if excess.dimension == Dimension::StartsPerMinute => {
            "wait a minute".to_owned()
        }
        Waiting::OrgQuotaExceeded(excess) => {
            format!("deploy less elsewhere in the org, or raise it: `plfm org limit {}=MOST`", excess.dimension.code())
        }
        Waiting::NoNodeLabelled { asked } => labels(state, env, asked),
        Waiting::NoCapacityInstances { .. } => "add a node: `plfm node token` prints the command".to_owned(),
        Waiting::VolumeHomeNodeOffline { node } => {
            format!("bring {node} back: `plfm node explain {node}` says what keeps it from taking work")
        }
        Waiting::VolumeLocalityNoNode { node } => {
            format!("lower `resources.memory` or `resources.disk`, or let something else leave {node}")
        }
        Waiting::VolumeConstraintsInvalid => "mount volumes of one node only".to_owned(),
        Waiting::ImagePlatformUnavailable { nodes, .. } => format!("build the image for {} too", nodes.join(" or ")),
    }
}

/// Who asks for labels that no node has: the env, or its org.
fn labels(state: &State, env: EnvId, asked: &[String]) -> String {
    let org = state.envs.get(&env).and_then(|env| state.orgs.get(&env.org));
    let of_org = |it: &&String| {
        let pair = label(it);
        org.zip(pair).is_some_and(|(org, (key, value))| org.constraints.0.get(&key) == Some(&value))
    };
    let of_org: Vec<_> = asked.iter().filter(of_org).map(String::as_str).collect();
    let others = match of_org.len() {
        0 => "`plfm require`".to_owned(),
        all if all == asked.len() => "`plfm org require` (the org asks for them)".to_owned(),
        _ => format!("`plfm org require` (the org asks for {}), `plfm require`", of_org.join(", ")),
    };
    format!("start a node with these labels (`plfm node --label`), or ask for others: {others}")
}

/// Why an instance that should run is not ready.
fn trouble(state: &State, facts: &Facts, id: InstanceId, instance: &Instance) -> Option<Finding> {
    if instance.status.phase.is_live() && is_silent(state, facts, instance.node) {
        return Some(lost(state, facts, id, instance));
    }
    let what = |what: &str| format!("{id} {what} on {}", node_name(state, instance.node));
    let failure = instance.status.failure.as_ref();
    let watch = format!("wait, or look at `plfm logs --console --instance {id}`");
    let (what, unexplained, next) = match instance.status.phase {
        InstancePhase::Ready => return None,
        InstancePhase::Failed if instance.status.restarts > 0 => (what("keeps ending"), "it has failed", watch),
        InstancePhase::Failed => (what("has failed"), "it has failed", watch),
        InstancePhase::Unready => (what("does not answer"), "it has answered before", watch),
        InstancePhase::Allocated => (what("is placed"), "the node has not taken it up yet", watch),
        InstancePhase::Preparing => (what("gets its image and disks"), "it is new there", watch),
        InstancePhase::Booting => (what("boots"), "its process has not answered yet", watch),
        InstancePhase::Pausing => (what("goes to rest"), "its memory is being written to disk", watch),
        InstancePhase::Paused if instance.is_taken() => return None,
        InstancePhase::Paused if instance.desired == Desired::Paused => {
            let next = "let it go on with `plfm sandbox resume`, or end it with `plfm sandbox kill`".to_owned();
            (what("is paused"), "someone said so, or its time was over", next)
        }
        InstancePhase::Paused => (what("rests"), "it is about to go on", watch),
        InstancePhase::Resuming => (what("wakes"), "its memory is being read from disk", watch),
        InstancePhase::Draining => (what("takes leave"), "it was told to stop", watch),
        InstancePhase::Stopped | InstancePhase::Gone => {
            (what("has ended"), "nothing of it runs any more", "wait: another one takes its place".to_owned())
        }
    };
    let why = failure.map_or_else(|| unexplained.to_owned(), |failure| explain_failure(failure, instance));
    let next = failure.map_or(next, |failure| failure.reason.hint().to_owned());
    let code = failure.map_or(instance.status.phase.code(), |failure| failure.reason.code());
    Some(Finding { code, what, why, next })
}

fn explain_failure(failure: &crate::reason::Failure, instance: &Instance) -> String {
    let exit = instance.status.exit_code.map(|code| format!(", exit code {code}")).unwrap_or_default();
    let restarts = match instance.status.restarts {
        0 => String::new(),
        1 => ", restarted once".to_owned(),
        more => format!(", restarted {more} times"),
    };
    format!("{failure}{exit}{restarts}")
}

fn is_silent(state: &State, facts: &Facts, node: NodeId) -> bool {
    let offline = state.nodes.get(&node).is_some_and(|node| node.phase == NodePhase::Offline);
    offline || facts.silent(node) >= INELIGIBLE_AFTER
}

fn lost(state: &State, facts: &Facts, id: InstanceId, instance: &Instance) -> Finding {
    let node = node_name(state, instance.node);
    let (frozen, next) = match state.rescheduling.frozen_since {
        None => ("", ""),
        Some(_) => (
            "; so many nodes fell silent at once that nothing is moved",
            "; if they will not be back, `plfm node reschedule`",
        ),
    };
    Finding {
        code: "node_silent",
        what: format!("{id} was {} when {node} was last heard", instance.status.phase),
        why: format!("{node} has been silent for {} s{frozen}", facts.silent(instance.node).as_secs()),
        next: format!("look at the host of {node}; `plfm nodes` shows when it is back{next}"),
    }
}

/// Why an instance that should not run is still seen.
fn leaving(id: InstanceId, instance: &Instance) -> Option<Finding> {
    let why = match (instance.desired, instance.status.phase) {
        (Desired::Running | Desired::Paused, _) => return None,
        (_, InstancePhase::Stopped | InstancePhase::Gone) => "nothing of it runs any more",
        (Desired::Draining, _) => "another one serves in its place, and open connections get time to end",
        (Desired::Stopped, _) => "it was told to stop",
    };
    let failure = instance.status.failure.as_ref().map(|failure| format!("; before, {failure}")).unwrap_or_default();
    Some(Finding {
        code: instance.desired.code(),
        what: format!("{id} is not wanted any more"),
        why: format!("{why}{failure}"),
        next: "see what is wanted with `plfm status`".to_owned(),
    })
}

fn node_name(state: &State, node: NodeId) -> String {
    state.nodes.get(&node).map_or_else(|| node.to_string(), |node| node.name.clone())
}

#[cfg(test)]
mod tests;
