//! Which volumes may be made here, and which are to go. Both take a word of the server's whose plan is followed; that nothing is said of a
//! volume says nothing.

use std::collections::{BTreeMap, BTreeSet};

use plfm_api::documents::VolumeOrder;
use plfm_core::ids::VolumeId;
use plfm_core::phase::InstancePhase;
use plfm_core::units::Mebibytes;

use super::{Local, Plan, Slot};

/// Those that have never been here.
pub fn to_make(local: &Local, plan: &Plan) -> BTreeMap<VolumeId, Mebibytes> {
    let orders = plan.volumes.iter().filter(|_| !local.is_foreign(plan));
    let make = orders.filter_map(|(id, order)| match order {
        VolumeOrder::Make { size } => Some((*id, *size)),
        VolumeOrder::Remove => None,
    });
    make.collect()
}

/// Of those that are here. One that an instance has is left to it until nothing of the instance is left.
pub fn to_remove(local: &Local, plan: &Plan, held: &BTreeSet<VolumeId>) -> Vec<VolumeId> {
    let lives = |slot: &&Slot| slot.status.phase != InstancePhase::Gone;
    let mounts = local.slots.values().filter(lives).flat_map(|slot| &slot.workload.mounts);
    let used: BTreeSet<_> = mounts.map(|mount| mount.volume).collect();
    let is_to_go = |id: &&VolumeId| plan.volumes.get(id) == Some(&VolumeOrder::Remove) && !local.is_foreign(plan);
    held.iter().filter(is_to_go).filter(|id| !used.contains(id)).copied().collect()
}
