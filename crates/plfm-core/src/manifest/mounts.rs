//! The mounts of a process (P-MAN-6, P-MAN-7).

use std::collections::BTreeMap;

use super::process::Surroundings;
use super::readers::{each, flag, table, text};
use super::rules::{self, Refusal, mount_path, mounts_overlap, quoted};
use super::section::{Node, Section};
use super::{Code, Mount, Volume};

/// Each mounted volume with the process that has it.
pub(super) type Mounted = BTreeMap<String, String>;

pub(super) fn mounts(node: Node, process: &str, around: &mut Surroundings) -> Option<Vec<Mount>> {
    let mut paths = Vec::new();
    let mut mounts = each(table(|section| mount(section, process, &mut paths, around)))(node)?;
    mounts.sort_by(|one, other| one.path.cmp(&other.path));
    Some(mounts)
}

fn mount(section: &mut Section, process: &str, paths: &mut Vec<String>, around: &mut Surroundings) -> Option<Mount> {
    let missing = (Code::MountVolumeUnknown, "volume = \"data\"");
    let volume = section.required("volume", missing, text(|name| declared(name, around.volumes)));
    let path = section.required("path", (Code::MountPath, "path = \"/data\""), text(mount_path));
    let read_only = section.or("read_only", false, flag);
    if let Some(volume) = &volume {
        refuse_second_mount(section, volume, process, &mut around.mounted);
    }
    if let Some(path) = &path {
        refuse_taken_path(section, path, paths);
    }
    Some(Mount { volume: volume?, path: path?, read_only: read_only? })
}

fn declared(name: &str, volumes: Option<&[Volume]>) -> rules::Ruled<String> {
    if volumes.is_none_or(|volumes| volumes.iter().any(|volume| volume.name == name)) {
        return Ok(name.to_owned());
    }
    let hint = "declare it: a table `[[volumes]]` with `name` and `size`";
    Err(Refusal::new(Code::MountVolumeUnknown, format!("there is no volume {}", quoted(name)), hint))
}

fn refuse_second_mount(section: &Section, volume: &str, process: &str, mounted: &mut Mounted) {
    let Some(owner) = mounted.get(volume) else {
        mounted.insert(volume.to_owned(), process.to_owned());
        return;
    };
    let code = if owner == process { Code::MountDuplicate } else { Code::VolumeShared };
    let message = format!("volume {} is mounted already, by process {}", quoted(volume), quoted(owner));
    section.refuse::<()>("volume", Refusal::new(code, message, "mount each volume once: only one machine can hold it"));
}

fn refuse_taken_path(section: &Section, path: &str, paths: &mut Vec<String>) {
    let refuse = |code, message| {
        section.refuse::<()>("path", Refusal::new(code, message, "give each mount a path outside the others"));
    };
    if paths.iter().any(|other| other == path) {
        refuse(Code::MountDuplicate, format!("{} is another mount's path", quoted(path)));
    } else if let Some(other) = paths.iter().find(|other| mounts_overlap(path, other)) {
        refuse(
            Code::MountOverlap,
            format!("{} and the mount {} lie one inside the other", quoted(path), quoted(other)),
        );
    }
    paths.push(path.to_owned());
}
