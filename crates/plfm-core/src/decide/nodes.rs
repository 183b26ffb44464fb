//! Nodes: they join, operators say what they are for, the platform says who is silent.

use std::collections::BTreeSet;

use crate::command::NodeOrder;
use crate::digest::Digest;
use crate::event::{Capacity, Degradation, Event, InstanceStatus};
use crate::facts::Facts;
use crate::ids::*;
use crate::phase::{Desired, InstancePhase, NodePhase, VolumePhase};
use crate::reason::{Failure, Reason};
use crate::refusal::Refusal;
use crate::state::{Node, State};

use super::deploy::check_name;
use super::{OFFLINE_AFTER, fresh, mass};

pub fn join(
    state: &State,
    token: Digest,
    name: String,
    capacity: Capacity,
    facts: &Facts,
) -> Result<Vec<Event>, Refusal> {
    check_name(&name)?;
    let (token, record) =
        state.join_tokens.iter().find(|(_, record)| record.hash == token).ok_or(Refusal::JoinTokenInvalid)?;
    if let Some(node) = record.used_by {
        return Err(Refusal::JoinTokenUsed(node));
    }
    if facts.now >= record.expires_at {
        return Err(Refusal::JoinTokenExpired(record.expires_at));
    }
    if state.node_named(&name).is_some() {
        return Err(Refusal::NodeNameExists(name));
    }
    let capacity = Capacity { labels: capacity.labels.bounded(), ..capacity };
    // Number 0 stays free: the cluster's own services may want addresses.
    let highest = state.nodes.values().map(|node| node.number).max().unwrap_or(0);
    let number = highest.checked_add(1).ok_or(Refusal::NodesExhausted)?;
    Ok(vec![Event::NodeJoined { node: facts.ids().fresh(), token: *token, name, number, capacity }])
}

pub fn order(state: &State, id: NodeId, order: NodeOrder) -> Result<Vec<Event>, Refusal> {
    let node = state.nodes.get(&id).ok_or(Refusal::NodeNotFound(id))?;
    let phase = match order {
        NodeOrder::Tolerate => return tolerate(id, node),
        NodeOrder::Distrust => return Ok(tolerated(id, node, BTreeSet::new())),
        NodeOrder::Drain => NodePhase::Draining,
        NodeOrder::Disable => NodePhase::Disabled,
        NodeOrder::Activate => NodePhase::Active,
        NodeOrder::Decommission => NodePhase::Decommissioned,
    };
    match (node.phase, phase) {
        (now, phase) if now == phase => Ok(Vec::new()),
        (NodePhase::Decommissioned, _) => Err(Refusal::NodeDecommissioned(id)),
        (NodePhase::Active, NodePhase::Decommissioned) => Err(Refusal::NodeActive(id)),
        (_, NodePhase::Decommissioned) => decommission(state, id, node.phase),
        (NodePhase::Offline, _) => Err(Refusal::NodeOffline(id)),
        (_, phase) => Ok(vec![Event::NodePhaseChanged { node: id, phase }]),
    }
}

fn tolerate(id: NodeId, node: &Node) -> Result<Vec<Event>, Refusal> {
    if node.phase == NodePhase::Decommissioned {
        return Err(Refusal::NodeDecommissioned(id));
    }
    if node.capacity.degraded.is_empty() {
        return Err(Refusal::NodeNotDegraded(id));
    }
    Ok(tolerated(id, node, node.capacity.degraded.clone()))
}

fn tolerated(node: NodeId, known: &Node, degraded: BTreeSet<Degradation>) -> Vec<Event> {
    let is_news = known.tolerated != degraded;
    is_news.then_some(Event::NodeDegradationTolerated { node, degraded }).into_iter().collect()
}

/// Nothing may be left, no instance and no volume (P-SCH-43). A lost node cannot say that of itself; what was to be stopped there ends
/// with it, for it is never heard again.
fn decommission(state: &State, id: NodeId, phase: NodePhase) -> Result<Vec<Event>, Refusal> {
    let offline = phase == NodePhase::Offline;
    let left = state.live_on(id).filter(|(_, it)| !offline || it.desired != Desired::Stopped).count();
    if left > 0 {
        return Err(Refusal::NodeNotEmpty { node: id, instances: left });
    }
    let volumes = state.volumes_on(id).filter(|(_, it)| it.phase.is_wanted()).count();
    if volumes > 0 {
        return Err(Refusal::NodeHasVolumes { node: id, volumes });
    }
    let failure = || Some(Failure::new(Reason::NodeLost, "its node was decommissioned"));
    let gone = |(instance, it): (InstanceId, &crate::state::Instance)| {
        let status = InstanceStatus { phase: InstancePhase::Gone, failure: failure(), ..it.status.clone() };
        Event::InstanceStatusChanged { instance, node: id, status }
    };
    let mut events: Vec<_> = state.live_on(id).map(gone).collect();
    // It removes all that it has.
    events.extend(state.volumes_on(id).map(|(volume, it)| Event::VolumePhaseChanged {
        volume,
        org: it.org,
        node: id,
        phase: VolumePhase::Deleted,
    }));
    events.push(Event::NodePhaseChanged { node: id, phase: NodePhase::Decommissioned });
    Ok(events)
}

pub fn force_reschedule(state: &State) -> Result<Vec<Event>, Refusal> {
    state.rescheduling.frozen_since.ok_or(Refusal::NotFrozen)?;
    Ok(vec![Event::ReschedulingResumed { forced: true }])
}

/// Silence makes a node offline; being heard steadily makes it what it was before.
pub fn set_phase(state: &State, id: NodeId, phase: NodePhase, facts: &Facts) -> Result<Vec<Event>, Refusal> {
    let node = state.nodes.get(&id).ok_or(Refusal::NodeNotFound(id))?;
    let (silent, offline) = (facts.silent(id) >= OFFLINE_AFTER, phase == NodePhase::Offline);
    let back = node.phase == NodePhase::Offline && phase == node.returns_to && facts.is_back(id);
    fresh(node.phase.may_become(phase) && silent == offline && (offline || back), id)?;
    Ok(vec![Event::NodePhaseChanged { node: id, phase }])
}

pub fn set_rescheduling(state: &State, frozen: bool, facts: &Facts) -> Result<Vec<Event>, Refusal> {
    let dark = mass::dark(state, facts);
    fresh(state.rescheduling.frozen_since.is_some() != frozen && dark.is_mass() == frozen, "rescheduling")?;
    let mass::Dark { silent, nodes } = dark;
    Ok(vec![if frozen {
        Event::ReschedulingFrozen { silent, nodes }
    } else {
        Event::ReschedulingResumed { forced: false }
    }])
}
