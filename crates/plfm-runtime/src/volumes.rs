//! The files of volumes: sparse, with an ext4 that is made once and belongs to one id.
//!
//! ```text
//!   DIR/vol_….ext4      DIR/vol_….new, DIR/vol_….gone      one that is not whole yet, and one that is no longer
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use plfm_core::ids::VolumeId;
use plfm_core::units::Mebibytes;

use crate::microvm::format_volume;

const WHOLE: &str = "ext4";
const FRESH: &str = "new";
const GONE: &str = "gone";

/// What of the superblock is looked at (`Documentation/filesystems/ext4/super.rst`).
const SUPERBLOCK_AT: u64 = 1024;
const MAGIC: (usize, [u8; 2]) = (0x38, [0x53, 0xef]);
const LABEL: std::ops::Range<usize> = 0x78..0x88;

pub struct Volumes {
    dir: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// It was here, or should be: it is not made anew in silence.
    #[error("{0} is not on this node any more")]
    NotThere(VolumeId),
    #[error("{volume} is the disk of another: {found}")]
    Stranger { volume: VolumeId, found: String },
    #[error("cannot {what} {volume}")]
    Io {
        what: &'static str,
        volume: VolumeId,
        #[source]
        source: io::Error,
    },
}

impl VolumeError {
    pub fn is_for_room(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}

impl Volumes {
    /// Removes what was never whole, and the rest of what was removed.
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == FRESH || it == GONE) {
                fs::remove_file(path)?;
            }
        }
        Ok(Self { dir })
    }

    /// Those that are here.
    pub fn held(&self) -> io::Result<BTreeSet<VolumeId>> {
        let names = fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        let whole = names.iter().filter(|path| path.extension().is_some_and(|it| it == WHOLE));
        Ok(whole.filter_map(|path| path.file_stem()?.to_str()?.parse().ok()).collect())
    }

    /// The file of a volume that is here, and is it.
    pub fn find(&self, volume: VolumeId) -> Result<PathBuf, VolumeError> {
        let path = self.path(volume, WHOLE);
        match label(&path) {
            Ok(found) if found == label_of(volume) => Ok(path),
            Ok(found) => Err(VolumeError::Stranger { volume, found: format!("it is labelled `{found}`") }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(VolumeError::NotThere(volume)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(VolumeError::Stranger { volume, found: error.to_string() })
            }
            Err(source) => Err(VolumeError::Io { what: "look at", volume, source }),
        }
    }

    /// Makes it, empty, if it is not here. It appears in one step, whole, and survives the loss of power from then on.
    pub async fn make(&self, volume: VolumeId, size: Mebibytes) -> Result<(), VolumeError> {
        let (fresh, path) = (self.path(volume, FRESH), self.path(volume, WHOLE));
        if path.exists() {
            return Ok(());
        }
        let fail = |source| VolumeError::Io { what: "make", volume, source };
        remove(&fresh).map_err(fail)?;
        let made = format_volume(&fresh, size, &label_of(volume)).await;
        let named = made.and_then(|()| File::open(&fresh)?.sync_all()).and_then(|()| fs::rename(&fresh, path));
        named.and_then(|()| self.sync()).map_err(fail)
    }

    /// Nothing of it is left, if nobody has it.
    pub fn remove(&self, volume: VolumeId) -> Result<(), VolumeError> {
        let fail = |source| VolumeError::Io { what: "remove", volume, source };
        let (path, gone) = (self.path(volume, WHOLE), self.path(volume, GONE));
        match open_alone(&path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => drop(opened.map_err(fail)?),
        }
        fs::rename(path, &gone).and_then(|()| self.sync()).and_then(|()| remove(&gone)).map_err(fail)
    }

    fn path(&self, volume: VolumeId, extension: &str) -> PathBuf {
        self.dir.join(format!("{volume}.{extension}"))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

/// Opens the disk of a volume for one machine. Whoever holds what is opened, or a copy of it, is the only one.
pub fn open_alone(path: &Path, read_only: bool) -> io::Result<File> {
    let file = File::options().read(true).write(!read_only).custom_flags(nix::libc::O_NOFOLLOW).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(io::Error::new(io::ErrorKind::ResourceBusy, "another machine has it")),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// The part of an id that tells ids apart, as long as a label can be.
fn label_of(volume: VolumeId) -> String {
    let ulid = volume.ulid().to_string();
    ulid[ulid.len() - LABEL.len()..].to_owned()
}

fn label(path: &Path) -> io::Result<String> {
    let mut block = [0; 1024];
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(SUPERBLOCK_AT))?;
    let read = file.read_exact(&mut block);
    read.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is too small for a file system"))?;
    let (at, magic) = MAGIC;
    if block[at..at + magic.len()] != magic {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "there is no ext4 on it"));
    }
    let label = block[LABEL].split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(label).into_owned())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> VolumeId {
        ulid::Ulid::from_parts(1_767_225_600_000, number).into()
    }

    const SIZE: Mebibytes = Mebibytes(1024);

    #[tokio::test]
    async fn a_volume_is_made_once_and_known_by_its_label() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path().join("volumes")).unwrap();
        assert!(matches!(volumes.find(id(1)), Err(VolumeError::NotThere(_))));
        volumes.make(id(1), SIZE).await.unwrap();
        let path = volumes.find(id(1)).unwrap();
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        let before = inode(&path);
        volumes.make(id(1), SIZE).await.unwrap();
        assert_eq!((inode(&path), volumes.held().unwrap()), (before, [id(1)].into()));
        assert_eq!(fs::metadata(&path).unwrap().len(), SIZE.bytes());
        // Somebody mixes them up.
        fs::rename(&path, volumes.path(id(2), WHOLE)).unwrap();
        let mixed_up = volumes.find(id(2)).unwrap_err().to_string();
        assert!(mixed_up.contains("is the disk of another"), "{mixed_up}");
        for (content, said) in [(vec![0; 8192], "there is no ext4 on it"), (vec![0; 100], "too small")] {
            fs::write(volumes.path(id(3), WHOLE), content).unwrap();
            let refused = volumes.find(id(3)).unwrap_err().to_string();
            assert!(refused.contains(said), "{refused}");
        }
    }

    #[tokio::test]
    async fn one_at_a_time_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path().to_owned()).unwrap();
        volumes.make(id(1), SIZE).await.unwrap();
        let path = volumes.find(id(1)).unwrap();
        let held = open_alone(&path, true).unwrap();
        let twin = held.try_clone().unwrap();
        assert_eq!(open_alone(&path, false).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        drop(held);
        assert!(volumes.remove(id(1)).is_err(), "a copy of what was opened holds it too");
        drop(twin);
        volumes.remove(id(1)).unwrap();
        volumes.remove(id(1)).unwrap();
        assert_eq!((volumes.held().unwrap(), fs::read_dir(dir.path()).unwrap().count()), (BTreeSet::new(), 0));
    }

    #[tokio::test]
    async fn what_was_not_whole_or_is_no_longer_goes_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path().to_owned()).unwrap();
        for extension in [FRESH, GONE] {
            fs::write(volumes.path(id(1), extension), "half").unwrap();
        }
        volumes.make(id(2), SIZE).await.unwrap();
        let again = Volumes::open(dir.path().to_owned()).unwrap();
        assert_eq!(again.held().unwrap(), [id(2)].into());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
