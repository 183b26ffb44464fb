//! What sandboxes begin with: a machine that has booted and is nobody yet, kept once for each kind of them.
//!
//! The first sandbox of a kind boots as nobody, runs what its template wants to have run, is kept as it is then, and becomes who it is;
//! the others go on from there. No value of anybody's variables is in a seed, and what is of one org is never begun from another's. Seeds
//! are of one run of the node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use plfm_api::documents::Workload;
use plfm_core::digest::Digest;
use plfm_core::event::{Start, StartWay, Startup};
use plfm_core::ids::{BootId, InstanceId, OrgId, SnapshotId};
use plfm_core::reason::{Failure, Reason, chain};
use plfm_core::units::Mebibytes;
use plfm_image::Image;
use plfm_runtime::Tap;

use super::{Hands, failure, fresh_boot, lap, spec};
use crate::guest;
use crate::mind::Outcome;

/// Each takes as much disk as a machine of its kind has touched of its memory and disk.
const SEEDS_MAX: usize = 16;
/// One after the other, before a seed is taken for the cause: a host may be slow for a moment.
const FAILURES_MAX: u32 = 3;

#[derive(Default)]
pub struct Seeds(Mutex<Plot>);

#[derive(Default)]
struct Plot {
    seeds: BTreeMap<Kind, Seed>,
    /// There is no room for more, or the node is about to end.
    is_closed: bool,
    /// Counts what was asked for, to tell which was asked for last.
    clock: u64,
}

/// Whose sandboxes, and which, are alike until they are somebody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    org: OrgId,
    image: Digest,
    memory: Mebibytes,
    disk: Mebibytes,
    cpu: u32,
    startup: Startup,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seed {
    stage: Stage,
    used: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Someone makes it.
    InHand(SnapshotId),
    Sown {
        id: SnapshotId,
        failures: u32,
    },
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

    /// Whether it is wanted still.
    fn comes_up(self) -> bool {
        self.comes_to(Stage::Sown { id: self.id, failures: 0 })
    }

    fn fails(self) {
        self.comes_to(Stage::Barren);
    }

    fn comes_to(&self, stage: Stage) -> bool {
        let mut plot = self.seeds.plot();
        let is_open = !plot.is_closed;
        let seed = plot.seeds.get_mut(&self.kind).filter(|seed| is_open && seed.stage == Stage::InHand(self.id));
        seed.map(|seed| seed.stage = stage).is_some()
    }
}

impl Drop for Sowing<'_> {
    /// If its machine did not get so far, the next one may.
    fn drop(&mut self) {
        let mut plot = self.seeds.plot();
        if plot.seeds.get(&self.kind).is_some_and(|seed| seed.stage == Stage::InHand(self.id)) {
            plot.seeds.remove(&self.kind);
        }
    }
}

/// What is to be run, without anything that is anybody's.
pub fn nobodys(workload: &Workload) -> Workload {
    Workload { vars: BTreeMap::new(), ..workload.clone() }
}

impl Seeds {
    fn plot(&self) -> MutexGuard<'_, Plot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn sown(&self, kind: &Kind) -> Option<SnapshotId> {
        let mut plot = self.plot();
        plot.clock += 1;
        let clock = plot.clock;
        let seed = plot.seeds.get_mut(kind)?;
        let Stage::Sown { id, .. } = seed.stage else { return None };
        seed.used = clock;
        Some(id)
    }

    /// For who is the first to ask; with what has to make way for it.
    fn sow(&self, kind: Kind, id: SnapshotId) -> Option<(Sowing<'_>, Option<SnapshotId>)> {
        let mut plot = self.plot();
        if plot.is_closed || plot.seeds.contains_key(&kind) {
            return None;
        }
        let gone = if plot.seeds.len() < SEEDS_MAX { None } else { Some(plot.evict()?) };
        plot.clock += 1;
        let seed = Seed { stage: Stage::InHand(id), used: plot.clock };
        plot.seeds.insert(kind.clone(), seed);
        Some((Sowing { seeds: self, kind, id }, gone.flatten()))
    }

    /// Whether a machine came of it; what is no good is removed.
    fn came(&self, kind: &Kind, sown: SnapshotId, is_well: bool) -> Option<SnapshotId> {
        let mut plot = self.plot();
        let seed = plot.seeds.get_mut(kind)?;
        let Stage::Sown { id, failures } = &mut seed.stage else { return None };
        if *id != sown {
            return None;
        }
        *failures = if is_well { 0 } else { *failures + 1 };
        if *failures < FAILURES_MAX {
            return None;
        }
        seed.stage = Stage::Barren;
        Some(sown)
    }

    /// What is being made stays in hand: its maker removes it.
    fn close(&self) -> Vec<SnapshotId> {
        let mut plot = self.plot();
        plot.is_closed = true;
        std::mem::take(&mut plot.seeds).into_values().filter_map(Seed::sown).collect()
    }

    fn open(&self) {
        self.plot().is_closed = false;
    }
}

