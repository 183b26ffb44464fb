//! Volumes: disks that outlive the machine, where the workload expects them. All of it happens where the image is `/`.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use nix::mount::{MsFlags, mount};

use super::{BootError, disks};
use crate::daemon::Volume;
use crate::users::Account;

/// What mke2fs leaves in an empty file system, and programs that want an empty directory stumble over.
const LOST: &str = "lost+found";

/// In the order in which they are given: one may lie within another.
pub fn mount_all(volumes: &[Volume]) -> Result<(), BootError> {
    volumes.iter().try_for_each(|Volume { serial, path, read_only }| {
        let device = disks::find(serial)?;
        fs::create_dir_all(path).map_err(BootError::of(format!("make {path}")))?;
        let mut flags = MsFlags::MS_NOATIME | MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
        flags.set(MsFlags::MS_RDONLY, *read_only);
        mount(Some(&device), path.as_str(), Some("ext4"), flags, None::<&str>)
            .map_err(BootError::of(format!("mount the volume at {path}")))
    })
}

/// One that nobody has used yet belongs to whoever is to use it.
pub fn give(volumes: &[Volume], account: &Account) -> Result<(), BootError> {
    let writable = volumes.iter().filter(|volume| !volume.read_only);
    writable.map(|volume| &volume.path).try_for_each(|path| {
        give_one(Path::new(path), account).map_err(BootError::of(format!("give the volume at {path} to its user")))
    })
}

fn give_one(path: &Path, account: &Account) -> io::Result<()> {
    let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    let owner = fs::metadata(path)?;
    if names.iter().any(|name| name != LOST) || (owner.uid(), owner.gid()) != (0, 0) {
        return Ok(());
    }
    if !names.is_empty() {
        fs::remove_dir(path.join(LOST))?;
    }
    chown(path, Some(account.uid), Some(account.gid))
}

/// From the last to the first, when nothing runs any more: what is written is on the disk, and the journal is empty.
pub fn release(volumes: &[Volume]) {
    volumes.iter().rev().for_each(|volume| disks::unmount(&volume.path));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unused_volume_changes_its_owner() {
        if !nix::unistd::geteuid().is_root() {
            return eprintln!("skipped: it takes root to give a directory away");
        }
        let dir = tempfile::tempdir().unwrap();
        let account = Account { name: String::new(), uid: 1000, gid: 1001, groups: Vec::new(), home: String::new() };
        let owner = |path: &Path| fs::metadata(path).map(|it| (it.uid(), it.gid())).unwrap();
        let (fresh, used, others) = (dir.path().join("fresh"), dir.path().join("used"), dir.path().join("others"));
        fs::create_dir_all(fresh.join(LOST)).unwrap();
        fs::create_dir_all(used.join("data")).unwrap();
        fs::create_dir_all(&others).unwrap();
        chown(&others, Some(7), Some(7)).unwrap();
        for path in [&fresh, &used, &others] {
            give_one(path, &account).unwrap();
        }
        assert_eq!([&fresh, &used, &others].map(|path| owner(path)), [(1000, 1001), (0, 0), (7, 7)]);
        assert_eq!(fs::read_dir(&fresh).unwrap().count(), 0);
    }
}
