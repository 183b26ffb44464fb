//! A node: whether it takes work, and of one that is to be empty, what is still there and why.

use crate::event::Degradation;
use crate::facts::{Facts, INELIGIBLE_AFTER};
use crate::ids::*;
use crate::phase::{Desired, NodePhase};
use crate::reconcile::nodes::DISABLE_AFTER;
use crate::reconcile::sandboxes::SANDBOX_DRAIN_MAX;
use crate::state::{Instance, Node, Replica, Role, Sandbox, State};

use super::{Explanation, Finding, leaving, make_room};

/// None when it is not known.
pub fn node(state: &State, facts: &Facts, id: NodeId) -> Option<Explanation> {
    let node = state.nodes.get(&id)?;
    let there: Vec<_> = state.live_on(id).collect();
    let stays = |it: &Instance| match node.phase {
        NodePhase::Offline => state.is_stateful(it),
        phase => phase.is_leaving(),
    };
    let stay = there.iter().filter(|(_, it)| stays(it));
    let findings: Vec<_> = stay.map(|(id, it)| why_here(state, node, *id, it)).collect();
    let trouble = silent(facts, id, node).or_else(|| degraded(node));
    let is_well = node.takes_work() && facts.silent(id) < INELIGIBLE_AFTER;
    let answer = answer(state, node, is_well, there.len());
    Some(Explanation {
        subject: node.name.clone(),
        answer,
        findings: trouble.into_iter().chain(findings).collect(),
        places: Vec::new(),
    })
}

fn answer(state: &State, node: &Node, is_well: bool, there: usize) -> String {
    let name = &node.name;
    let holds = if there == 1 { "1 instance".to_owned() } else { format!("{there} instances") };
    let labels = &node.capacity.labels;
    match node.phase {
        NodePhase::Active if is_well && !labels.is_empty() => {
            format!("{name} takes work, is labelled {labels}, and holds {holds}")
        }
        NodePhase::Active if is_well => format!("{name} takes work, and holds {holds}"),
        NodePhase::Active => format!("{name} gets no new work, and holds {holds}"),
        NodePhase::Draining | NodePhase::Disabled if there == 0 => format!("{name} is {}, and empty", node.phase),
        NodePhase::Draining | NodePhase::Disabled => format!("{name} is {}: {holds} to go", node.phase),
        NodePhase::Offline if state.rescheduling.frozen_since.is_some() => {
            format!("{name} is offline, and its work is not moved: so many nodes fell silent at once")
        }
        NodePhase::Offline => format!("{name} is offline, and its work goes elsewhere, but what has volumes"),
        NodePhase::Decommissioned => format!("{name} is decommissioned"),
    }
}

fn silent(facts: &Facts, id: NodeId, node: &Node) -> Option<Finding> {
    let silent = facts.silent(id);
    let counts = node.phase != NodePhase::Decommissioned && silent >= INELIGIBLE_AFTER;
    counts.then(|| Finding {
        code: "node_silent",
        what: format!("{} is not heard", node.name),
        why: format!("its last sign of life is {} s ago", silent.as_secs()),
        next: "look at its host: whether it runs, whether it reaches the server".to_owned(),
    })
}

pub(super) fn degraded(node: &Node) -> Option<Finding> {
    let what = node.trouble().or_else(|| node.capacity.degraded.first().copied())?;
    let new_work = if node.trouble().is_some() { "it takes no new work" } else { "an operator lets it take new work" };
    let (is, follows, next) = match what {
        Degradation::DiskPressure => {
            ("its disk is nearly full", "what runs there may fail to write", "make room on its disk")
        }
        Degradation::KvmLoss => (
            "/dev/kvm does not open any more",
            "what runs there could not be started again",
            "see on its host what became of /dev/kvm: `plfm doctor`",
        ),
    };
    Some(Finding {
        code: "node_degraded",
        what: format!("{} is degraded", node.name),
        why: format!("{is}: {new_work}, and {follows}"),
        next: next.to_owned(),
    })
}

/// Of a node that is to be empty.
fn why_here(state: &State, node: &Node, id: InstanceId, it: &Instance) -> Finding {
    if let Some(finding) = leaving(id, it) {
        return finding;
    }
    match &it.role {
        Role::Replica(replica) => replica_here(state, node, id, it, replica),
        Role::Sandbox(sandbox) => sandbox_here(node, id, it, sandbox),
        Role::Snapshot(snapshot) => Finding {
            code: "stays",
            what: format!("{id} is still here, a snapshot of {}", snapshot.of),
            why: "what others can go on from is here".to_owned(),
            next: if snapshot.kept {
                format!("let the node take work again, or remove it: `plfm snapshot rm {id}`")
            } else {
                "end the sandboxes that went on from it: `plfm sandbox ls`".to_owned()
            },
        },
    }
}

fn replica_here(state: &State, node: &Node, id: InstanceId, it: &Instance, replica: &Replica) -> Finding {
    let Replica { app, env, process, .. } = replica;
    let (app, owner) = (state.apps.get(app), state.envs.get(env));
    let of = format!("{process} of {} in {}", app.map_or("?", |app| &app.name), owner.map_or("?", |env| &env.name));
    let waiting = owner.and_then(|owner| owner.groups.get(process)).and_then(|group| group.waiting.as_ref());
    let (why, next) = match waiting {
        _ if state.is_stateful(it) => {
            ("its volumes are here".to_owned(), "deploy it without volumes, or keep the node".to_owned())
        }
        Some(waiting) => (format!("the one in its place waits: {waiting}"), make_room(state, replica.env, waiting)),
        None if node.phase == NodePhase::Disabled => {
            let latest = node.phase_at + DISABLE_AFTER;
            (format!("it goes when another one is ready in its place, and at {latest} in any case"), "wait".to_owned())
        }
        None => ("it goes when another one is ready in its place, a few at a time".to_owned(), "wait".to_owned()),
    };
    Finding { code: "stays", what: format!("{id} is still here, {of}"), why, next }
}

fn sandbox_here(node: &Node, id: InstanceId, it: &Instance, sandbox: &Sandbox) -> Finding {
    if it.desired == Desired::Paused {
        return Finding {
            code: "stays",
            what: format!("{id} is still here, a sandbox of {}", sandbox.template_name),
            why: "it is paused, and all that it is is here".to_owned(),
            next: format!("let the node take work again and resume it, or end it: `plfm sandbox kill {id}`"),
        };
    }
    let patience = if node.phase == NodePhase::Disabled { DISABLE_AFTER } else { SANDBOX_DRAIN_MAX };
    let latest = node.phase_at + patience;
    let ends = sandbox.ends_at.map_or(latest, |at| at.min(latest));
    Finding {
        code: "stays",
        what: format!("{id} is still here, a sandbox of {}", sandbox.template_name),
        why: format!("nothing can take its place; it ends at {ends} at the latest"),
        next: format!("wait, or end it now: `plfm sandbox kill {id}`"),
    }
}
