//! Nodes, as operators see and order them, and how one joins.

use std::collections::BTreeSet;

use plfm_core::command;
use plfm_core::event::{Capacity, Degradation};
use plfm_core::ids::NodeId;
use plfm_core::phase::NodePhase;
use plfm_core::state::{Node, State};
use plfm_core::units::{Mebibytes, Timestamp};
use serde::{Deserialize, Serialize};

/// `GET /v1/nodes`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodesView {
    pub items: Vec<NodeView>,
    /// So many fell silent at once that their work stays where it was until they are back or an operator says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescheduling_frozen_since: Option<Timestamp>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeView {
    pub id: NodeId,
    pub name: String,
    pub phase: NodePhase,
    pub capacity: Capacity,
    /// How it may be degraded and take new work all the same.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tolerated: BTreeSet<Degradation>,
    pub instances: u32,
    /// Those with volumes: they stay when the node is drained.
    #[serde(default)]
    pub stateful: u32,
    pub committed: Mebibytes,
}

/// `POST /v1/nodes/{node}/orders`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeOrderRequest {
    pub order: NodeOrder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeOrder {
    Drain,
    Disable,
    Activate,
    Decommission,
    Tolerate,
    Distrust,
}

impl From<NodeOrder> for command::NodeOrder {
    fn from(order: NodeOrder) -> Self {
        match order {
            NodeOrder::Drain => Self::Drain,
            NodeOrder::Disable => Self::Disable,
            NodeOrder::Activate => Self::Activate,
            NodeOrder::Decommission => Self::Decommission,
            NodeOrder::Tolerate => Self::Tolerate,
            NodeOrder::Distrust => Self::Distrust,
        }
    }
}

/// `POST /v1/join-tokens`; the body may be left out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenRequest {
    /// How long it admits; an hour if nothing is said, a day at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_seconds: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JoinTokenView {
    /// Shown once; the log keeps its hash.
    pub token: String,
    pub expires_at: Timestamp,
    /// The SHA-256 of the cluster's CA certificate, for a node that has never met it.
    pub ca_fingerprint: plfm_core::digest::Digest,
}

/// `POST /v1/nodes/join`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    pub token: String,
    pub name: String,
    /// The node keeps its key; the server signs what is asked for here.
    pub public_key_pem: String,
    pub capacity: Capacity,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JoinReply {
    pub node: NodeId,
    pub certificate_pem: String,
    pub ca_pem: String,
}

pub fn nodes(state: &State) -> NodesView {
    let items = state.nodes.iter().map(|(id, node)| view(state, *id, node)).collect();
    NodesView { items, rescheduling_frozen_since: state.rescheduling.frozen_since }
}

/// By its id or its name.
pub fn node(state: &State, named: &str) -> Option<NodeView> {
    let id = named.parse().ok().or_else(|| state.node_named(named))?;
    state.nodes.get(&id).map(|node| view(state, id, node))
}

fn view(state: &State, id: NodeId, node: &Node) -> NodeView {
    let held = state.index().held(id);
    let stays = state.live_on(id).filter(|(_, instance)| state.is_stateful(instance)).count();
    NodeView {
        id,
        name: node.name.clone(),
        phase: node.phase,
        capacity: node.capacity.clone(),
        tolerated: node.tolerated.clone(),
        instances: held.instances,
        stateful: u32::try_from(stays).unwrap_or(u32::MAX),
        committed: held.memory,
    }
}
