//! What instances leave behind on a host: nothing, if all is well.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::process::signal;
use super::text;

/// Where to look for traces of what was.
pub struct Left {
    pub ids: Vec<String>,
    pub dir: String,
}

impl Left {
    /// Processes, network namespaces, interfaces and control groups, one a line.
    pub fn traces(&self) -> Vec<String> {
        traces(|name| name.contains(&self.dir) || self.ids.iter().any(|id| name.contains(id)))
    }

    /// Of machines alone, whoever runs them.
    pub fn machines(&self) -> Vec<String> {
        traces(|name| self.ids.iter().any(|id| name.contains(id)))
    }
}

fn traces(is_one: impl Fn(&str) -> bool) -> Vec<String> {
    let links = Command::new("ip").args(["link", "show"]).output().map(|output| text(&output.stdout));
    let links = links.unwrap_or_default().lines().map(str::to_owned).collect();
    let all = [processes(), entries("/run/netns"), cgroups(), links];
    all.into_iter().flatten().filter(|name| is_one(name)).collect()
}

/// Of either version.
const CGROUPS: &[&str] =
    &["/sys/fs/cgroup/plfm", "/sys/fs/cgroup/memory/plfm", "/sys/fs/cgroup/pids/plfm", "/sys/fs/cgroup/cpu/plfm"];

/// A machine as its record has it.
pub struct Machine {
    pub id: String,
    /// As whom it was started, if that was another.
    pub former: Option<String>,
    pub pid: Option<u32>,
}

impl Machine {
    pub fn kill(&self) {
        let Some(pid) = self.pid else { return };
        for name in self.names() {
            if command_line(&pid.to_string()).contains(name) {
                signal("KILL", pid);
            }
            let _ = Command::new("ip").args(["netns", "del", &format!("plfm-{name}")]).output();
            CGROUPS.iter().for_each(|parent| drop(fs::remove_dir(format!("{parent}/{name}"))));
        }
    }

    pub fn names(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.id).chain(&self.former)
    }
}

/// Those below this directory.
pub fn machines(dir: &Path) -> Vec<Machine> {
    files(dir, "machine.json").iter().filter_map(|path| machine(path)).collect()
}

fn machine(path: &Path) -> Option<Machine> {
    let record: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let pid = record.pointer("/run/process/pid").and_then(Value::as_u64);
    Some(Machine {
        id: record.pointer("/spec/id")?.as_str()?.to_owned(),
        former: record.pointer("/run/former").and_then(Value::as_str).map(str::to_owned),
        pid: pid.and_then(|pid| u32::try_from(pid).ok()),
    })
}

/// Every file of this name.
pub fn files(dir: &Path, name: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let deeper = |path: PathBuf| {
        let is_dir = path.symlink_metadata().is_ok_and(|it| it.is_dir());
        if is_dir { files(&path, name) } else { vec![path] }
    };
    paths.flat_map(deeper).filter(|path| path.ends_with(name)).collect()
}

fn processes() -> Vec<String> {
    entries("/proc").iter().map(|pid| command_line(pid)).collect()
}

fn command_line(pid: &str) -> String {
    text(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).replace('\0', " ")
}

fn cgroups() -> Vec<String> {
    CGROUPS.iter().flat_map(|parent| entries(parent)).collect()
}

fn entries(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
