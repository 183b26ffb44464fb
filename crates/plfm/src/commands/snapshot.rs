//! `plfm snapshot`: what sandboxes were at a moment, for others to go on from.

use plfm_api::views::{SnapshotRequest, SnapshotView, sandbox_name};

use crate::cli::{SnapshotCommand, SnapshotCreateArgs, SnapshotName};
use crate::context::Context;
use crate::printer::{Printer, Table};
use crate::{CliError, Exit};

pub async fn run(command: SnapshotCommand, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    match command {
        SnapshotCommand::Create(args) => create(args, context, out).await,
        SnapshotCommand::Ls => list(context, out).await,
        SnapshotCommand::Rm(args) => remove(args, context, out).await,
    }
}

async fn create(args: SnapshotCreateArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let (sandbox, request) = (sandbox_name(args.sandbox.sandbox), SnapshotRequest { name: args.name });
    let mut live = out.live();
    live.show(out, &[format!("writing what {sandbox} is to disk")]);
    let taken = context.client()?.snapshot_sandbox(&context.org(), &sandbox, &request).await;
    live.end();
    let snapshot = taken?;
    if out.is_json() {
        out.document("snapshot", &snapshot)?;
        return Ok(Exit::Success);
    }
    out.line(&snapshot.name)?;
    out.note(format_args!("it is on {}; go on from it with `plfm sandbox create {}`", snapshot.node, snapshot.name));
    Ok(Exit::Success)
}

async fn list(context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let snapshots = context.client()?.snapshots(&context.org()).await?;
    if out.is_json() {
        out.document("snapshots", &snapshots)?;
        return Ok(Exit::Success);
    }
    if snapshots.items.is_empty() {
        out.note("there is no snapshot; take one with `plfm snapshot create SANDBOX`");
        return Ok(Exit::Success);
    }
    let mut table = Table::new(["SNAPSHOT", "STATE", "OF", "TEMPLATE", "NODE", "MEMORY", "DISK", "FORKS", "SINCE"]);
    snapshots.items.iter().for_each(|it| table.row(row(it)));
    out.table(&table)?;
    for it in &snapshots.items {
        if let Some(failure) = &it.failure {
            out.note(format_args!("{}: {failure}", it.name));
        }
    }
    Ok(Exit::Success)
}

fn row(it: &SnapshotView) -> [String; 9] {
    let SnapshotView { name, of, template, state, node, memory, disk, forks, created_at, .. } = it;
    let (name, of, template, node) = (name.clone(), of.clone(), template.clone(), node.clone());
    let (state, memory, disk) = (state.code().to_owned(), memory.to_string(), disk.to_string());
    [name, state, of, template, node, memory, disk, forks.to_string(), created_at.to_string()]
}

async fn remove(args: SnapshotName, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    context.client()?.release_snapshot(&context.org(), &args.snapshot).await?;
    if out.is_json() {
        out.document("snapshot", &serde_json::json!({ "name": args.snapshot, "state": "gone" }))?;
        return Ok(Exit::Success);
    }
    out.done(format_args!("{} is removed; sandboxes that went on from it go on", args.snapshot));
    Ok(Exit::Success)
}
