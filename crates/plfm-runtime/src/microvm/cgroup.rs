//! A bound on what a monitor's process may take, where the host lets us set one.
//!
//! Memory is the guest's plus the overhead that the scheduler counts too. Hosts with neither cgroup version usable run without;
//! `plfm doctor` says so.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plfm_core::units::Mebibytes;

/// QEMU has a thread per processor and a few for disks; a process bomb is thousands.
const TASKS_MAX: &str = "1024";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    V2,
    V1,
    None,
}

pub struct Cgroup {
    dirs: Vec<PathBuf>,
}

impl Cgroup {
    /// Made new with its limits; a host without support gives an empty one.
    pub fn create(name: &str, memory: Mebibytes) -> io::Result<Self> {
        let group = Self::named(name);
        for dir in &group.dirs {
            fs::create_dir_all(dir)?;
        }
        let bytes = memory.bytes().to_string();
        group.set("memory.limit_in_bytes", &bytes)?;
        group.set("memory.max", &bytes)?;
        group.set("memory.swap.max", "0")?;
        group.set("memory.oom.group", "1")?;
        group.set("pids.max", TASKS_MAX)?;
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
            let hierarchies = ["memory", "pids"].map(|name| Path::new(ROOT).join(name));
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
        let _ = fs::write(group.join("cgroup.subtree_control"), "+memory +pids");
    }
    parent
}
