//! Where the log lives: one store for all servers, and the lease by which one of them writes. What is written is not yet synced, and
//! what is not synced is lost in a crash.

use std::collections::VecDeque;
use std::time::Duration;

use plfm_core::event::Envelope;
use plfm_core::units::{Seq, Timestamp};
use plfm_store::{MemoryStore, Store, StoreError};

use crate::ctx::Happening;

/// A server that has not renewed it for so long may be followed by another.
const LEASE: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct Disk {
    pub log: MemoryStore,
    unsynced: VecDeque<Write>,
    lease: Option<(usize, Timestamp)>,
    pub is_down: bool,
    /// What happens when the next write is taken, before it is synced.
    pub crashes_at_write: Option<Happening>,
    /// Syncs that were under way in an earlier one come to nothing.
    pub life: u64,
    /// It holds a backup in place of the log, and nobody has said so in it yet.
    pub is_restored: bool,
}

/// A batch on its way, and of which life of which server.
pub struct Write {
    pub server: usize,
    pub life: u64,
    /// Since when that server has listened, by its own clock.
    pub since: Timestamp,
    pub batch: Vec<Envelope>,
}

impl Disk {
    /// Takes the write after the last one or none.
    pub fn write(&mut self, write: Write) -> Result<(), StoreError> {
        let first = write.batch.first().map_or(Seq(0), |envelope| envelope.seq);
        let head = self.head();
        if first != head.next() {
            return Err(StoreError::Conflict { head, first });
        }
        self.unsynced.push_back(write);
        Ok(())
    }

    /// Nothing waits to be synced.
    pub fn is_quiet(&self) -> bool {
        self.unsynced.is_empty()
    }

    fn head(&self) -> Seq {
        let written = self.unsynced.back().and_then(|write| write.batch.last());
        written.map_or_else(|| self.log.head().expect("a log in memory has a head"), |envelope| envelope.seq)
    }

    /// The oldest write becomes durable.
    pub fn sync(&mut self, life: u64) -> Option<Write> {
        let write = self.unsynced.pop_front().filter(|_| self.life == life)?;
        self.log.append(&write.batch).expect("it was taken in its turn");
        Some(write)
    }

    /// Who had written what is lost now.
    pub fn crashes(&mut self) -> Vec<Write> {
        (self.is_down, self.life) = (true, self.life + 1);
        self.unsynced.drain(..).collect()
    }

    pub fn tail(&self, after: Seq) -> Vec<Envelope> {
        self.log.read(after, usize::MAX).expect("a log in memory can be read")
    }

    /// A backup takes the place of the log: its first events only.
    pub fn restore(&mut self, kept: Seq) {
        let mut log = self.tail(Seq(0));
        log.truncate(usize::try_from(kept.0).unwrap_or(usize::MAX));
        self.log = MemoryStore::default();
        self.log.append(&log).expect("it is the beginning of a log");
        (self.lease, self.is_restored) = (None, true);
    }

    /// Takes or renews the lease, if it is free; whether it is held now.
    pub fn holds(&mut self, server: usize, now: Timestamp) -> bool {
        let free = self.lease.is_none_or(|(holder, until)| holder == server || now >= until);
        if free {
            self.lease = Some((server, now + LEASE));
        }
        free
    }

    pub fn writer(&self) -> Option<usize> {
        self.lease.map(|(holder, _)| holder)
    }
}
