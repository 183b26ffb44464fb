//! What the disk under a directory can do.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::libc::O_TMPFILE;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// As mount(8) names it.
    pub file_system: &'static str,
    /// Copies share their blocks until one of them is written to.
    pub reflink: bool,
    /// None where the file system does not say which disk it is on.
    pub encrypted: Option<bool>,
}

impl Storage {
    /// Of the disk that this directory is on, or will be. Nothing is left there.
    pub fn of(dir: &Path) -> Self {
        let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(dir);
        Self { file_system: file_system(there), reflink: reflink(there), encrypted: encrypted(there) }
    }
}

/// By the numbers of statfs(2).
fn file_system(dir: &Path) -> &'static str {
    let magic = rustix::fs::statfs(dir).map(|stat| stat.f_type as u32);
    match magic.unwrap_or(0) {
        0xEF53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683E => "btrfs",
        0x2FC1_2FC1 => "zfs",
        0x0102_1994 => "tmpfs",
        0x794C_7630 => "overlay",
        _ => "unknown",
    }
}

/// Tried on files without a name.
fn reflink(dir: &Path) -> bool {
    let nameless = || File::options().read(true).write(true).custom_flags(O_TMPFILE).mode(0o600).open(dir);
    let cloned = nameless().and_then(|from| Ok(rustix::fs::ioctl_ficlone(nameless()?, from)?));
    cloned.is_ok()
}

fn encrypted(dir: &Path) -> Option<bool> {
    let device = fs::metadata(dir).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    // File systems over several disks, or over none, have numbers of their own.
    (major != 0).then(|| is_crypt(Path::new(&format!("/sys/dev/block/{major}:{minor}"))))
}

/// A mapped device, or one on which it lies, is one of dm-crypt's.
fn is_crypt(device: &Path) -> bool {
    let uuid = fs::read_to_string(device.join("dm/uuid")).unwrap_or_default();
    let below = || fs::read_dir(device.join("slaves")).into_iter().flatten().flatten();
    uuid.starts_with("CRYPT-") || below().any(|entry| is_crypt(&entry.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_disk_is_looked_at_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::of(&dir.path().join("not/made/yet"));
        assert_ne!(storage.file_system, "unknown");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_disk_on_an_encrypted_one_is_encrypted() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, mapped, plain) = (dir.path().join("dm-1"), dir.path().join("dm-0"), dir.path().join("sda"));
        for (device, uuid) in [(&volume, "LVM-x"), (&mapped, "CRYPT-LUKS2-y"), (&plain, "")] {
            fs::create_dir_all(device.join("dm")).unwrap();
            fs::create_dir(device.join("slaves")).unwrap();
            fs::write(device.join("dm/uuid"), uuid).unwrap();
        }
        std::os::unix::fs::symlink(&mapped, volume.join("slaves/dm-0")).unwrap();
        assert!(is_crypt(&volume) && is_crypt(&mapped) && !is_crypt(&plain));
    }
}
