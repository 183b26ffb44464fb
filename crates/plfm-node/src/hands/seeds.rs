//! What sandboxes begin with: a machine that has booted and is nobody yet, kept once for each kind of them.
//!
//! The first sandbox of a kind boots as nobody, is kept as it is then, and becomes who it is; the others go on from there. No value of
//! anybody's variables is in a seed, and what is of one org is never begun from another's. Seeds are of one run of the node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use plfm_api::documents::Workload;
use plfm_core::digest::Digest;
use plfm_core::ids::{BootId, InstanceId, OrgId, SnapshotId};
use plfm_core::reason::{Failure, Reason, chain};
use plfm_core::units::Mebibytes;
use plfm_image::Image;

use super::{Hands, failure, fresh_boot, spec};
use crate::guest;
use crate::mind::Outcome;

/// Each takes as much disk as a machine of its kind has touched of its memory and disk.
const SEEDS_MAX: usize = 16;

#[derive(Default)]
pub struct Seeds(Mutex<BTreeMap<Kind, Seed>>);

/// Whose sandboxes, and which, are alike until they are somebody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    org: OrgId,
    image: Digest,
    memory: Mebibytes,
    disk: Mebibytes,
    cpu: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seed {
    /// Someone is at it.
    InHand,
    Sown(SnapshotId),
    /// There can be none: it is not tried again.
    Barren,
}

/// A seed that is being made.
pub struct Sowing<'s> {
    seeds: &'s Seeds,
    kind: Kind,
    id: SnapshotId,
}

impl Sowing<'_> {
    /// As whom the machine boots.
    pub fn nobody(&self) -> InstanceId {
        InstanceId::new(self.id.ulid())
    }

    fn comes_to(self, seed: Seed) {
        self.seeds.all().insert(self.kind.clone(), seed);
    }
}

impl Drop for Sowing<'_> {
    /// If its machine did not get so far, the next one may.
    fn drop(&mut self) {
        let mut all = self.seeds.all();
        if all.get(&self.kind) == Some(&Seed::InHand) {
            all.remove(&self.kind);
        }
    }
}

/// What is to be run, without anything that is anybody's.
pub fn nobodys(workload: &Workload) -> Workload {
    Workload { vars: BTreeMap::new(), ..workload.clone() }
}

impl Seeds {
    fn all(&self) -> MutexGuard<'_, BTreeMap<Kind, Seed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sown(&self, kind: &Kind) -> Option<SnapshotId> {
        match self.all().get(kind) {
            Some(Seed::Sown(id)) => Some(*id),
            _ => None,
        }
    }

    /// For who is the first to ask.
    fn sow(&self, kind: Kind, id: SnapshotId) -> Option<Sowing<'_>> {
        let mut all = self.all();
        if all.contains_key(&kind) || all.len() >= SEEDS_MAX {
            return None;
        }
        all.insert(kind.clone(), Seed::InHand);
        Some(Sowing { seeds: self, kind, id })
    }

    fn drain(&self) -> Vec<SnapshotId> {
        let sown = std::mem::take(&mut *self.all()).into_values();
        sown.filter_map(|seed| if let Seed::Sown(id) = seed { Some(id) } else { None }).collect()
    }
}

fn kind(workload: &Workload) -> Option<Kind> {
    let resources = &workload.resources;
    let (memory, disk, cpu) = (resources.memory, resources.disk, resources.cpu.0);
    let is_plain = workload.is_sandbox() && workload.from().is_none();
    is_plain.then_some(Kind { org: workload.org, image: workload.image.digest, memory, disk, cpu })
}

impl Hands {
    pub(super) fn seed(&self, workload: &Workload) -> Option<SnapshotId> {
        self.seeds.sown(&kind(workload)?)
    }

    /// None if there is no seed, or it was no good: then it is booted.
    pub(super) async fn grow(self: &Arc<Self>, id: InstanceId, workload: &Workload, image: &Image) -> Option<Outcome> {
        let seed = self.seed(workload)?;
        match self.grown(id, seed, workload, image).await {
            Ok(started) => return Some(started),
            Err(failure) => {
                tracing::warn!(instance = %id, %failure, "it is booted, for it does not begin from its seed")
            }
        }
        self.seeds.all().extend(kind(workload).map(|kind| (kind, Seed::Barren)));
        if let Err(error) = self.runtime.destroy(id).await {
            tracing::warn!(instance = %id, error = chain(&error), "what did not begin cannot be removed");
        }
        self.uproot(seed).await;
        None
    }

