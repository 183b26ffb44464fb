//! A machine with something to lose, and a process that does things to it and is killed meanwhile.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs};

use plfm_api::channel::port;
use plfm_api::envd::{self, Event, Output};
use plfm_api::rpc::Target;
use plfm_core::ids::InstanceId;
use plfm_runtime::microvm::{Accel, MicroVmRuntime};
use plfm_runtime::points::{Point, STOP_AT};
use plfm_runtime::{Machine, MachineSpec, Runtime};

use crate::house::*;

/// Of the process that is killed: the directory, what it does there, and of what a new machine is made.
const DIR: &str = "PLFM_TEST_KEEPER_DIR";
const DOES: &str = "PLFM_TEST_KEEPER_DOES";
const SPEC: &str = "PLFM_TEST_KEEPER_SPEC";
/// Holds a pattern of a megabyte in its memory, and says its sum whenever it is asked.
const WORK: &str = "echo up; P=$(head -c 262144 /dev/urandom | od -An -v -tx1); rm -f /run/ask /run/answer; while :; do
if [ -e /run/ask ]; then echo \"$P\" | sha256sum > /run/told; mv /run/told /run/answer; rm /run/ask; fi; sleep 0.02; done";

/// Who is killed, in the middle of the act or just after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Killed {
    Nobody,
    Keeper,
    Monitor,
    Both,
}

impl Killed {
    pub const ALL: [Self; 4] = [Self::Nobody, Self::Keeper, Self::Monitor, Self::Both];

    pub fn keeper(self) -> bool {
        matches!(self, Self::Keeper | Self::Both)
    }

    pub fn monitor(self) -> bool {
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
    let spec: MachineSpec = serde_json::from_str(&env::var(SPEC).unwrap()).unwrap();
    let id = spec.id;
    let runtime = Arc::new(house.open_in(dir, Some(Accel::Tcg)).await);
    fs::write(dir.with_extension("acts"), "").unwrap();
    match words[0] {
        "pause" => {
            client(&runtime, id).quiesce().await.unwrap();
            runtime.pause(id).await.unwrap();
        }
        "resume" => runtime.resume(id, None).await.unwrap(),
        "keep" => {
            client(&runtime, id).quiesce().await.unwrap();
            runtime.snapshot(id, words[1].parse().unwrap(), true).await.unwrap();
        }
        "create" => runtime.create(&spec).await.unwrap(),
        "start" => runtime.start(id, words[1].parse().unwrap(), None).await.unwrap(),
        "restore" => runtime.restore(&spec, words[1].parse().unwrap(), words[2].parse().unwrap(), None).await.unwrap(),
        "hand" => runtime.hand_over(id, words[1].parse().unwrap()).await.unwrap(),
        "destroy" => runtime.destroy(id).await.unwrap(),
        "forget" => runtime.forget(words[1].parse().unwrap()).await.unwrap(),
        other => panic!("{other}"),
    }
    fs::write(dir.with_extension("acknowledged"), "").unwrap();
}

/// When somebody is killed.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    After(Duration),
    At(Point),
}

/// Does it in a process of its own; whether that has said that it is done.
pub fn acted(dir: &Path, does: &str, spec: &MachineSpec, killed: Killed, moment: Moment) -> bool {
    acted_until(dir, does, spec, killed, moment, || {})
}

/// Something else happens just before.
pub fn acted_until(
    dir: &Path,
    does: &str,
    spec: &MachineSpec,
    killed: Killed,
    moment: Moment,
    happens: impl FnOnce(),
) -> bool {
    for mark in ["acts", "acknowledged"] {
        drop(fs::remove_file(dir.with_extension(mark)));
    }
    let mut keeper = Command::new(env::current_exe().unwrap());
    keeper.args(["--exact", "ward::a_keeper"]).env(DIR, dir).env(DOES, does).stdout(Stdio::null());
    keeper.env(SPEC, serde_json::to_string(spec).unwrap());
    if let Moment::At(point) = moment {
        keeper.env(STOP_AT, format!("{point:?}"));
    }
    let mut keeper = keeper.spawn().unwrap();
    match moment {
        Moment::After(after) => lasts(&mut keeper, dir, killed, after),
        Moment::At(point) => assert!(stops(&mut keeper), "{does} does not pass {point:?}"),
    }
    happens();
    if killed.monitor() {
        let monitors = monitors(spec.id);
        monitors.into_iter().for_each(|pid| drop(Command::new("kill").args(["-KILL", &pid.to_string()]).output()));
    }
    if killed.keeper() {
        keeper.kill().unwrap();
    } else if let Moment::At(_) = moment {
        assert!(Command::new("kill").args(["-CONT", &keeper.id().to_string()]).status().unwrap().success());
    }
    keeper.wait().unwrap();
    dir.with_extension("acknowledged").exists()
}

fn lasts(keeper: &mut Child, dir: &Path, killed: Killed, after: Duration) {
    while !dir.with_extension("acts").exists() {
        assert_eq!(keeper.try_wait().unwrap(), None, "it begins");
        std::thread::yield_now();
    }
    let begun = Instant::now();
    while killed != Killed::Nobody && begun.elapsed() < after && keeper.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
}

/// Until it has stopped itself, or ended without.
fn stops(keeper: &mut Child) -> bool {
    let stat = format!("/proc/{}/stat", keeper.id());
    while keeper.try_wait().unwrap().is_none() {
        let stat = fs::read_to_string(&stat).unwrap_or_default();
        if stat.rsplit_once(')').is_some_and(|(_, fields)| fields.trim_start().starts_with('T')) {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

/// The machine, and what is known to be in it.
pub struct Ward {
    pub runtime: Arc<MicroVmRuntime>,
    pub id: InstanceId,
    pub pattern: String,
    pub files: BTreeMap<String, String>,
}

impl Ward {
    pub async fn boot(runtime: Arc<MicroVmRuntime>, id: InstanceId, number: u128) -> Self {
        runtime.start(id, boot(number), None).await.unwrap();
        asked(&runtime, id).await;
        client(&runtime, id).configure(configuration(id, WORK)).await.unwrap();
        said(&client(&runtime, id), |lines| lines.iter().any(|line| line == "up")).await;
        let mut ward = Self { runtime, id, pattern: String::new(), files: BTreeMap::new() };
        ward.pattern = ward.asked().await;
        ward
    }

    pub async fn run(&self, line: &str) -> String {
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

    pub async fn writes(&mut self, round: usize) {
        let path = format!("/file-{}", round % 16);
        let line = format!("head -c 65536 /dev/urandom > {path} && sync {path} && sha256sum < {path}");
        self.files.insert(path, self.run(&line).await);
    }

    pub async fn has_all(&self) {
        for (path, sum) in &self.files {
            assert_eq!(self.run(&format!("sha256sum < {path}")).await, *sum, "{path}");
        }
        assert_eq!(self.asked().await, self.pattern, "its memory");
    }

    /// It may begin only now, and remove the question.
    pub async fn asked(&self) -> String {
        let ask = "rm -f /run/answer; until [ -e /run/answer ]; do touch /run/ask; sleep 0.05; done; cat /run/answer";
        self.run(ask).await
    }

    pub async fn goes_on(&self) {
        asked(&self.runtime, self.id).await;
        client(&self.runtime, self.id).thaw(Default::default()).await.unwrap();
        self.has_all().await;
    }
}

pub async fn machine(runtime: &MicroVmRuntime, id: InstanceId) -> Machine {
    runtime.list().await.unwrap().into_iter().find(|machine| machine.id == id).expect("no machine is lost")
}
