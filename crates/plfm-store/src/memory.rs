//! A log in memory: for the simulator and for tests. It forgets at the end of the process, and says so by its name.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use plfm_core::digest::Digest;
use plfm_core::event::Envelope;
use plfm_core::units::Seq;

use crate::{AUDIT_PER_IDENTITY_MAX, AuditRecord, Store, StoreError, first_of};

#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Content>);

#[derive(Debug, Default)]
struct Content {
    events: Vec<Envelope>,
    blobs: BTreeMap<Digest, Vec<u8>>,
    audit: Vec<AuditRecord>,
}

impl Content {
    fn head(&self) -> Seq {
        self.events.last().map_or(Seq(0), |envelope| envelope.seq)
    }
}

impl MemoryStore {
    /// Every change below is one step, so a panic elsewhere leaves no half of it behind.
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn head(&self) -> Result<Seq, StoreError> {
        Ok(self.content().head())
    }

    fn append(&self, batch: &[Envelope]) -> Result<(), StoreError> {
        let Some(first) = first_of(batch)? else { return Ok(()) };
        let mut content = self.content();
        let head = content.head();
        if first != head.next() {
            return Err(StoreError::Conflict { head, first });
        }
        content.events.extend_from_slice(batch);
        Ok(())
    }

    fn read(&self, after: Seq, limit: usize) -> Result<Vec<Envelope>, StoreError> {
        let content = self.content();
        let start = usize::try_from(after.0).unwrap_or(usize::MAX).min(content.events.len());
        Ok(content.events[start..].iter().take(limit).cloned().collect())
    }

    fn put_blob(&self, body: &[u8]) -> Result<Digest, StoreError> {
        let name = Digest::of(body);
        self.content().blobs.insert(name, body.to_vec());
        Ok(name)
    }

    fn blob(&self, name: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.content().blobs.get(&name).cloned())
    }

    fn audit(&self, record: &AuditRecord) -> Result<(), StoreError> {
        let mut content = self.content();
        content.audit.push(record.clone());
        let of_identity = |known: &AuditRecord| known.identity == record.identity;
        if content.audit.iter().filter(|known| of_identity(known)).count() > AUDIT_PER_IDENTITY_MAX
            && let Some(oldest) = content.audit.iter().position(of_identity)
        {
            content.audit.remove(oldest);
        }
        Ok(())
    }

    fn audit_trail(&self, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        Ok(self.content().audit.iter().rev().take(limit).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_contract() {
        crate::contract::check(&|| Box::new(MemoryStore::default()));
    }
}
