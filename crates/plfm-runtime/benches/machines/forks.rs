//! `fork.N.wall`: a running machine into N more, from the call to the answer of the last; `fork.N.private`: what of the guest's memory each of
//! them has for itself then, `fork.N.process`: what its monitor has of its own in all, beside pages of files. `fork.second.private`: of a fork of a fork.

use std::fs;
use std::time::Instant;

use futures::future::join_all;
use plfm_core::ids::{BootId, InstanceId, SnapshotId};
use plfm_core::units::Mebibytes;
use plfm_runtime::Runtime;
use ulid::Ulid;

use super::{House, milliseconds, row};

const MEMORY: Mebibytes = Mebibytes(128);
/// Forks of one call, and how often that is done.
const SHAPES: [(u128, u128); 3] = [(1, 10), (10, 5), (50, 1)];

pub async fn measure(house: &House) {
    let first = house.booted(1, MEMORY).await.id;
    let mut calls = 0;
    for (forks, rounds) in SHAPES {
        let (mut wall, mut private, mut process) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            calls += 1;
            let begun = Instant::now();
            let children = fork(house, first, calls, forks).await;
            wall.push(milliseconds(begun));
            private.extend(children.iter().map(|id| private_mib(*id)));
            process.extend(children.iter().map(|id| process_mib(*id)));
            end(house, &children).await;
        }
        row(&format!("fork.{forks}.wall"), "ms", &wall);
        row(&format!("fork.{forks}.private"), "MiB", &private);
        row(&format!("fork.{forks}.process"), "MiB", &process);
    }
    let children = fork(house, first, 1_000, 1).await;
    let second = fork(house, children[0], 1_001, 10).await;
    row("fork.second.private", "MiB", &second.iter().map(|id| private_mib(*id)).collect::<Vec<_>>());
    end(house, &second).await;
    end(house, &children).await;
    house.runtime.destroy(first).await.unwrap();
}

/// One snapshot, and all of them at once.
async fn fork(house: &House, of: InstanceId, call: u128, forks: u128) -> Vec<InstanceId> {
    let snapshot = SnapshotId::new(Ulid(call));
    house.runtime.snapshot(of, snapshot, false).await.unwrap();
    let children = (0..forks).map(|number| async move {
        let number = call * 1_000 + number;
        let spec = house.spec(number, MEMORY);
        house.runtime.restore(&spec, snapshot, BootId::new(Ulid(number)), None).await.unwrap();
        spec.id
    });
    let children = join_all(children).await;
    house.runtime.forget(snapshot).await.unwrap();
    children
}

async fn end(house: &House, machines: &[InstanceId]) {
    for id in machines {
        house.runtime.destroy(*id).await.unwrap();
    }
}

/// Pages of the map of its memory file that are its own.
fn private_mib(id: InstanceId) -> f64 {
    let maps = of_monitor(id, "smaps");
    let of_memory = maps.lines().skip_while(|line| !line.contains("/memory"));
    mebibytes(of_memory.skip(1), "Anonymous:")
}

fn process_mib(id: InstanceId) -> f64 {
    let maps = of_monitor(id, "smaps_rollup");
    mebibytes(maps.lines(), "Anonymous:")
}

pub fn mebibytes<'a>(mut lines: impl Iterator<Item = &'a str>, name: &str) -> f64 {
    let field = lines.find_map(|line| line.strip_prefix(name)).expect("the kernel says so of every map");
    let kib: f64 = field.trim().trim_end_matches(" kB").parse().unwrap();
    kib / 1024.0
}

fn of_monitor(id: InstanceId, file: &str) -> String {
    fs::read_to_string(format!("/proc/{}/{file}", monitor(id))).unwrap()
}

/// The process.
pub fn monitor(id: InstanceId) -> u32 {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_its = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&format!("plfm-{id}"))
    };
    pids.into_iter().find(is_its).expect("its monitor runs")
}
