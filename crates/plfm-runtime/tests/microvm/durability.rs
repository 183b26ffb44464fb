//! What was answered is kept: machines are paused, resumed, kept and gone on from, while whoever does it, or the monitor, or both, are
//! killed at any moment.
//!
//! A machine has files that were synced and a process that has a pattern in its memory. After each round all of them are looked at.
//! What is acknowledged is never lost; what is not may end, if its monitor was killed, and begins anew.

use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use plfm_core::ids::SnapshotId;
use plfm_runtime::{MachineSpec, Runtime};

use crate::house::*;
use crate::ward::*;

/// `cargo xtask soak` asks for many more.
const ROUNDS: &str = "PLFM_SOAK_ROUNDS";
const ROUNDS_USUAL: usize = 12;
const SEED: &str = "PLFM_SOAK_SEED";
/// Within this an act is over, or nearly.
const ACT_MS: u64 = 600;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Pause,
    Resume,
    Keep,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_was_answered_is_kept_whoever_is_killed() {
    let Some(house) = House::build("what_was_answered_is_kept_whoever_is_killed") else { return };
    let rounds = env::var(ROUNDS).ok().map_or(ROUNDS_USUAL, |rounds| rounds.parse().unwrap());
    let seed = env::var(SEED).ok().map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("{SEED}={seed}, {rounds} rounds");
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = house.dir.path().join("runtime");
    let mut next = 200_u128;
    let spec = house.spec(next);
    let runtime = Arc::new(house.open().await);
    runtime.create(&spec).await.unwrap();
    let mut ward = Ward::boot(runtime, spec.id, next).await;
    let (mut acknowledged, mut reborn) = (0, 0);
    for round in 0..rounds {
        ward.writes(round).await;
        let killed = Killed::ALL[random.usize(..Killed::ALL.len())];
        let after = Duration::from_millis(random.u64(..ACT_MS));
        let act = [Act::Pause, Act::Resume, Act::Keep][random.usize(..3)];
        if act == Act::Resume {
            client(&ward.runtime, ward.id).quiesce().await.unwrap();
            ward.runtime.pause(ward.id).await.unwrap();
        }
        let Ward { runtime, id, pattern, files } = ward;
        drop(runtime);
        next += 1;
        let kept = SnapshotId::new(ulid::Ulid(next << 64 | u128::from(std::process::id())));
        let does = match act {
            Act::Pause => "pause".to_owned(),
            Act::Resume => "resume".to_owned(),
            Act::Keep => format!("keep {kept}"),
        };
        // What the runtime here still has to let go of it lets go meanwhile.
        let (at, it) = (dir.clone(), MachineSpec { id, ..spec.clone() });
        let moment = Moment::After(after);
        let done = tokio::task::spawn_blocking(move || acted(&at, &does, &it, killed, moment)).await.unwrap();
        acknowledged += usize::from(done);
        let told = format!("round {round}: {act:?}, killed {killed:?} after {after:?}, acknowledged: {done}");
        eprintln!("{told}");
        assert!(done || killed != Killed::Nobody, "{told}");

        let runtime = Arc::new(house.open().await);
        ward = Ward { runtime, id, pattern, files: files.clone() };
        let found = machine(&ward.runtime, id).await;
        let may_end = killed.monitor() && !(act == Act::Pause && done);
        match (found.alive, found.paused) {
            (_, true) => {
                ward.runtime.resume(id, None).await.unwrap();
                ward.goes_on().await;
            }
            (true, false) => ward.goes_on().await,
            (false, false) => {
                // Between the moment from which it goes on and the word that it does, both may end.
                let went_on = act != Act::Resume || done || killed == Killed::Both;
                assert!(may_end && went_on, "{told}: {found:?}");
                if act != Act::Keep || !done {
                    reborn += 1;
                    // A boot begins on a fresh disk (P-VM-13).
                    ward.runtime.destroy(id).await.unwrap();
                    ward.runtime.create(&MachineSpec { id, ..spec.clone() }).await.unwrap();
                    ward = Ward::boot(ward.runtime, id, next).await;
                }
            }
        }
        if act == Act::Keep {
            let is_kept = ward.runtime.snapshots().await.unwrap().contains(&kept);
            assert!(is_kept || !done, "{told}");
            if is_kept {
                let spec = house.spec(next);
                ward.runtime.restore(&spec, kept, boot(next), None).await.unwrap();
                ward.runtime.destroy(id).await.unwrap();
                ward.runtime.forget(kept).await.unwrap();
                ward.id = spec.id;
                if done {
                    ward.goes_on().await;
                } else {
                    // It may be of before the machine was born again.
                    ward.files = files.clone();
                    client(&ward.runtime, ward.id).thaw(Default::default()).await.unwrap();
                    ward.pattern = ward.asked().await;
                    ward.has_all().await;
                }
            }
        }
    }
    eprintln!("{acknowledged} of {rounds} acknowledged, {reborn} born again; nothing is lost");
    ward.runtime.destroy(ward.id).await.unwrap();
    assert!(monitors(ward.id).is_empty() && cgroups(ward.id).is_empty());
    for left in ["machines", "snapshots"] {
        assert_eq!(fs::read_dir(dir.join(left)).unwrap().count(), 0, "{left}");
    }
}
