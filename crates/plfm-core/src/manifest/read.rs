//! The fields of the file outside the processes, with their defaults.

use std::collections::BTreeMap;

use toml_edit::{Document, Value};

use super::error::Lines;
use super::mounts::Mounted;
use super::process::{Surroundings, process};
use super::readers::{each, entries, flag, integer, table, text};
use super::rules::{self, Refusal, choice, length, name, whole};
use super::section::{Node, Report, Section};
use super::{App, Code, Image, Manifest, ManifestError, Process, PullPolicy, SchemaVersion, Settings, Volume};

pub(super) fn manifest(document: &Document<&str>) -> Result<Manifest, Vec<ManifestError>> {
    let report = Report::default();
    let manifest = Section::root(&report, document.as_table(), root);
    let manifest = manifest.filter(|_| report.is_empty());
    manifest.ok_or_else(|| report.into_errors(&Lines::of(document.raw())))
}

fn root(file: &mut Section) -> Option<Manifest> {
    let schema_version = file.required("schema_version", (Code::SchemaVersion, SCHEMA_VERSION), schema_version);
    let app = file.table("app", app);
    let image = file.table("image", image);
    let env = file.table("env", |section| settings(section, PRESTART_TIMEOUT_SECONDS));
    let volumes = file.or("volumes", Vec::new(), volumes);
    let timeout = env.as_ref().map_or(PRESTART_TIMEOUT_SECONDS, |env| env.prestart_timeout_seconds);
    let around = Surroundings { prestart_timeout: timeout, volumes: volumes.as_deref(), mounted: Mounted::default() };
    let processes = processes(file, around);
    Some(Manifest {
        schema_version: schema_version?,
        app: app?,
        image: image?,
        env: env?,
        processes: processes?,
        volumes: volumes?,
    })
}

const SCHEMA_VERSION: &str = "schema_version = \"v1\"";

fn schema_version(node: Node) -> Option<SchemaVersion> {
    if node.value().and_then(Value::as_str) == Some("v1") {
        return Some(SchemaVersion::V1);
    }
    let hint = format!("write `{SCHEMA_VERSION}`, or upgrade plfm if the manifest is of a later version");
    node.place.refuse(Refusal::new(Code::SchemaVersion, "this version of the manifest is not known", hint))
}

fn processes(file: &mut Section, mut around: Surroundings) -> Option<BTreeMap<String, Process>> {
    let missing = (Code::NoProcesses, "[processes.web]");
    let reader = entries(name(Code::ProcessName), table(|section| process(section, &mut around)));
    let processes = file.required("processes", missing, reader)?;
    if processes.is_empty() {
        let refusal = Refusal::new(Code::NoProcesses, "there is no process", "add a table such as `[processes.web]`");
        return file.refuse("processes", refusal);
    }
    Some(processes)
}

fn app(section: &mut Section) -> Option<App> {
    Some(App {
        name: section.optional("name", text(length(1..=64, Code::NameLength))),
        description: section.optional("description", text(length(0..=256, Code::NameLength))),
    })
}

fn image(section: &mut Section) -> Option<Image> {
    let policy =
        choice(&[("if_not_present", PullPolicy::IfNotPresent), ("always", PullPolicy::Always)], Code::PullPolicy);
    Some(Image {
        reference: section.optional("ref", text(rules::image)),
        pull_policy: section.or("pull_policy", PullPolicy::default(), text(policy))?,
    })
}

const PRESTART_TIMEOUT_SECONDS: u32 = 30;

/// What `env` and every process may set alike.
pub(super) fn settings(section: &mut Section, timeout: u32) -> Option<Settings> {
    let vars = entries(rules::var_key, text(rules::var_value));
    let seconds = integer(whole(1..=3600, Code::TimeoutRange));
    let settings = Settings {
        vars: section.optional("vars", vars).unwrap_or_default(),
        workdir: section.optional("workdir", text(rules::absolute_path)),
        user: section.optional("user", text(rules::user)),
        prestart: section.optional("prestart", argv).unwrap_or_default(),
        prestart_timeout_seconds: section.or("prestart_timeout_seconds", timeout, seconds)?,
    };
    Some(settings)
}

pub(super) fn argv(node: Node) -> Option<Vec<String>> {
    let place = node.place.clone();
    let argv = each(text(rules::any))(node)?;
    if argv.first().is_none_or(String::is_empty) {
        let hint = "name a program, for example `[\"/app/serve\", \"--port\", \"8080\"]`, or remove the key";
        return place.refuse(Refusal::new(Code::CommandEmpty, "the command names no program", hint));
    }
    Some(argv)
}

fn volumes(node: Node) -> Option<Vec<Volume>> {
    let mut names = Vec::new();
    let mut volumes = each(table(|section| volume(section, &mut names)))(node)?;
    volumes.sort_by(|one, other| one.name.cmp(&other.name));
    Some(volumes)
}

fn volume(section: &mut Section, names: &mut Vec<String>) -> Option<Volume> {
    let name = section.required("name", (Code::VolumeName, "name = \"data\""), text(name(Code::VolumeName)));
    let size = section.required("size", (Code::VolumeSize, "size = \"10Gi\""), text(rules::volume_size));
    section.optional("filesystem", text(choice(&[("ext4", ())], Code::VolumeFilesystem)));
    let backup_enabled = section.or("backup_enabled", true, flag);
    let name = name?;
    if names.contains(&name) {
        let message = format!("there is another volume `{name}`");
        return section
            .refuse("name", Refusal::new(Code::VolumeDuplicate, message, "give each volume a name of its own"));
    }
    names.push(name.clone());
    Some(Volume { name, size: size?, backup_enabled: backup_enabled? })
}
