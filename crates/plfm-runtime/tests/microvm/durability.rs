//! What was answered is kept: machines are paused, resumed, kept and gone on from, while whoever does it, or the monitor, or both, are
//! killed at any moment.
//!
//! A machine has files that were synced and a process that has a pattern in its memory. After each round all of them are looked at.
//! What is acknowledged is never lost; what is not may end, if its monitor was killed, and begins anew.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs};

use plfm_api::channel::port;
use plfm_api::envd::{self, Event, Output};
use plfm_api::rpc::Target;
use plfm_core::ids::{InstanceId, SnapshotId};
use plfm_runtime::microvm::{Accel, MicroVmRuntime};
use plfm_runtime::{Machine, MachineSpec, Runtime};

use crate::house::*;

/// Of the process that is killed: the directory, and what it does there.
const DIR: &str = "PLFM_TEST_KEEPER_DIR";
const DOES: &str = "PLFM_TEST_KEEPER_DOES";
/// `cargo xtask soak` asks for many more.
const ROUNDS: &str = "PLFM_SOAK_ROUNDS";
const ROUNDS_USUAL: usize = 12;
const SEED: &str = "PLFM_SOAK_SEED";
/// Within this an act is over, or nearly.
const ACT_MS: u64 = 600;

/// Holds a pattern of a megabyte in its memory, and says its sum whenever it is asked.
const WORK: &str = "echo up; P=$(head -c 262144 /dev/urandom | od -An -v -tx1); rm -f /run/ask /run/answer; while :; do
if [ -e /run/ask ]; then echo \"$P\" | sha256sum > /run/told; mv /run/told /run/answer; rm /run/ask; fi; sleep 0.02; done";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Pause,
    Resume,
    Keep,
}

/// Who is killed, in the middle of the act or just after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Killed {
    Nobody,
    Keeper,
    Monitor,
    Both,
}

impl Killed {
    const ALL: [Self; 4] = [Self::Nobody, Self::Keeper, Self::Monitor, Self::Both];

    fn keeper(self) -> bool {
        matches!(self, Self::Keeper | Self::Both)
    }

    fn monitor(self) -> bool {
        matches!(self, Self::Monitor | Self::Both)
    }
}

/// Not a test: what the next one starts and kills, as a process of its own.
#[tokio::test]
async fn a_keeper() {
    let (Some(dir), Ok(does), Some(house)) = (env::var_os(DIR), env::var(DOES), House::build("a_keeper")) else {
        return;
    };
    let dir = Path::new(&dir);
    let words: Vec<_> = does.split(' ').collect();
    let id: InstanceId = words[1].parse().unwrap();
    let runtime = Arc::new(house.open_in(dir, Some(Accel::Tcg)).await);
    fs::write(dir.join("acts"), "").unwrap();
    match words[0] {
        "pause" => {
            client(&runtime, id).quiesce().await.unwrap();
            runtime.pause(id).await.unwrap();
        }
        "resume" => runtime.resume(id, None).await.unwrap(),
        _ => {
            client(&runtime, id).quiesce().await.unwrap();
            runtime.snapshot(id, words[2].parse().unwrap(), true).await.unwrap();
        }
    }
    fs::write(dir.join("acknowledged"), "").unwrap();
}

/// Does it in a process of its own; whether that has said that it is done.
fn acted(dir: &Path, does: &str, killed: Killed, after: Duration, id: InstanceId) -> bool {
    for mark in ["acts", "acknowledged"] {
        drop(fs::remove_file(dir.join(mark)));
    }
    let mut keeper = Command::new(env::current_exe().unwrap());
    keeper.args(["--exact", "durability::a_keeper"]).env(DIR, dir).env(DOES, does).stdout(std::process::Stdio::null());
    let mut keeper = keeper.spawn().unwrap();
    while !dir.join("acts").exists() {
        assert_eq!(keeper.try_wait().unwrap(), None, "it begins");
        std::thread::yield_now();
    }
    let begun = Instant::now();
    while killed != Killed::Nobody && begun.elapsed() < after && keeper.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    if killed.keeper() {
        keeper.kill().unwrap();
    }
    if killed.monitor() {
        monitors(id).into_iter().for_each(|pid| drop(Command::new("kill").args(["-KILL", &pid.to_string()]).output()));
    }
    keeper.wait().unwrap();
    dir.join("acknowledged").exists()
}

/// The machine, and what is known to be in it.
struct Ward {
    runtime: Arc<MicroVmRuntime>,
    id: InstanceId,
    pattern: String,
    files: BTreeMap<String, String>,
}

impl Ward {
    async fn boot(runtime: Arc<MicroVmRuntime>, id: InstanceId, number: u128) -> Self {
        runtime.start(id, boot(number), None).await.unwrap();
        asked(&runtime, id).await;
        client(&runtime, id).configure(configuration(id, WORK)).await.unwrap();
        said(&client(&runtime, id), |lines| lines.iter().any(|line| line == "up")).await;
        let mut ward = Self { runtime, id, pattern: String::new(), files: BTreeMap::new() };
        ward.pattern = ward.asked().await;
        ward
    }

    async fn run(&self, line: &str) -> String {
        let (runtime, id) = (self.runtime.clone(), self.id);
        let target = Target::new(move || {
            let runtime = runtime.clone();
            async move { runtime.connect(id, port::ENVD).await.map_err(std::io::Error::other) }
        });
        let command = envd::Command::new(["/bin/busybox", "sh", "-c", line]);
        let mut session = envd::Client::new(target).start(command).await.unwrap();
        let mut said = Vec::new();
        while let Some(event) = session.next().await.unwrap() {
            match event {
                Event::Data(data) => {
                    if let Some(Output::Stdout(bytes) | Output::Stderr(bytes)) = data.output {
                        said.extend(bytes);
                    }
                }
                Event::End(end) => assert_eq!(end.exit_code, 0, "{line}: {}", String::from_utf8_lossy(&said)),
                _ => {}
            }
        }
        String::from_utf8(said).unwrap().trim().to_owned()
    }

    async fn writes(&mut self, round: usize) {
        let path = format!("/file-{}", round % 16);
        let line = format!("head -c 65536 /dev/urandom > {path} && sync {path} && sha256sum < {path}");
        self.files.insert(path, self.run(&line).await);
    }

    async fn has_all(&self) {
        for (path, sum) in &self.files {
            assert_eq!(self.run(&format!("sha256sum < {path}")).await, *sum, "{path}");
        }
        assert_eq!(self.asked().await, self.pattern, "its memory");
    }

    /// It may begin only now, and remove the question.
    async fn asked(&self) -> String {
        let ask = "rm -f /run/answer; until [ -e /run/answer ]; do touch /run/ask; sleep 0.05; done; cat /run/answer";
        self.run(ask).await
    }

    async fn goes_on(&self) {
        asked(&self.runtime, self.id).await;
        client(&self.runtime, self.id).thaw(Default::default()).await.unwrap();
        self.has_all().await;
    }
}

async fn machine(runtime: &MicroVmRuntime, id: InstanceId) -> Machine {
    runtime.list().await.unwrap().into_iter().find(|machine| machine.id == id).expect("no machine is lost")
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
            Act::Pause => format!("pause {id}"),
            Act::Resume => format!("resume {id}"),
            Act::Keep => format!("keep {id} {kept}"),
        };
        // What the runtime here still has to let go of it lets go meanwhile.
        let at = dir.clone();
        let done = tokio::task::spawn_blocking(move || acted(&at, &does, killed, after, id)).await.unwrap();
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
                assert!(may_end && (act != Act::Resume || done), "{told}: {found:?}");
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
