//! At every point of every act whoever does it, or the monitor, or both, are killed: what was acknowledged is there, and in the end
//! nothing is left.

use std::sync::Arc;
use std::{env, fs};

use plfm_core::ids::InstanceId;
use plfm_runtime::microvm::MicroVmRuntime;
use plfm_runtime::points::Point::{self, *};
use plfm_runtime::{MachineSpec, Runtime};

use crate::house::*;
use crate::ward::*;

/// Set by `cargo xtask soak`: who is killed is tried in every way at every point, else in one.
pub const WHOLE: &str = "PLFM_SOAK_POINTS";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Create,
    Start,
    Keep,
    Forget,
    Pause,
    Resume,
    Restore,
    HandOver,
    Destroy,
}

/// All points that each act passes, in order.
const PATHS: &[(Act, &[Point])] = &[
    (Act::Create, &[DiskMade, MachineNamed]),
    (Act::Start, &[StartNoted, ProcessStarted, ProcessNoted, Runs]),
    (Act::Keep, &[Saved, DiskKept, WentOn, PictureNamed]),
    (Act::Forget, &[SnapshotGone]),
    (Act::Pause, &[Saved, DiskKept, PictureNamed, Ended]),
    (Act::Resume, &[MemoryLinked, StartNoted, ProcessStarted, ProcessNoted, Runs, Answered, PauseForgotten]),
    (Act::Restore, &[DiskMade, MachineNamed, MemoryLinked, StartNoted, ProcessStarted, ProcessNoted, Runs, Answered]),
    (Act::HandOver, &[HandedOver]),
    (Act::Destroy, &[Ended, MachineGone]),
];

/// A machine that is kept beside the one that is worked on, and what it has to lose.
struct Stage {
    house: House,
    ward: Ward,
    next: u128,
}

impl Stage {
    fn number(&mut self) -> u128 {
        self.next += 1;
        self.next
    }

    async fn reborn(&mut self) {
        let number = self.number();
        let Ward { runtime, id, .. } = &self.ward;
        let (runtime, id) = (runtime.clone(), *id);
        runtime.destroy(id).await.unwrap();
        let spec = self.house.spec(number);
        runtime.create(&spec).await.unwrap();
        self.ward = Ward::boot(runtime, spec.id, number).await;
        self.ward.writes(0).await;
    }

