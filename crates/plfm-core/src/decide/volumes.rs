//! Volumes: made by the deploy that asks for them, seen by their node, removed when someone says so and nobody has them.

use std::collections::BTreeSet;

use crate::event::Event;
use crate::facts::Ids;
use crate::ids::*;
use crate::manifest::Manifest;
use crate::phase::VolumePhase;
use crate::refusal::Refusal;
use crate::state::{State, Volume};
use crate::units::Mebibytes;

/// Those of a manifest that the env does not have are made, if that was asked for (P-MAN-13).
pub fn of_deploy(
    state: &State,
    (org, env): (OrgId, EnvId),
    manifest: &Manifest,
    create: bool,
    ids: &Ids,
) -> Result<Vec<Event>, Refusal> {
    let mut made = Vec::new();
    for wanted in &manifest.volumes {
        let (name, size) = (wanted.name.clone(), wanted.size);
        match state.volume_named(env, &name) {
            Some((_, known)) if known.size == size => {}
            Some((_, known)) => return Err(Refusal::VolumeSizeDiffers { name, is: known.size, asked: size }),
            None if create => made.push(Event::VolumeCreated {
                volume: ids.fresh(),
                org,
                env,
                name,
                size,
                backup_enabled: wanted.backup_enabled,
            }),
            None => return Err(Refusal::VolumeMissing(name)),
        }
    }
    Ok(made)
}

/// Neither what runs nor what is wanted has it (P-VOL-6).
pub fn delete(state: &State, id: VolumeId) -> Result<Vec<Event>, Refusal> {
    let volume = state.volumes.get(&id).filter(|it| it.phase.is_wanted()).ok_or(Refusal::VolumeNotFound(id))?;
    let has_it = |release: ReleaseId, process: &str| {
        let process = state.process(release, process);
        process.is_some_and(|process| process.mounts.iter().any(|mount| mount.volume == volume.name))
    };
    let live = state.live_in(volume.env).filter_map(|(_, it)| it.replica());
    let live = live.map(|it| (it.release, &it.process));
    let groups = state.envs.get(&volume.env).into_iter().flat_map(|env| &env.groups);
    let wanted = groups.map(|(process, group)| (group.release, process));
    let user = live.chain(wanted).find(|(release, process)| has_it(*release, process));
    match user {
        Some((_, process)) => Err(Refusal::VolumeInUse { name: volume.name.clone(), process: process.clone() }),
        None => Ok(vec![Event::VolumeDeleted { volume: id, org: volume.org }]),
    }
}

/// What a node has, against what it is known to have. `disk` is how large it says that it is now.
pub fn seen(state: &State, node: NodeId, disk: Option<Mebibytes>, there: &BTreeSet<VolumeId>) -> Vec<Event> {
    let here = state.volumes_on(node).chain(found(state, node, disk, there));
    let changed = here.filter_map(|(id, it)| {
        let phase = match (it.phase, there.contains(&id)) {
            (VolumePhase::Creating | VolumePhase::Missing, true) => VolumePhase::Available,
            (VolumePhase::Available, false) => VolumePhase::Missing,
            (VolumePhase::Deleting, false) => VolumePhase::Deleted,
            _ => return None,
        };
        Some(Event::VolumePhaseChanged { volume: id, org: it.org, node, phase })
    });
    changed.collect()
}

/// What the end of the log told the home of that a restore has lost is where it is found, if the books have room for it.
fn found<'a>(
    state: &'a State,
    node: NodeId,
    disk: Option<Mebibytes>,
    there: &BTreeSet<VolumeId>,
) -> impl Iterator<Item = (VolumeId, &'a Volume)> {
    let known = state.nodes.get(&node).map(|it| it.capacity.disk).unwrap_or_default();
    let mut free = disk.map_or(known, |disk| disk.min(known)) - state.index().held(node).disk;
    let lost = state.volumes.iter().filter(|(id, it)| it.home.is_none() && there.contains(id));
    lost.map(|(id, it)| (*id, it)).filter(move |(_, it)| {
        let fits = it.size <= free;
        free = if fits { free - it.size } else { free };
        fits
    })
}
