//! The store's directory: names that appear only when what they name is complete.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use plfm_core::digest::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::error::ImageError;

/// Raised when the same layer would become other bytes; what was made before is then made again.
const FORMAT: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Layer,
    Merged,
}

/// What is known of an image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    pub bytes: u64,
    pub entries: u64,
    pub unpacked_bytes: u64,
    pub implied: u64,
    pub opaque: bool,
}

impl Record {
    pub fn new(bytes: u64, entries: u64, unpacked_bytes: u64, implied: u64, opaque: bool) -> Self {
        Self { format: FORMAT, bytes, entries, unpacked_bytes, implied, opaque }
    }
}

/// An image that was ready once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    format: u32,
    pub config: Digest,
    pub devices: Vec<(Kind, Digest)>,
}

impl Ready {
    pub fn new(config: Digest, devices: Vec<(Kind, Digest)>) -> Self {
        Self { format: FORMAT, config, devices }
    }
}

pub struct Files {
    root: PathBuf,
}

pub const LAYERS: &str = "layers/sha256";
pub const MERGED: &str = "merged/sha256";
pub const IMAGES: &str = "images/sha256";
pub const DOCUMENTS: &str = "documents/sha256";
pub const PINS: &str = "pins";
const TMP: &str = "tmp";

impl Files {
    pub fn open(root: PathBuf) -> Result<Self, ImageError> {
        let make = |path: PathBuf| fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        let files = Self { root };
        // What an earlier process did not finish is nobody's.
        match fs::remove_dir_all(files.tmp()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ImageError::store("empty the temporary files")(error));
            }
            _ => {}
        }
        for directory in [LAYERS, MERGED, IMAGES, DOCUMENTS, PINS, TMP] {
            make(files.root.join(directory)).map_err(ImageError::store("make the image store"))?;
        }
        Ok(files)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn tmp(&self) -> PathBuf {
        self.root.join(TMP)
    }

    pub fn image(&self, kind: Kind, key: &Digest) -> PathBuf {
        self.directory(kind).join(format!("{}.erofs", key.hex()))
    }

    pub fn directory(&self, kind: Kind) -> PathBuf {
        self.root.join(match kind {
            Kind::Layer => LAYERS,
            Kind::Merged => MERGED,
        })
    }

    /// What is known of an image file, if it is here and whole.
    pub fn record(&self, kind: Kind, key: &Digest) -> Result<Option<Record>, ImageError> {
        let Some(record) = read::<Record>(&self.record_path(kind, key))? else { return Ok(None) };
        let length = fs::metadata(self.image(kind, key)).map(|metadata| metadata.len());
        Ok((record.format == FORMAT && length.is_ok_and(|length| length == record.bytes)).then_some(record))
    }

    /// Gives a finished, synced image its name.
    pub fn place(&self, kind: Kind, key: &Digest, file: NamedTempFile, record: &Record) -> Result<(), ImageError> {
        const WHAT: &str = "put an image in its place";
        self.write(&self.record_path(kind, key), &json(record))?;
        file.as_file().set_permissions(Permissions::from_mode(0o444)).map_err(ImageError::store(WHAT))?;
        file.persist(self.image(kind, key)).map_err(|error| ImageError::store(WHAT)(error.error))?;
        sync(&self.directory(kind))
    }

    pub fn remove(&self, kind: Kind, key: &Digest) -> Result<(), ImageError> {
        remove(&self.image(kind, key))?;
        remove(&self.record_path(kind, key))
    }

    /// The devices of an image that was ready once, if all of them still are.
    pub fn ready(&self, manifest: &Digest) -> Result<Option<Vec<(Kind, Digest)>>, ImageError> {
        let Some(ready) = self.ready_record(manifest)? else { return Ok(None) };
        for (kind, key) in &ready.devices {
            if self.record(*kind, key)?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(ready.devices))
    }

    pub fn ready_record(&self, manifest: &Digest) -> Result<Option<Ready>, ImageError> {
        let ready = read::<Ready>(&self.ready_path(manifest))?;
        Ok(ready.filter(|ready| ready.format == FORMAT))
    }

    pub fn set_ready(&self, manifest: &Digest, ready: &Ready) -> Result<(), ImageError> {
        self.write(&self.ready_path(manifest), &json(ready))
    }

    pub fn remove_ready(&self, manifest: &Digest) -> Result<(), ImageError> {
        remove(&self.ready_path(manifest))
    }

    /// A manifest, index or configuration, if it is here and still what its name says.
    pub fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>, ImageError> {
        match fs::read(self.document_path(digest)) {
            Ok(bytes) => Ok((Digest::of(&bytes) == *digest).then_some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ImageError::store("read a manifest")(error)),
        }
    }

    pub fn set_document(&self, digest: &Digest, bytes: &[u8]) -> Result<(), ImageError> {
        self.write(&self.document_path(digest), bytes)
    }

    pub fn remove_document(&self, digest: &Digest) -> Result<(), ImageError> {
        remove(&self.document_path(digest))
    }

    /// Marks images as used now.
    pub fn touch(&self, images: &[(Kind, Digest)]) {
        for (kind, key) in images {
            let touched = File::options().write(true).open(self.record_path(*kind, key));
            // The time only orders evictions; an image that can't be touched still runs.
            if let Err(error) = touched.and_then(|file| file.set_modified(SystemTime::now())) {
                tracing::warn!(%key, %error, "images: cannot note the use of an image");
            }
        }
    }

    pub fn last_use(&self, kind: Kind, key: &Digest) -> SystemTime {
        fs::metadata(self.record_path(kind, key))
            .and_then(|metadata| metadata.modified())
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// The digests that name the files of a directory.
    pub fn digests(&self, directory: &str) -> Result<Vec<Digest>, ImageError> {
        let names = self.names(directory)?;
        let hex = |name: &String| name.split('.').next().unwrap_or_default().to_owned();
        let mut digests: Vec<Digest> =
            names.iter().filter_map(|name| format!("sha256:{}", hex(name)).parse().ok()).collect();
        digests.sort_unstable();
        digests.dedup();
        Ok(digests)
    }

    pub fn names(&self, directory: &str) -> Result<Vec<String>, ImageError> {
        let entries = fs::read_dir(self.root.join(directory)).map_err(ImageError::store("list the image store"))?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        names.collect::<io::Result<_>>().map_err(ImageError::store("list the image store"))
    }

    /// Writes a small file as a whole: it is there completely, or as it was.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
        let write = || -> io::Result<()> {
            let mut file = NamedTempFile::new_in(self.tmp())?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(ImageError::store("write to the image store"))?;
        path.parent().map_or(Ok(()), sync)
    }

    /// Bytes that may still be written to the disk.
    pub fn free_bytes(&self) -> Result<u64, ImageError> {
        let stat =
            rustix::fs::statvfs(&self.root).map_err(|error| ImageError::store("ask for free space")(error.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn record_path(&self, kind: Kind, key: &Digest) -> PathBuf {
        self.directory(kind).join(format!("{}.json", key.hex()))
    }

    fn ready_path(&self, manifest: &Digest) -> PathBuf {
        self.root.join(IMAGES).join(format!("{}.json", manifest.hex()))
    }

    fn document_path(&self, digest: &Digest) -> PathBuf {
        self.root.join(DOCUMENTS).join(digest.hex())
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("records have no maps with keys that are not text")
}

/// A record that can't be read is one of another version: as good as none.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ImageError> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ImageError::store("read a record")(error)),
    }
}

pub fn remove(path: &Path) -> Result<(), ImageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ImageError::store("remove from the image store")(error))
        }
        _ => Ok(()),
    }
}

fn sync(directory: &Path) -> Result<(), ImageError> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(ImageError::store("sync the image store"))
}