impl Plot {
    /// Takes out the one that was asked for least lately, with its snapshot; none if all are in hand.
    fn evict(&mut self) -> Option<Option<SnapshotId>> {
        let idle = self.seeds.iter().filter(|(_, seed)| !matches!(seed.stage, Stage::InHand(_)));
        let kind = idle.min_by_key(|(_, seed)| seed.used)?.0.clone();
        self.seeds.remove(&kind).map(Seed::sown)
    }
}

impl Seed {
    fn sown(self) -> Option<SnapshotId> {
        match self.stage {
            Stage::Sown { id, .. } => Some(id),
            _ => None,
        }
    }
}

pub(super) fn kind(workload: &Workload) -> Option<Kind> {
    let resources = &workload.resources;
    let (memory, disk, cpu) = (resources.memory, resources.disk, resources.cpu.0);
    let is_plain = workload.is_sandbox() && workload.from().is_none();
    let startup = workload.startup.clone();
    is_plain.then_some(Kind { org: workload.org, image: workload.image.digest, memory, disk, cpu, startup })
}

impl Hands {
    pub(super) fn seed(&self, workload: &Workload) -> Option<SnapshotId> {
        self.seeds.sown(&kind(workload)?)
    }

    /// None if there is no seed, or nothing came of it: then it is booted.
    pub(super) async fn grow(
        self: &Arc<Self>,
        id: InstanceId,
        workload: &Workload,
        image: &Image,
    ) -> Result<Option<Outcome>, Failure> {
        let Some(kind) = kind(workload) else { return Ok(None) };
        let Some(seed) = self.seeds.sown(&kind) else { return Ok(None) };
        // It may have been given a disk of its own before there was a seed.
        self.runtime.destroy(id).await.map_err(|error| failure(&error))?;
        let mut clock = Instant::now();
        let tap = self.tap(id, workload).await?;
        let grown = self.grown(id, seed, (tap, lap(&mut clock)), workload, image).await;
        let gone = self.seeds.came(&kind, seed, grown.is_ok());
        match grown {
            Ok(started) => return Ok(Some(started)),
            Err(failure) => {
                tracing::warn!(instance = %id, %failure, "it is booted, for it does not begin from its seed")
            }
        }
        if let Some(gone) = gone {
            self.uproot(gone).await;
        }
        // What it has of the seed goes with it.
        self.runtime.destroy(id).await.map_err(|error| failure(&error))?;
        Ok(None)
    }

    async fn grown(
        self: &Arc<Self>,
        id: InstanceId,
        seed: SnapshotId,
        (tap, network_ms): (Option<Tap>, u64),
        workload: &Workload,
        image: &Image,
    ) -> Result<Outcome, Failure> {
        let (boot, mut clock) = (fresh_boot(), Instant::now());
        let restored = self.runtime.restore(&spec(id, workload, image), seed, boot, tap).await;
        restored.map_err(|error| Failure::new(Reason::RestoreFailed, chain(&error)))?;
        let machine_ms = lap(&mut clock);
        let client = self.becomes(id, guest::renewal(id, boot, workload, image, 0)).await?;
        let identity_ms = lap(&mut clock);
        self.attend(id, boot, client);
        let start = Start { way: StartWay::Restore, prepare_ms: 0, network_ms, machine_ms, identity_ms };
        Ok(Outcome::Started { boot, start })
    }

