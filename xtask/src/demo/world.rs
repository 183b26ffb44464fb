//! Where the demo happens: one directory, free ports, `plfm` as a user types it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;
use xshell::Shell;

use super::find;
use super::process::{Process, kill, until};
use crate::setup;

pub struct World {
    pub dir: PathBuf,
    plfm: PathBuf,
    kernel: PathBuf,
    pub registry: u16,
    api: u16,
    https: u16,
}

/// What `plfm instances --json` says of one.
#[derive(Debug, Deserialize)]
pub struct Instance {
    pub id: String,
    pub phase: String,
    #[serde(default)]
    pub boot: String,
}

impl World {
    pub fn new(shell: &Shell, dir: &Path) -> Self {
        let (plfm, kernel) = (crate::target_dir(shell).join("debug/plfm"), setup::kernel_dir(shell));
        let port = || TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).map_or(0, |it| it.port());
        Self { dir: dir.to_owned(), plfm, kernel, registry: port(), api: port(), https: port() }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.plfm);
        command.current_dir(&self.dir).env("XDG_CONFIG_HOME", self.dir.join("config"));
        command
    }

    /// Answers when it says that it is ready.
    pub fn dev(&self) -> anyhow::Result<Process> {
        let log = self.dir.join("dev.log");
        let _ = fs::remove_file(&log);
        let mut command = self.command();
        command.arg("dev").arg("--data").arg(self.dir.join("data"));
        command.arg("--listen").arg(format!("127.0.0.1:{}", self.api));
        command.arg("--https").arg(format!("127.0.0.1:{}", self.https));
        command.arg("--kernel").arg(&self.kernel);
        let mut process = Process::start(command, &log)?;
        until("plfm dev is ready", || {
            let said = fs::read_to_string(&log)?;
            ensure!(!process.has_ended(), "plfm dev ended: {said}");
            Ok(said.contains("ready").then(|| print!("{said}")))
        })?;
        Ok(process)
    }

    pub fn plfm(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.command().args(args).output()?;
        let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "plfm {} failed:\n{said}{complained}", args.join(" "));
        Ok(said.into_owned())
    }

    /// Runs it and shows the first lines of what it says.
    pub fn show(&self, args: &[&str]) -> anyhow::Result<()> {
        self.plfm(args)?.lines().take(5).for_each(|line| println!("  {line}"));
        Ok(())
    }

    pub fn instance(&self) -> anyhow::Result<Instance> {
        let document: serde_json::Value = serde_json::from_str(&self.plfm(&["instances", "--json"])?)?;
        let first = document.pointer("/items/0").cloned().context("there is no instance")?;
        Ok(serde_json::from_value(first)?)
    }

    pub fn until(&self, what: &str, is: impl Fn(&Instance) -> bool) -> anyhow::Result<Instance> {
        until(what, || Ok(self.instance().ok().filter(|it| is(it))))
    }

    /// As a browser would, with the cluster's CA.
    pub fn fetch(&self, path: &str) -> anyhow::Result<String> {
        let (host, port) = ("hello.localhost", self.https);
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--max-time", "60"])
            .arg("--cacert")
            .arg(self.dir.join("data/server/ca.pem"))
            .arg("--resolve")
            .arg(format!("{host}:{port}:127.0.0.1"))
            .arg(format!("https://{host}:{port}{path}"))
            .output()?;
        ensure!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The process of a machine, as its runtime noted it.
    pub fn vmm(&self, instance: &str) -> anyhow::Result<u32> {
        let records = find(&self.dir.join("data"), "machine.json");
        let record = records.iter().find(|path| path.to_string_lossy().contains(instance));
        let record: serde_json::Value = serde_json::from_slice(&fs::read(record.context("there is no machine")?)?)?;
        let pid = record
            .pointer("/run/process/pid")
            .and_then(serde_json::Value::as_u64)
            .context("the machine has no process")?;
        Ok(u32::try_from(pid)?)
    }

    /// Processes that name this directory on their command line.
    pub fn processes(&self) -> anyhow::Result<Vec<u32>> {
        let dir = self.dir.to_string_lossy().into_owned();
        let pids = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let own = std::process::id();
        let names_it = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            *pid != own && String::from_utf8_lossy(&line).contains(&dir)
        };
        Ok(pids.filter(names_it).collect())
    }

    /// Ends what a failed step may have left.
    pub fn clean_up(&self) {
        for pid in self.processes().unwrap_or_default() {
            let _ = kill(pid);
        }
    }
}
