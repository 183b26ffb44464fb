//! How much an image may cost (P-IMG-2).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::ImageError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// All layers together as they are fetched.
    pub compressed_bytes: u64,
    /// All files together by their apparent sizes.
    pub unpacked_bytes: u64,
    pub layers: usize,
    /// Entries of all layers together, directories that are only implied included.
    pub entries: u64,
    pub path_bytes: usize,
    /// Directories above one another.
    pub depth: usize,
    /// Beyond `ratio_from_bytes`, a layer may not unpack to more than this many times its size.
    pub ratio: u64,
    pub ratio_from_bytes: u64,
    pub layer_time: Duration,
    pub pull_time: Duration,
    /// Layers that are fetched and converted at the same time.
    pub parallel: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            compressed_bytes: 10 << 30,
            unpacked_bytes: 50 << 30,
            layers: 128,
            entries: 2_000_000,
            path_bytes: 4096,
            depth: 1024,
            ratio: 200,
            ratio_from_bytes: 1 << 30,
            layer_time: Duration::from_secs(5 * 60),
            pull_time: Duration::from_secs(30 * 60),
            parallel: 4,
        }
    }
}

/// A manifest, an index or a configuration (P-IMG-2).
pub const DOCUMENT_BYTES_MAX: u64 = 4 << 20;

/// A file name in every file system that a layer may have come from.
pub const NAME_BYTES_MAX: usize = 255;

/// What the layers of one image share: the sums that are bounded over all of them.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    entries: AtomicU64,
    unpacked_bytes: AtomicU64,
}

impl Budget {
    pub fn new(limits: &Limits) -> Self {
        Self { limits: limits.clone(), entries: AtomicU64::new(0), unpacked_bytes: AtomicU64::new(0) }
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub fn entries(&self, count: u64) -> Result<(), ImageError> {
        take(&self.entries, count, self.limits.entries, "entries")
    }

    pub fn unpacked(&self, bytes: u64) -> Result<(), ImageError> {
        take(&self.unpacked_bytes, bytes, self.limits.unpacked_bytes, "unpacked bytes")
    }
}

fn take(sum: &AtomicU64, more: u64, limit: u64, what: &'static str) -> Result<(), ImageError> {
    let before = sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |sum| Some(sum.saturating_add(more)));
    let before = before.expect("the closure never declines");
    if before.saturating_add(more) <= limit { Ok(()) } else { Err(ImageError::TooLarge { what, limit }) }
}
