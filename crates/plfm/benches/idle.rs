//! `idle.rss`: the memory of `plfm dev` without an instance, a while after it says that it is ready; `idle.pss` counts what it shares
//! with others in parts.

use std::env;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
/// What it does once at its start is over by then.
const SETTLE: Duration = Duration::from_secs(5);
const READY_WAIT: Duration = Duration::from_secs(120);
const AGAIN: Duration = Duration::from_millis(50);

fn main() {
    let mut samples = Vec::new();
    for _ in 0..ROUNDS {
        match measure() {
            Ok(sample) => samples.push(sample),
            Err(reason) => return eprintln!("skipped: idle: {reason}"),
        }
    }
    let (rss, pss): (Vec<f64>, Vec<f64>) = samples.into_iter().unzip();
    for (name, samples) in [("idle.rss", rss), ("idle.pss", pss)] {
        println!("{}", serde_json::json!({ "name": name, "unit": "MiB", "better": "lower", "samples": samples }));
    }
}

/// RSS and PSS of one run.
fn measure() -> Result<(f64, f64), String> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let log = dir.path().join("log");
    let mut dev = start(dir.path(), &log);
    let memory = until_ready(&mut dev, &log).map(|()| {
        thread::sleep(SETTLE);
        (field(dev.id(), "status", "VmRSS:"), field(dev.id(), "smaps_rollup", "Pss:"))
    });
    drop(Command::new("kill").args(["-INT", &dev.id().to_string()]).status());
    dev.wait().unwrap();
    memory
}

fn start(dir: &Path, log: &Path) -> Child {
    let log = File::create(log).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_plfm"));
    command.arg("dev").arg("--data").arg(dir.join("data")).args(["--listen", "127.0.0.1:0", "--https", "127.0.0.1:0"]);
    command.env("XDG_CONFIG_HOME", dir.join("config"));
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

fn until_ready(dev: &mut Child, log: &Path) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let said = fs::read_to_string(log).unwrap();
        if said.contains("ready;") {
            return Ok(());
        }
        if dev.try_wait().unwrap().is_some() || begun.elapsed() > READY_WAIT {
            return Err(format!("`plfm dev` is not ready: {said}"));
        }
        thread::sleep(AGAIN);
    }
}

/// In MiB.
fn field(pid: u32, file: &str, name: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    value.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
