//! Of a rollout that is under way: what the next step waits for.

use crate::ids::*;
use crate::phase::Desired;
use crate::reconcile::drain_deadline;
use crate::state::{Group, Instance, State};

use super::{Finding, node_name};

/// None when no old instance is left, or when the group says itself what it waits for.
pub fn rolling(state: &State, env: EnvId, process: &str, group: &Group) -> Option<Finding> {
    let live: Vec<_> = state.live_in(env).filter(|(_, it)| it.is_of(env, process)).collect();
    let (new, old): (Vec<_>, Vec<_>) = live.into_iter().partition(|(_, it)| it.release() == Some(group.release));
    if old.is_empty() || group.waiting.is_some() {
        return None;
    }
    let wanted = state.process(group.release, process)?;
    let leaves = old.iter().find(|(_, it)| it.desired != Desired::Running);
    let comes = new.iter().find(|(_, it)| it.desired == Desired::Running && !it.is_ready());
    let has_volumes = !wanted.mounts.is_empty();
    let at = |it: &Instance| node_name(state, it.node);
    let why = match (leaves, comes) {
        (Some((id, it)), _) if has_volumes => {
            format!(
                "its volumes have one user: {id} on {} leaves by {} at the latest",
                at(it),
                drain_deadline(state, it)
            )
        }
        (_, Some((id, it))) => format!(
            "{id} is {} on {}; the next old one leaves when it is ready, so that never fewer than {} are",
            it.status.phase,
            at(it),
            wanted.scaling.min
        ),
        (Some((id, it)), None) => {
            format!("{id} on {} takes leave, by {} at the latest", at(it), drain_deadline(state, it))
        }
        (None, None) => "the next step is about to be taken".to_owned(),
    };
    let (now, all) = (new.iter().filter(|(_, it)| it.is_ready()).count(), wanted.scaling.min);
    let what = format!("{process} is being replaced: {now} of {all} are new, old ones left: {}", old.len());
    Some(Finding {
        code: "rolling",
        what,
        why,
        next: "wait, or go back with `plfm deploy` of what was before".to_owned(),
    })
}
