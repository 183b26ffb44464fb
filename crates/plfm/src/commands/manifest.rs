//! `plfm manifest check`: what a manifest asks for, without a server. Values of variables are not shown.

use std::fmt::Display;

use plfm_core::digest::Digest;
use plfm_core::manifest::{HealthCheck, Manifest, Process};
use serde::Serialize;

use crate::cli::{ManifestArgs, ManifestCommand};
use crate::context::Context;
use crate::printer::{Printer, Table};
use crate::{CliError, Exit, manifest};

#[derive(Serialize)]
struct Checked<'a> {
    path: String,
    hash: Digest,
    app: Option<&'a str>,
    image: Option<&'a str>,
    processes: Vec<Row>,
}

/// What a process type asks for, as a row shows it.
#[derive(Serialize)]
struct Row {
    process: String,
    replicas: u32,
    memory: String,
    cpu: String,
    disk: String,
    ports: Vec<String>,
    health: Option<String>,
    volumes: Vec<String>,
    vars: Vec<String>,
}

pub fn run(command: ManifestCommand, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let ManifestCommand::Check(ManifestArgs { path }) = command;
    let path = context.manifest(path.as_ref())?;
    let manifest = manifest::check(&path)?.manifest;
    let checked = Checked {
        path: manifest::shown(&path).display().to_string(),
        hash: manifest.hash(),
        app: manifest.app.name.as_deref(),
        image: manifest.image.reference.as_deref(),
        processes: manifest.processes.iter().map(|(name, process)| row(&manifest, name, process)).collect(),
    };
    if out.is_json() {
        out.document("manifest", &checked)?;
    } else {
        out.table(&table(&checked.processes))?;
        notes(&checked, out);
    }
    Ok(Exit::Success)
}

fn row(manifest: &Manifest, name: &str, process: &Process) -> Row {
    let vars = manifest.merged(name).map(|effective| effective.env.into_keys().collect()).unwrap_or_default();
    let health = process.health.as_ref().map(|health| match health.check {
        HealthCheck::Tcp => format!("tcp {}", health.port),
        HealthCheck::Http => format!("http {}{}", health.port, health.path.as_deref().unwrap_or("/")),
    });
    Row {
        process: name.to_owned(),
        replicas: process.scaling.min,
        memory: process.resources.memory.to_string(),
        cpu: process.resources.cpu.to_string(),
        disk: process.resources.disk.to_string(),
        ports: process.ports.iter().map(|port| format!("{}={}", port.name, port.internal)).collect(),
        health,
        volumes: process.mounts.iter().map(|mount| format!("{} at {}", mount.volume, mount.path)).collect(),
        vars,
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table =
        Table::new(["PROCESS", "REPLICAS", "MEMORY", "CPU", "DISK", "PORTS", "HEALTH", "VOLUMES", "VARIABLES"]);
    for it in rows {
        table.row([
            it.process.clone(),
            it.replicas.to_string(),
            it.memory.clone(),
            it.cpu.clone(),
            it.disk.clone(),
            joined(&it.ports),
            it.health.clone().unwrap_or_else(|| "-".to_owned()),
            joined(&it.volumes),
            joined(&it.vars),
        ]);
    }
    table
}

fn joined(words: &[impl Display]) -> String {
    let words: Vec<_> = words.iter().map(ToString::to_string).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

/// What a deploy will want besides.
fn notes(checked: &Checked<'_>, out: &mut Printer) {
    out.done(format_args!("{} keeps to all rules; deploy it with `plfm deploy`", checked.path));
    if checked.app.is_none() {
        out.note("it names no app: add `--app NAME` to the deploy, or a table `[app]` with `name`");
    }
    if checked.image.is_none() {
        out.note("it names no image: add `--image REF` to the deploy, or a table `[image]` with `ref`");
    }
}
