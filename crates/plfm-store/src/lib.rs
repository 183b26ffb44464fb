//! Where the log lives: append-only events, content-addressed blobs, an audit of refusals.
//!
//! One writer appends in batches; the primary key on `seq` is the compare-and-swap that refuses a second one. Every store passes
//! the one suite in [`contract`]. Deciding what to append is the business of `plfm-core`.

use plfm_core::digest::Digest;
use plfm_core::event::Envelope;
use plfm_core::ids::RequestId;
use plfm_core::units::{Seq, Timestamp};

pub use memory::MemoryStore;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;

pub mod contract;
mod memory;
#[cfg(feature = "sqlite")]
mod sqlite;

/// Blocking: the writer has a thread of its own, readers come in on blocking threads.
pub trait Store: Send + Sync + 'static {
    /// The seq of the newest event; 0 for an empty log.
    fn head(&self) -> Result<Seq, StoreError>;

    /// All of the batch, durably, or nothing of it. It must begin at `head + 1` and have no gap.
    fn append(&self, batch: &[Envelope]) -> Result<(), StoreError>;

    /// Events after `after`, oldest first, at most `limit`.
    fn read(&self, after: Seq, limit: usize) -> Result<Vec<Envelope>, StoreError>;

    /// Idempotent: the name of a blob is its content.
    fn put_blob(&self, body: &[u8]) -> Result<Digest, StoreError>;

    fn blob(&self, name: Digest) -> Result<Option<Vec<u8>>, StoreError>;

    /// Keeps the newest [`AUDIT_PER_IDENTITY_MAX`] of each identity.
    fn audit(&self, record: &AuditRecord) -> Result<(), StoreError>;

    /// Newest first.
    fn audit_trail(&self, limit: usize) -> Result<Vec<AuditRecord>, StoreError>;
}

/// Someone who is refused a million times must not fill the disk.
pub const AUDIT_PER_IDENTITY_MAX: usize = 1_000;

/// A refusal or a denied attempt; outside the fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    pub at: Timestamp,
    pub identity: String,
    pub action: String,
    pub code: String,
    pub request: RequestId,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another writer was here: read the tail and decide again.
    #[error("the log is at {head}, the batch begins at {first}")]
    Conflict { head: Seq, first: Seq },
    #[error("the batch has a gap after {0}")]
    Gap(Seq),
    /// The bytes on disk are not those that were written.
    #[error("the log is damaged: {0}")]
    Damaged(String),
    #[error("the log has format {found}, this plfm reads up to {known}")]
    TooNew { found: u32, known: u32 },
    #[error("the disk of the log is full")]
    DiskFull,
    #[cfg(feature = "sqlite")]
    #[error("cannot {action} the log")]
    Sqlite { action: &'static str, source: rusqlite::Error },
}

/// The first seq of a batch that follows itself without a gap.
fn first_of(batch: &[Envelope]) -> Result<Option<Seq>, StoreError> {
    let gap = batch.windows(2).find(|pair| pair[1].seq != pair[0].seq.next());
    match gap {
        Some(pair) => Err(StoreError::Gap(pair[0].seq)),
        None => Ok(batch.first().map(|envelope| envelope.seq)),
    }
}
