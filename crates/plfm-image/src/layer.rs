//! One layer, from the bytes of its blob to the image of its files.
//!
//! ```text
//! source ──Bytes──▶ decode: size, digest, decompress ──256 KiB──▶ unpack: diff id, tar, EROFS ──▶ temporary file
//!        bounded    (a thread)                         bounded    (a thread)
//! ```
//!
//! The bytes are judged in the order in which they were promised: a blob that is not what its descriptor says is a
//! failed pull, whatever its content looks like; only then may the content be at fault. Nothing is kept unless all of
//! it was right: the caller gets a temporary file that vanishes if it is dropped.

mod decode;
mod pax;
mod sparse;
pub(crate) mod tar;
mod unpack;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use plfm_core::digest::Digest;
use tempfile::NamedTempFile;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::error::ImageError;
use crate::limits::Budget;
use crate::manifest::Descriptor;

/// A layer to be made.
#[derive(Debug, Clone)]
pub struct Job {
    pub blob: Descriptor,
    pub diff_id: Digest,
    /// Where the temporary file goes.
    pub tmp: PathBuf,
    pub budget: Arc<Budget>,
}

/// A layer that is made, synced to disk, and not yet in its place.
#[derive(Debug)]
pub struct Layer {
    pub file: NamedTempFile,
    pub bytes: u64,
    /// As the limits count them.
    pub entries: u64,
    pub unpacked_bytes: u64,
    /// Directories that the layer has only because of what is in them.
    pub implied: u64,
    /// Its root hides all layers below.
    pub opaque: bool,
}

/// Chunks that wait between the network and the decoder, of up to 400 KiB each where the network is fast.
const FETCHED_CHUNKS: usize = 8;
/// Chunks that wait between the decoder and the parser, of this size each: one is read, one is written, two wait.
const DECODED_CHUNKS: usize = 2;
const DECODED_CHUNK_BYTES: usize = 256 * 1024;

/// Begins a layer. The blob's bytes go into the sender; when it is dropped they have ended.
pub fn start(job: Job) -> (mpsc::Sender<Bytes>, impl Future<Output = Result<Layer, ImageError>>) {
    let (fetched, compressed) = mpsc::channel(FETCHED_CHUNKS);
    let (decoded, plain) = std::sync::mpsc::sync_channel(DECODED_CHUNKS);
    let (blob, limits) = (job.blob.clone(), job.budget.limits().clone());
    let decode = spawn_blocking(move || decode::decode(&blob, &limits, compressed, decoded));
    let unpack = spawn_blocking(move || unpack::unpack(&job, plain));
    let verdict = async {
        let (decode, unpack) = tokio::join!(decode, unpack);
        decode.unwrap_or(Err(ImageError::Abandoned))?;
        unpack.unwrap_or(Err(ImageError::Abandoned))
    };
    (fetched, verdict)
}

/// What is wrong with a layer's content.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("it cannot be decompressed: {0}")]
    Compression(String),
    #[error("it ends within an entry")]
    Truncated,
    #[error("the header at byte {at} has a wrong checksum")]
    Checksum { at: u64 },
    #[error("the header at byte {at}: {why}")]
    Header { at: u64, why: &'static str },
    #[error("entry `{entry}`: {why}")]
    Entry { entry: String, why: &'static str },
    #[error("entry `{entry}` is a hard link to `{target}`, which is no earlier file of this layer")]
    HardLink { entry: String, target: String },
    #[error("something follows the end mark")]
    Trailing,
}

/// A name for people: printable, and short.
fn shown(name: &[u8]) -> String {
    const SHOWN_CHARS_MAX: usize = 80;
    let text = String::from_utf8_lossy(name);
    let mut shown: String =
        text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(SHOWN_CHARS_MAX).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests;
