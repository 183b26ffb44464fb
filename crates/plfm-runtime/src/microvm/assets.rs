//! What is made once for all machines, kept beside them.
//!
//! Files are named by the hash of what they were made from, so a name never means two things; what was measured about the host is kept
//! until the host restarts.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use plfm_core::digest::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::initramfs;
use crate::kernel::{Kernel, KernelError};

/// In the directory of a runtime.
pub const DIR: &str = "assets";

#[derive(Debug, Clone)]
pub struct Assets {
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    /// Names the kernel in the verdict about KVM.
    pub kernel_digest: Digest,
}

#[derive(Debug, thiserror::Error)]
pub enum AssetError {
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error("cannot keep {name}")]
    Keep {
        name: String,
        #[source]
        source: io::Error,
    },
}

impl Assets {
    pub fn make(dir: &Path, kernel: &Kernel, guest: &[u8]) -> Result<Self, AssetError> {
        let packed = kernel.packed()?;
        let kernel_digest = Digest::of(&packed);
        let vmlinux = keep(dir, "vmlinux", &kernel_digest, || kernel.vmlinux(packed))?;
        let archive = initramfs::build(guest, &kernel.drivers()?);
        let initramfs = keep(dir, "initramfs", &Digest::of(&archive), || Ok(archive))?;
        Ok(Self { kernel: vmlinux, initramfs, kernel_digest })
    }
}

/// The file `kind-hash`, made if it is not there; those of other hashes go. Monitors read their files once, at their start.
fn keep(
    dir: &Path,
    kind: &str,
    of: &Digest,
    make: impl FnOnce() -> Result<Vec<u8>, KernelError>,
) -> Result<PathBuf, AssetError> {
    let name = format!("{kind}-{}", &of.hex()[..16]);
    let path = dir.join(&name);
    if !path.exists() {
        let bytes = make()?;
        let made = forget_kind(dir, kind).and_then(|()| write_whole(&path, &bytes));
        made.map_err(|source| AssetError::Keep { name, source })?;
    }
    Ok(path)
}

fn forget_kind(dir: &Path, kind: &str) -> io::Result<()> {
    let prefix = format!("{kind}-");
    let mut stale =
        fs::read_dir(dir)?.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    stale.try_for_each(|entry| fs::remove_file(entry.path()))
}

/// Readable by every user: monitors run under their own.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    fs::write(&fresh, bytes)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o644))?;
    fs::File::open(&fresh)?.sync_data()?;
    fs::rename(fresh, path)
}

#[derive(Serialize, Deserialize)]
struct Memo<T> {
    key: String,
    value: T,
}

/// What `find_out` said for this key, asked once; without a place to write it down, each time.
pub async fn remember<T>(path: &Path, key: &str, find_out: impl Future<Output = T>) -> T
where
    T: Serialize + DeserializeOwned,
{
    if let Some(known) = recall(path, |known| known == key) {
        return known;
    }
    let memo = Memo { key: key.to_owned(), value: find_out.await };
    if let Ok(bytes) = serde_json::to_vec(&memo) {
        let _ = write_whole(path, &bytes);
    }
    memo.value
}

/// What was said for such a key.
pub fn recall<T: DeserializeOwned>(path: &Path, is_key: impl FnOnce(&str) -> bool) -> Option<T> {
    let memo: Memo<T> = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    is_key(&memo.key).then_some(memo.value)
}

/// Changes with each start of the host.
pub fn host_boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
