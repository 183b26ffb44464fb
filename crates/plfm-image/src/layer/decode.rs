//! The first half of a layer: is the blob what its descriptor says, and what is in it once it is decompressed.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::SyncSender;

use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use plfm_core::digest::Digest;
use ring::digest::{Context, SHA256};
use tokio::sync::mpsc;

use super::{DECODED_CHUNK_BYTES, Fault};
use crate::error::ImageError;
use crate::limits::Limits;
use crate::manifest::{Compression, Descriptor};

/// 32 MiB of window: more than any usual level asks for, and within the memory that a layer may take.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;

/// Decompresses until the bytes end or nobody reads them; then sees to it that the blob is the promised one.
pub fn decode(
    blob: &Descriptor,
    limits: &Limits,
    compressed: mpsc::Receiver<Bytes>,
    decoded: SyncSender<Vec<u8>>,
) -> Result<(), ImageError> {
    let mut input = Verified::new(blob, compressed);
    let outcome = match blob.compression()? {
        Compression::None => pump(&mut input, blob, limits, &decoded),
        Compression::Gzip => pump(&mut MultiGzDecoder::new(&mut input), blob, limits, &decoded),
        Compression::Zstd => zstd(&mut input, blob, limits, &decoded),
    };
    // The blob's own faults come first: without it, its content proves nothing.
    input.verify()?;
    outcome
}

fn zstd(
    input: &mut Verified,
    blob: &Descriptor,
    limits: &Limits,
    decoded: &SyncSender<Vec<u8>>,
) -> Result<(), ImageError> {
    let broken = |error| fault(blob, error);
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(broken)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(broken)?;
    pump(&mut decoder, blob, limits, decoded)
}

fn pump(
    source: &mut dyn Read,
    blob: &Descriptor,
    limits: &Limits,
    decoded: &SyncSender<Vec<u8>>,
) -> Result<(), ImageError> {
    let most = limits.ratio_from_bytes.max(blob.size.saturating_mul(limits.ratio));
    let mut total = 0;
    loop {
        let mut chunk = Vec::with_capacity(DECODED_CHUNK_BYTES);
        source.take(DECODED_CHUNK_BYTES as u64).read_to_end(&mut chunk).map_err(|error| fault(blob, error))?;
        total += chunk.len() as u64;
        if total > most {
            return Err(ImageError::Ratio { digest: blob.digest, ratio: limits.ratio });
        }
        if chunk.is_empty() || decoded.send(chunk).is_err() {
            return Ok(());
        }
    }
}

fn fault(blob: &Descriptor, error: io::Error) -> ImageError {
    ImageError::Layer { digest: blob.digest, fault: Fault::Compression(error.to_string()) }
}

/// The blob's bytes as they arrive, counted and hashed.
struct Verified<'a> {
    blob: &'a Descriptor,
    chunks: mpsc::Receiver<Bytes>,
    chunk: Bytes,
    found: u64,
    hash: Context,
}

impl<'a> Verified<'a> {
    fn new(blob: &'a Descriptor, chunks: mpsc::Receiver<Bytes>) -> Self {
        Self { blob, chunks, chunk: Bytes::new(), found: 0, hash: Context::new(&SHA256) }
    }

    fn next_chunk(&mut self) {
        while self.chunk.is_empty() && self.found <= self.blob.size {
            let Some(chunk) = self.chunks.blocking_recv() else { return };
            self.found += chunk.len() as u64;
            self.hash.update(&chunk);
            self.chunk = chunk;
        }
    }

    fn verify(mut self) -> Result<(), ImageError> {
        loop {
            self.chunk.clear();
            self.next_chunk();
            if self.chunk.is_empty() {
                break;
            }
        }
        let Descriptor { digest, size, .. } = *self.blob;
        let (what, found) = ("layer", self.found);
        if found < size {
            return Err(ImageError::Short { what, digest, size, found });
        }
        if found > size {
            return Err(ImageError::Long { what, digest, size });
        }
        let found = finish(self.hash);
        if found == digest { Ok(()) } else { Err(ImageError::Digest { what, expected: digest, found }) }
    }
}

impl Read for Verified<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Verified<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.next_chunk();
        Ok(&self.chunk)
    }

    fn consume(&mut self, count: usize) {
        self.chunk.advance(count);
    }
}

pub fn finish(hash: Context) -> Digest {
    Digest::from_bytes(hash.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
}
