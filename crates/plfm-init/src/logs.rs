//! The last of what the workload has said: a ring that drops the oldest and never holds the workload up.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use plfm_api::guest::logs_response::Stream;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

/// P-VM-35.
const RING_BYTES: usize = 1 << 20;
/// Of one chunk, and of one read.
const CHUNK_BYTES: usize = 16 << 10;
/// What a chunk costs besides its bytes: many tiny ones may not outgrow the ring.
const CHUNK_COST: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Gap-free; the first is 1.
    pub seq: u64,
    pub stream: Stream,
    pub realtime_ns: u64,
    pub data: Bytes,
}

pub struct Logs {
    ring: Mutex<Ring>,
    newest: watch::Sender<u64>,
}

#[derive(Default)]
struct Ring {
    chunks: VecDeque<Chunk>,
    cost: usize,
}

impl Logs {
    pub fn new() -> Self {
        Self { ring: Mutex::default(), newest: watch::Sender::new(0) }
    }

    pub fn push(&self, stream: Stream, data: &[u8]) {
        for data in data.chunks(CHUNK_BYTES) {
            let mut ring = self.lock();
            let seq = *self.newest.borrow() + 1;
            ring.push(Chunk { seq, stream, realtime_ns: now(), data: Bytes::copy_from_slice(data) });
            self.newest.send_replace(seq);
        }
    }

    /// The oldest chunk from `seq` on, and how many before it are gone.
    pub fn from(&self, seq: u64) -> Option<(Chunk, u64)> {
        let ring = self.lock();
        let oldest = ring.chunks.front()?.seq;
        let chunk = ring.chunks.get(seq.saturating_sub(oldest) as usize)?;
        Some((chunk.clone(), chunk.seq.saturating_sub(seq.max(1))))
    }

    /// The number of the newest chunk, to wait for a change of.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Takes all of `output` in.
    pub async fn collect(&self, stream: Stream, mut output: impl AsyncRead + Unpin) {
        let mut bytes = vec![0; CHUNK_BYTES];
        while let Ok(size @ 1..) = output.read(&mut bytes).await {
            self.push(stream, &bytes[..size]);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Ring {
    fn push(&mut self, chunk: Chunk) {
        self.cost += CHUNK_COST + chunk.data.len();
        self.chunks.push_back(chunk);
        while self.cost > RING_BYTES {
            let Some(oldest) = self.chunks.pop_front() else { return };
            self.cost -= CHUNK_COST + oldest.data.len();
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(logs: &Logs, seq: u64) -> Option<(String, u64, u64)> {
        let (chunk, missed) = logs.from(seq)?;
        Some((String::from_utf8_lossy(&chunk.data).into_owned(), chunk.seq, missed))
    }

    #[test]
    fn a_reader_continues_where_it_was() {
        let logs = Logs::new();
        assert_eq!(logs.from(0), None);
        ["a", "b"].iter().for_each(|word| logs.push(Stream::STREAM_STDOUT, word.as_bytes()));
        assert_eq!(text(&logs, 0), Some(("a".into(), 1, 0)));
        assert_eq!(text(&logs, 2), Some(("b".into(), 2, 0)));
        assert_eq!(logs.from(3), None);
    }

    #[test]
    fn the_oldest_goes_first_and_is_counted() {
        let logs = Logs::new();
        (0..100).for_each(|_| logs.push(Stream::STREAM_STDOUT, &[b'x'; CHUNK_BYTES]));
        let (oldest, missed) = logs.from(1).unwrap();
        assert_eq!(oldest.seq, 1 + missed);
        assert_eq!(100 - missed, (RING_BYTES / (CHUNK_BYTES + CHUNK_COST)) as u64);
        assert_eq!(logs.from(90).unwrap().1, 0);
    }

    #[test]
    fn many_tiny_chunks_fill_the_ring_too() {
        let logs = Logs::new();
        (0..100_000).for_each(|_| logs.push(Stream::STREAM_STDERR, b"."));
        assert!(logs.lock().chunks.len() <= RING_BYTES / CHUNK_COST);
    }
}