    /// Whether a machine that is about to boot is to be kept before it is somebody.
    pub(super) async fn sowing(&self, workload: &Workload) -> Option<Sowing<'_>> {
        let kind = kind(workload).filter(|_| self.runtime.capabilities().snapshot)?;
        let (sowing, gone) = self.seeds.sow(kind, SnapshotId::new(fresh_boot().ulid()))?;
        if let Some(gone) = gone {
            self.uproot(gone).await;
        }
        Some(sowing)
    }

    /// Keeps what has booted as nobody, and makes it somebody. What that fails for is nobody still, and may be at rest for ever.
    pub(super) async fn sow(
        &self,
        id: InstanceId,
        boot: BootId,
        workload: &Workload,
        image: &Image,
        sowing: Sowing<'_>,
    ) -> Result<(), Failure> {
        let (seed, _rests) = (sowing.id, self.resting.read().await);
        let kept = async {
            let client = guest::client(self.runtime.clone(), id);
            self.rest(&client).await?;
            // What each of them does first has been done once, and need not be read or made again.
            let nobodys = nobodys(workload);
            self.becomes(id, guest::renewal(sowing.nobody(), fresh_boot(), &nobodys, image, 0)).await?;
            self.first_exec(id).await;
            self.rest(&client).await?;
            let kept = self.runtime.snapshot(id, seed, false).await;
            kept.map_err(|error| Failure::new(Reason::SnapshotFailed, chain(&error)))?;
            self.becomes(id, guest::renewal(id, boot, workload, image, 0)).await
        };
        let kept = kept.await;
        if kept.is_err() {
            sowing.fails();
        } else if sowing.comes_up() {
            return Ok(());
        }
        self.uproot(seed).await;
        kept.map(drop)
    }

    /// All of them and all that is kept ready, and no more until it is said; those that went on from one go on.
    pub async fn root_out(&self) {
        self.clear_park().await;
        for seed in self.seeds.close() {
            self.uproot(seed).await;
        }
    }

    /// There is room again.
    pub fn plant_again(&self) {
        self.seeds.open();
        self.park.open();
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
        let (memory, disk, startup) = (Mebibytes(128), Mebibytes(256), Startup::default());
        Kind { org, image: Digest::of(b"base"), memory, disk, cpu: 500, startup }
    }

    fn id(number: u128) -> SnapshotId {
        SnapshotId::new(ulid::Ulid::from_parts(2, number))
    }

    #[test]
    fn one_of_a_kind_is_sown() {
        let seeds = Seeds::default();
        let (sowing, _) = seeds.sow(kind(0), id(0)).unwrap();
        assert_eq!(sowing.nobody().ulid(), id(0).ulid());
        assert!(seeds.sow(kind(0), id(1)).is_none() && seeds.sown(&kind(0)).is_none(), "someone is at it");
        drop(sowing);
        assert!(seeds.sow(kind(0), id(0)).expect("it came to nothing").0.comes_up());
        assert_eq!(seeds.sown(&kind(0)), Some(id(0)));
        seeds.sow(kind(1), id(1)).unwrap().0.fails();
        assert!(seeds.sow(kind(1), id(2)).is_none());
        assert_eq!(seeds.close(), [id(0)], "what was never sown is nowhere");
        assert!(seeds.sow(kind(0), id(1)).is_none());
        seeds.open();
        assert!(seeds.sow(kind(0), id(1)).is_some());
    }

    #[test]
    fn what_is_rooted_out_meanwhile_is_not_wanted_when_it_is_done() {
        let seeds = Seeds::default();
        let (sowing, _) = seeds.sow(kind(0), id(0)).unwrap();
        seeds.close();
        seeds.open();
        let (later, _) = seeds.sow(kind(0), id(1)).unwrap();
        assert!(!sowing.comes_up(), "another is being made");
        assert!(later.comes_up());
        assert_eq!(seeds.sown(&kind(0)), Some(id(1)));
        assert_eq!(seeds.came(&kind(0), id(0), false), None, "a former one is nobody's");
    }

    #[test]
    fn a_seed_is_given_up_after_a_few_failures_in_a_row() {
        let seeds = Seeds::default();
        seeds.sow(kind(0), id(0)).unwrap().0.comes_up();
        for is_well in [false, false, true, false, false] {
            assert_eq!(seeds.came(&kind(0), id(0), is_well), None);
        }
        assert_eq!(seeds.came(&kind(0), id(0), false), Some(id(0)));
        assert!(seeds.sown(&kind(0)).is_none() && seeds.sow(kind(0), id(1)).is_none(), "it is not tried again");
    }

    #[test]
    fn the_least_lately_used_makes_way() {
        let seeds = Seeds::default();
        let in_hand = seeds.sow(kind(99), id(99)).unwrap();
        for number in 1..SEEDS_MAX as u128 {
            assert!(seeds.sow(kind(number), id(number)).unwrap().0.comes_up());
        }
        seeds.sown(&kind(1));
        let (sowing, gone) = seeds.sow(kind(50), id(50)).unwrap();
        assert_eq!((sowing.id, gone), (id(50), Some(id(2))));
        drop((in_hand, sowing));
    }
}
