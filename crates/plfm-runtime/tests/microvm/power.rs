//! The power goes: what was not synced is lost, everything that ran has ended, and what was acknowledged is there.
//!
//! The runtime has a file system of its own, which is shut down without a flush at the moment in question, as if its disk had lost its
//! host: what the kernel has not written by then it never writes. What is mounted afterwards is what a host finds when it comes up.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use plfm_core::ids::SnapshotId;
use plfm_runtime::points::Point::{self, *};
use plfm_runtime::{Machine, MachineSpec, Runtime};

use crate::house::*;
use crate::points::WHOLE;
use crate::ward::*;

/// A machine's memory three times, its disk, and room.
const DISK_SIZE: &str = "2G";
/// No act takes so long: it has been acknowledged.
const LONG: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Pause,
    Resume,
    Keep,
}

/// When the power goes: at points of each act, the last one always, and when it is acknowledged.
const PATHS: &[(Act, &[Point])] = &[
    (Act::Pause, &[Saved, DiskKept, PictureNamed, Ended]),
    (Act::Resume, &[MemoryLinked, StartNoted, ProcessStarted, ProcessNoted, Runs, PauseForgotten, Answered]),
    (Act::Keep, &[Saved, DiskKept, WentOn, PictureNamed]),
];

/// An ext4 in a file.
struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    fn make(image: PathBuf, at: PathBuf) -> Result<Self, String> {
        fs::create_dir_all(&at).map_err(|error| error.to_string())?;
        ran(Command::new("mke2fs").args(["-q", "-t", "ext4"]).arg(&image).arg(DISK_SIZE))?;
        let disk = Self { image, at };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Result<(), String> {
        ran(Command::new("mount").args(["-o", "loop"]).args([&self.image, &self.at]))
    }

    /// From now on nothing is written to it.
    fn cut(&self) {
        static GOING_FLAGS_NOLOGFLUSH: u32 = 2;
        nix::ioctl_write_ptr_bad!(shut_down, nix::request_code_read!(b'X', 125, size_of::<u32>()), u32);
        let root = File::open(&self.at).unwrap();
        // SAFETY: it reads one number (ext4(5), `EXT4_IOC_SHUTDOWN`).
        unsafe { shut_down(root.as_raw_fd(), &raw const GOING_FLAGS_NOLOGFLUSH) }.unwrap();
    }

    /// As a host finds it that comes up.
    fn come_back(&self) {
        while ran(Command::new("umount").arg(&self.at)).is_err() {
            std::thread::yield_now();
        }
        self.mount().unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(ran(Command::new("umount").arg("--lazy").arg(&self.at)));
    }
}

fn ran(command: &mut Command) -> Result<(), String> {
    let done = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    if done.status.success() { Ok(()) } else { Err(format!("{command:?}: {}", said.trim())) }
}

struct Stage {
    ward: Ward,
    next: u128,
    disk: Disk,
    house: House,
}

impl Stage {
    fn runtime_dir(&self) -> PathBuf {
        self.house.dir.path().join("runtime")
    }

    async fn boot(house: &House, number: u128) -> Ward {
        let (runtime, spec) = (Arc::new(house.open().await), house.spec(number));
        runtime.create(&spec).await.unwrap();
        let mut ward = Ward::boot(runtime, spec.id, number).await;
        ward.writes(0).await;
        ward
    }

