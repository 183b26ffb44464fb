//! Disks that outlive instances.

use plfm_core::ids::*;
use plfm_core::phase::VolumePhase;
use plfm_core::state::{State, Volume};
use plfm_core::units::{Mebibytes, Timestamp};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeView {
    pub id: VolumeId,
    pub name: String,
    pub app: String,
    pub env: String,
    pub size: Mebibytes,
    pub phase: VolumePhase,
    /// Where it is; none before an instance that has it is placed.
    pub node: Option<String>,
    /// That has it now.
    pub instance: Option<InstanceId>,
    pub created_at: Timestamp,
}

/// By app, env and name.
pub fn volumes(state: &State, org: OrgId) -> Vec<VolumeView> {
    let of_org = state.volumes.iter().filter(|(_, it)| it.org == org);
    let mut views: Vec<_> = of_org.filter_map(|(id, it)| volume(state, *id, it)).collect();
    views.sort_by(|a, b| (&a.app, &a.env, &a.name, a.id).cmp(&(&b.app, &b.env, &b.name, b.id)));
    views
}

pub fn volume(state: &State, id: VolumeId, it: &Volume) -> Option<VolumeView> {
    let env = state.envs.get(&it.env)?;
    let mut live = state.live_in(it.env).filter(|_| it.phase.is_wanted());
    let user = live.find(|(_, live)| state.mounts(live).iter().any(|mount| mount.volume == it.name));
    Some(VolumeView {
        id,
        name: it.name.clone(),
        app: state.apps.get(&env.app)?.name.clone(),
        env: env.name.clone(),
        size: it.size,
        phase: it.phase,
        node: it.home.and_then(|home| state.nodes.get(&home)).map(|node| node.name.clone()),
        instance: user.map(|(id, _)| id),
        created_at: it.created_at,
    })
}