    async fn grown(
        self: &Arc<Self>,
        id: InstanceId,
        seed: SnapshotId,
        workload: &Workload,
        image: &Image,
    ) -> Result<Outcome, Failure> {
        // It may have been given a disk of its own before there was a seed.
        self.runtime.destroy(id).await.map_err(|error| failure(&error))?;
        let tap = self.tap(id, workload).await?;
        let (boot, begun) = (fresh_boot(), Instant::now());
        let restored = self.runtime.restore(&spec(id, workload, image), seed, boot, tap).await;
        restored.map_err(|error| Failure::new(Reason::RestoreFailed, chain(&error)))?;
        let hello_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let client = self.becomes(id, guest::renewal(id, boot, workload, image, 0)).await?;
        self.attend(id, boot, client);
        Ok(Outcome::Started { boot, hello_ms })
    }

    /// Whether a machine that is about to boot is to be kept before it is somebody.
    pub(super) fn sowing(&self, workload: &Workload) -> Option<Sowing<'_>> {
        let id = SnapshotId::new(fresh_boot().ulid());
        kind(workload).filter(|_| self.runtime.capabilities().snapshot).and_then(|kind| self.seeds.sow(kind, id))
    }

    /// Keeps what has booted as nobody, and makes it somebody.
    pub(super) async fn sow(
        &self,
        id: InstanceId,
        boot: BootId,
        workload: &Workload,
        image: &Image,
        sowing: Sowing<'_>,
    ) -> Result<(), Failure> {
        let kept = async {
            self.rest(&guest::client(self.runtime.clone(), id)).await?;
            Ok::<_, Failure>(self.runtime.snapshot(id, sowing.id, false).await)
        };
        let kept = kept.await;
        let seed = if matches!(kept, Ok(Ok(()))) { Seed::Sown(sowing.id) } else { Seed::Barren };
        sowing.comes_to(seed);
        if let Err(error) = kept? {
            tracing::info!(error = chain(&error), "sandboxes of this kind are booted each time");
        }
        self.becomes(id, guest::renewal(id, boot, workload, image, 0)).await.map(drop)
    }

    /// All of them; those that went on from one go on.
    pub(super) async fn root_out(&self) {
        for seed in self.seeds.drain() {
            self.uproot(seed).await;
        }
    }

    async fn uproot(&self, seed: SnapshotId) {
        if let Err(error) = self.runtime.forget(seed).await {
            tracing::warn!(error = chain(&error), "a seed cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(number: u128) -> Kind {
        let org = OrgId::new(ulid::Ulid::from_parts(1, number));
        Kind { org, image: Digest::of(b"base"), memory: Mebibytes(128), disk: Mebibytes(256), cpu: 500 }
    }

    fn id(number: u128) -> SnapshotId {
        SnapshotId::new(ulid::Ulid::from_parts(2, number))
    }

    #[test]
    fn one_of_a_kind_is_sown_and_no_more_than_there_is_room_for() {
        let seeds = Seeds::default();
        let sowing = seeds.sow(kind(0), id(0)).unwrap();
        assert_eq!(sowing.nobody().ulid(), id(0).ulid());
        assert!(seeds.sow(kind(0), id(1)).is_none() && seeds.sown(&kind(0)).is_none(), "someone is at it");
        drop(sowing);
        seeds.sow(kind(0), id(0)).expect("it came to nothing").comes_to(Seed::Sown(id(0)));
        assert_eq!(seeds.sown(&kind(0)), Some(id(0)));
        seeds.sow(kind(1), id(1)).unwrap().comes_to(Seed::Barren);
        assert!(seeds.sow(kind(1), id(2)).is_none());
        let more: Vec<_> = (2..100).filter_map(|number| seeds.sow(kind(number), id(number))).collect();
        assert_eq!(more.len(), SEEDS_MAX - 2);
        drop(more);
        assert_eq!(seeds.drain(), [id(0)], "what was never sown is nowhere");
        assert!(seeds.sow(kind(0), id(1)).is_some());
    }
}