    async fn play(&mut self, act: Act, at: Option<Point>) {
        self.next += 1;
        let (number, runtime, id) = (self.next, self.ward.runtime.clone(), self.ward.id);
        let told = format!("{act:?}, power cut at {at:?}");
        let (kept, spec) = (snapshot(number), MachineSpec { id, ..self.house.spec(number) });
        let does = match act {
            Act::Pause => "pause".to_owned(),
            Act::Keep => format!("keep {kept}"),
            Act::Resume => {
                client(&runtime, id).quiesce().await.unwrap();
                runtime.pause(id).await.unwrap();
                "resume".to_owned()
            }
        };
        drop(runtime);
        let dir = self.runtime_dir();
        let elsewhere = self.house.dir.path().join("idle");
        let idle = Arc::new(self.house.open_in(&elsewhere, Some(plfm_runtime::microvm::Accel::Tcg)).await);
        drop(std::mem::replace(&mut self.ward.runtime, idle));

        let done = tokio::task::block_in_place(|| {
            let moment = at.map_or(Moment::After(LONG), Moment::At);
            let done = acted_until(&dir, &does, &spec, Killed::Both, moment, || self.disk.cut());
            self.disk.come_back();
            done
        });
        assert_eq!(done, at.is_none(), "{told}");
        self.look(act, done, at, kept, &told).await;
        eprintln!("{told}: acknowledged {done}");
    }

    /// What is there goes on with everything; what is not was not acknowledged.
    async fn look(&mut self, act: Act, done: bool, at: Option<Point>, kept: SnapshotId, told: &str) {
        let (id, runtime) = (self.ward.id, Arc::new(self.house.open().await));
        self.ward.runtime = runtime.clone();
        let found = runtime.list().await.unwrap().into_iter().find(|machine| machine.id == id);
        let is_paused = found.as_ref().is_some_and(|it| it.paused);
        assert!(found.is_none_or(|it: Machine| !it.alive), "{told}");
        let has_to_be = match act {
            Act::Pause => done,
            Act::Resume => !done && at != Some(PauseForgotten),
            Act::Keep => false,
        };
        assert!(is_paused || !has_to_be, "{told}: what was paused is lost");
        assert!(!is_paused || act == Act::Pause || !done, "{told}: what has gone on is taken for what it was before");
        let snapshots = runtime.snapshots().await.unwrap();
        assert!(act != Act::Keep || !done || snapshots.contains(&kept), "{told}: what was kept is lost");

        if is_paused {
            runtime.resume(id, None).await.unwrap();
            self.ward.goes_on().await;
        }
        for snapshot in snapshots {
            self.next += 1;
            let spec = self.house.spec(self.next);
            runtime.restore(&spec, snapshot, boot(self.next), None).await.unwrap();
            let Ward { runtime, pattern, files, .. } = &self.ward;
            let restored =
                Ward { runtime: runtime.clone(), id: spec.id, pattern: pattern.clone(), files: files.clone() };
            restored.goes_on().await;
            runtime.destroy(spec.id).await.unwrap();
            runtime.forget(snapshot).await.unwrap();
        }
        if !is_paused {
            runtime.destroy(id).await.unwrap();
            self.next += 1;
            drop(runtime);
            self.ward = Self::boot(&self.house, self.next).await;
        }
    }
}

fn disk_of(house: &House) -> Result<Disk, String> {
    Disk::make(house.dir.path().join("disk"), house.dir.path().join("runtime"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_was_answered_survives_the_loss_of_power() {
    const TEST: &str = "what_was_answered_survives_the_loss_of_power";
    let Some(house) = House::build(TEST) else { return };
    let disk = match disk_of(&house) {
        Ok(disk) => disk,
        Err(why) => return eprintln!("skipped: {TEST}: no file system of its own: {why}"),
    };
    let ward = Stage::boot(&house, 600).await;
    let mut stage = Stage { ward, next: 600, disk, house };
    for (act, points) in PATHS {
        let few = if env::var_os(WHOLE).is_some() { points } else { &points[points.len() - 1..] };
        for at in few.iter().copied().map(Some).chain([None]) {
            stage.play(*act, at).await;
        }
    }
    stage.ward.runtime.destroy(stage.ward.id).await.unwrap();
    let left = |dir: &Path| fs::read_dir(stage.runtime_dir().join(dir)).unwrap().count();
    assert_eq!((left(Path::new("machines")), left(Path::new("snapshots"))), (0, 0));
}
