//! A bound on what a monitor's process may take, where the host lets us set one.
//!
//! Memory is the guest's plus the overhead that the scheduler counts too. Hosts with neither cgroup version usable run without;
//! `plfm doctor` says so.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plfm_core::units::{Mebibytes, MilliCpu};

/// QEMU has a thread per processor and a few for disks; a process bomb is thousands.
const TASKS_MAX: &str = "1024";
const CPU_PERIOD_US: u64 = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    V2,
    V1,
    None,
}

/// What a monitor's process may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    memory: Mebibytes,
    cpu: MilliCpu,
}

impl Limits {
    pub fn new(memory: Mebibytes, cpu: MilliCpu) -> Self {
        Self { memory, cpu }
    }

    /// P-ISO-3; cgroups(7): each version has its own names for the same, and scales of its own.
    fn files(self) -> Vec<(&'static str, String)> {
        let memory = self.memory.bytes().to_string();
        let weight = self.cpu.0.div_ceil(10).clamp(1, 10_000);
        // The guest's processors, and one for all that the monitor does besides.
        let quota_us = u64::from(self.cpu.0.div_ceil(1000) + 1) * CPU_PERIOD_US;
        vec![
            ("memory.limit_in_bytes", memory.clone()),
            ("memory.max", memory),
            ("memory.swap.max", "0".to_owned()),
            ("memory.oom.group", "1".to_owned()),
            ("pids.max", TASKS_MAX.to_owned()),
            ("cpu.shares", (u64::from(weight) * 1024 / 100).to_string()),
            ("cpu.cfs_period_us", CPU_PERIOD_US.to_string()),
            ("cpu.cfs_quota_us", quota_us.to_string()),
            ("cpu.weight", weight.to_string()),
            ("cpu.max", format!("{quota_us} {CPU_PERIOD_US}")),
        ]
    }
}

pub struct Cgroup {
    dirs: Vec<PathBuf>,
}

impl Cgroup {
    /// Made new with its limits; a host without support gives an empty one.
    pub fn create(name: &str, limits: Limits) -> io::Result<Self> {
        let group = Self::named(name);
        for dir in &group.dirs {
            fs::create_dir_all(dir)?;
        }
        limits.files().iter().try_for_each(|(file, value)| group.set(file, value))?;
        Ok(group)
    }

    pub fn none() -> Self {
        Self { dirs: Vec::new() }
    }

    pub fn named(name: &str) -> Self {
        Self { dirs: parents().into_iter().map(|parent| parent.join(name)).collect() }
    }

    /// A process that writes `0` to them becomes a member.
    pub fn doors(&self) -> io::Result<Vec<File>> {
        self.dirs.iter().map(|dir| File::options().write(true).open(dir.join("cgroup.procs"))).collect()
    }

    /// A process that has just ended may count as a member for a moment longer.
    pub async fn remove(&self) -> io::Result<()> {
        for dir in &self.dirs {
            for attempt in 1.. {
                match fs::remove_dir(dir) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy && attempt < 50 => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// Each version has its own names, so a file that is not there is no fault.
    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        let found = self.dirs.iter().map(|dir| dir.join(file)).find(|path| path.exists());
        found.map_or(Ok(()), |path| fs::write(path, value))
    }
}

const ROOT: &str = "/sys/fs/cgroup";

pub fn support() -> Support {
    let v2 = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers")).unwrap_or_default();
    let v1 = Path::new(ROOT).join("memory/memory.limit_in_bytes");
    match () {
        () if !rustix::process::geteuid().is_root() => Support::None,
        () if v2.split_whitespace().any(|controller| controller == "memory") => Support::V2,
        () if v1.exists() => Support::V1,
        () => Support::None,
    }
}

fn parents() -> Vec<PathBuf> {
    match support() {
        Support::V2 => vec![v2_parent()],
        Support::V1 => {
            let hierarchies = ["memory", "pids", "cpu"].map(|name| Path::new(ROOT).join(name));
            hierarchies.into_iter().filter(|root| root.exists()).map(|root| root.join("plfm")).collect()
        }
        Support::None => Vec::new(),
    }
}

fn v2_parent() -> PathBuf {
    let parent = Path::new(ROOT).join("plfm");
    // Where this is refused the limits are files that do not exist, and the group still serves to name its members.
    let _ = fs::create_dir_all(&parent);
    for group in [Path::new(ROOT), &parent] {
        let _ = fs::write(group.join("cgroup.subtree_control"), "+memory +pids +cpu");
    }
    parent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_said_in_the_words_of_both_versions() {
        let said = |cpu| {
            let files = Limits::new(Mebibytes(64), MilliCpu(cpu)).files();
            let value = |name| files.iter().find(|(file, _)| *file == name).unwrap().1.clone();
            ["cpu.weight", "cpu.shares", "cpu.max", "cpu.cfs_quota_us"].map(value)
        };
        assert_eq!(said(1000), ["100", "1024", "200000 100000", "200000"]);
        assert_eq!(said(500), ["50", "512", "200000 100000", "200000"]);
        assert_eq!(said(1), ["1", "10", "200000 100000", "200000"]);
        assert_eq!(said(32_000), ["3200", "32768", "3300000 100000", "3300000"]);
    }
}