    /// One act, cut off at the point; then another run of ours takes over and looks.
    async fn play(&mut self, act: Act, point: Point, killed: Killed) {
        let told = format!("{act:?} at {point:?}, killed {killed:?}");
        let (number, runtime, id) = (self.number(), self.ward.runtime.clone(), self.ward.id);
        let (kept, fresh) = (snapshot(number), self.house.spec(number));
        let heir = self.house.spec(number + 1_000_000).id;
        match act {
            Act::Resume => {
                client(&runtime, id).quiesce().await.unwrap();
                runtime.pause(id).await.unwrap();
            }
            Act::Restore | Act::Forget => {
                client(&runtime, id).quiesce().await.unwrap();
                runtime.snapshot(id, kept, true).await.unwrap();
                client(&runtime, id).thaw(Default::default()).await.unwrap();
            }
            Act::Start => runtime.create(&fresh).await.unwrap(),
            Act::Destroy | Act::HandOver => {
                runtime.create(&fresh).await.unwrap();
                runtime.start(fresh.id, boot(number), None).await.unwrap();
            }
            Act::Create | Act::Keep | Act::Pause => {}
        }
        drop(runtime);
        let spec = MachineSpec { id, ..fresh.clone() };
        let (does, on) = match act {
            Act::Create => ("create".to_owned(), fresh.clone()),
            Act::Start => (format!("start {}", boot(number)), fresh.clone()),
            Act::Restore => (format!("restore {kept} {}", boot(number)), fresh.clone()),
            Act::HandOver => (format!("hand {heir}"), fresh.clone()),
            Act::Destroy => ("destroy".to_owned(), fresh.clone()),
            Act::Keep => (format!("keep {kept}"), spec),
            Act::Forget => (format!("forget {kept}"), spec),
            Act::Pause => ("pause".to_owned(), spec),
            Act::Resume => ("resume".to_owned(), spec),
        };
        // Whoever worked here lets go of everything first: one process at a time owns machines.
        let dir = self.house.dir.path().join("runtime");
        let former =
            std::mem::replace(&mut self.ward.runtime, Arc::new(self.house.open_in(&dir.join("idle"), TCG).await));
        drop(former);
        let at = dir.clone();
        let done =
            tokio::task::spawn_blocking(move || acted(&at, &does, &on, killed, Moment::At(point))).await.unwrap();
        assert!(!done || !killed.keeper(), "{told}: it was killed before it said so");

        self.ward.runtime = Arc::new(self.house.open().await);
        let runtime = self.ward.runtime.clone();
        let found = machine(&runtime, id).await;
        match (found.alive, found.paused) {
            (_, true) => {
                runtime.resume(id, None).await.unwrap();
                self.ward.goes_on().await;
            }
            (true, false) => self.ward.goes_on().await,
            (false, false) => {
                let touched = matches!(act, Act::Keep | Act::Pause | Act::Resume | Act::Forget);
                assert!(killed.monitor() && touched && !(act == Act::Pause && done), "{told}: {found:?}");
                let went_on = act != Act::Resume || done || point == PauseForgotten;
                assert!(went_on, "{told}: what was paused can go on");
                self.reborn().await;
            }
        }
        let snapshots = runtime.snapshots().await.unwrap();
        assert!(act != Act::Keep || !done || snapshots.contains(&kept), "{told}");
        assert!(act != Act::Forget || !done || !snapshots.contains(&kept), "{told}");
        // What it was about is there whole, or not at all, and goes.
        if act == Act::HandOver {
            let found = machine(&runtime, heir).await;
            assert_eq!(found.alive, !killed.monitor(), "{told}: another's from the moment that its directory is");
        }
        runtime.destroy(heir).await.unwrap();
        runtime.destroy(fresh.id).await.unwrap();
        runtime.forget(kept).await.unwrap();
        self.only_the_ward(&runtime, &[id, fresh.id, heir], &told).await;
        eprintln!("{told}: acknowledged {done}");
    }

    async fn only_the_ward(&self, runtime: &MicroVmRuntime, ids: &[InstanceId], told: &str) {
        let listed: Vec<_> = runtime.list().await.unwrap().into_iter().map(|machine| machine.id).collect();
        assert_eq!(listed, [self.ward.id], "{told}");
        let dir = self.house.dir.path().join("runtime");
        let names =
            |name: &str| fs::read_dir(dir.join(name)).unwrap().map(|it| it.unwrap().file_name()).collect::<Vec<_>>();
        assert_eq!(names("machines"), [self.ward.id.to_string().as_str()], "{told}");
        assert!(names("snapshots").is_empty(), "{told}");
        for id in ids.iter().filter(|id| **id != self.ward.id) {
            assert!(monitors(*id).is_empty() && cgroups(*id).is_empty(), "{told}: something of {id} is left");
        }
        assert_eq!(monitors(self.ward.id).len(), 1, "{told}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&*dir.to_string_lossy()), "{told}: {mounts}");
    }
}

const TCG: Option<plfm_runtime::microvm::Accel> = Some(plfm_runtime::microvm::Accel::Tcg);

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn at_every_point_somebody_may_be_killed() {
    let Some(house) = House::build("at_every_point_somebody_may_be_killed") else { return };
    let runtime = Arc::new(house.open().await);
    let spec = house.spec(400);
    runtime.create(&spec).await.unwrap();
    let mut ward = Ward::boot(runtime, spec.id, 400).await;
    ward.writes(0).await;
    let mut stage = Stage { house, ward, next: 400 };
    for (act, points) in PATHS {
        for (place, point) in points.iter().enumerate() {
            let usual = if place == 0 { Killed::Both } else { Killed::Keeper };
            let all = [Killed::Keeper, Killed::Monitor, Killed::Both];
            let ways = if env::var_os(WHOLE).is_some() { &all[..] } else { &[usual][..] };
            for killed in ways {
                stage.play(*act, *point, *killed).await;
            }
        }
    }
    stage.ward.runtime.destroy(stage.ward.id).await.unwrap();
}
