//! `plfm sandbox`: machines for a while, and the way in for E2B's SDKs.

use std::time::Duration;

use plfm_api::views::{ForkRequest, ForksView, SandboxRequest, SandboxView, sandbox_name};
use plfm_core::event::OnTimeout;

use super::exec;
use crate::cli::{CreateArgs, SandboxCommand, SandboxForkArgs, SandboxName, SandboxResumeArgs, SandboxTimeoutArgs};
use crate::context::Context;
use crate::printer::{Printer, Table};
use crate::{CliError, Exit};

mod env;

pub async fn run(command: SandboxCommand, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    match command {
        SandboxCommand::Create(args) => create(args, context, out).await,
        SandboxCommand::Ls => list(context, out).await,
        SandboxCommand::Exec(args) => exec::inside(args.name.sandbox, args.run, context, out).await,
        SandboxCommand::Timeout(args) => set_timeout(args, context, out).await,
        SandboxCommand::Pause(args) => pause(args, context, out).await,
        SandboxCommand::Resume(args) => resume(args, context, out).await,
        SandboxCommand::Fork(args) => fork(args, context, out).await,
        SandboxCommand::Kill(args) => kill(args, context, out).await,
        SandboxCommand::Env => env::run(context, out).await,
    }
}

async fn create(args: CreateArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let CreateArgs { template, timeout, pause_on_timeout, var, metadata, class } = args;
    let on_timeout = if pause_on_timeout { OnTimeout::Pause } else { OnTimeout::Kill };
    let (vars, metadata) = (var.into_iter().collect(), metadata.into_iter().collect());
    let request = SandboxRequest { template, timeout_seconds: seconds(timeout), on_timeout, vars, metadata, class };
    let mut live = out.live();
    live.show(out, &[format!("starting a sandbox of {}", request.template)]);
    let created = context.client()?.create_sandbox(&context.org(), &request).await;
    live.end();
    let sandbox = created?;
    if out.is_json() {
        out.document("sandbox", &sandbox)?;
        return Ok(Exit::Success);
    }
    out.line(&sandbox.name)?;
    out.note(format_args!("it runs on {} until {}", sandbox.node, until(&sandbox)));
    out.note(format_args!("look around with `plfm sandbox exec -t {} -- sh`", sandbox.name));
    Ok(Exit::Success)
}

async fn list(context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let sandboxes = context.client()?.sandboxes(&context.org()).await?;
    if out.is_json() {
        out.document("sandboxes", &sandboxes)?;
        return Ok(Exit::Success);
    }
    if sandboxes.items.is_empty() {
        out.note("no sandbox runs; start one with `plfm sandbox create`");
        return Ok(Exit::Success);
    }
    let mut table = Table::new(["SANDBOX", "TEMPLATE", "STATE", "NODE", "MEMORY", "ENDS", "METADATA"]);
    for it in &sandboxes.items {
        let metadata: Vec<_> = it.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
        table.row([
            it.name.clone(),
            it.template.clone(),
            it.state.code().to_owned(),
            it.node.clone(),
            it.memory.to_string(),
            until(it),
            metadata.join(" "),
        ]);
    }
    out.table(&table)?;
    for it in &sandboxes.items {
        if let Some(failure) = &it.failure {
            out.note(format_args!("{}: {failure}", it.name));
        }
    }
    Ok(Exit::Success)
}

async fn set_timeout(args: SandboxTimeoutArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let name = sandbox_name(args.name.sandbox);
    let sandbox = context.client()?.set_sandbox_timeout(&context.org(), &name, seconds(args.time)).await?;
    if out.is_json() {
        out.document("sandbox", &sandbox)?;
        return Ok(Exit::Success);
    }
    out.done(format_args!("{name} runs until {}", until(&sandbox)));
    Ok(Exit::Success)
}

async fn pause(args: SandboxName, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let name = sandbox_name(args.sandbox);
    let mut live = out.live();
    live.show(out, &[format!("writing what {name} is to disk")]);
    let paused = context.client()?.pause_sandbox(&context.org(), &name).await;
    live.end();
    let sandbox = paused?;
    if out.is_json() {
        out.document("sandbox", &sandbox)?;
        return Ok(Exit::Success);
    }
    out.done(format_args!("{name} is paused on {}; go on with `plfm sandbox resume {name}`", sandbox.node));
    Ok(Exit::Success)
}

async fn resume(args: SandboxResumeArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let name = sandbox_name(args.name.sandbox);
    let mut live = out.live();
    live.show(out, &[format!("reading what {name} is from disk")]);
    let resumed = context.client()?.resume_sandbox(&context.org(), &name, seconds(args.timeout)).await;
    live.end();
    let sandbox = resumed?;
    if out.is_json() {
        out.document("sandbox", &sandbox)?;
        return Ok(Exit::Success);
    }
    out.done(format_args!("{name} runs again, until {}", until(&sandbox)));
    Ok(Exit::Success)
}

async fn fork(args: SandboxForkArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let SandboxForkArgs { name, count, timeout } = args;
    let name = sandbox_name(name.sandbox);
    let request = ForkRequest { count, timeout_seconds: seconds(timeout) };
    let mut live = out.live();
    live.show(out, &[format!("forking {name}")]);
    let forked = context.client()?.fork_sandbox(&context.org(), &name, &request).await;
    live.end();
    let ForksView { items, problem } = forked?;
    let exit = if problem.is_some() { Exit::Failure } else { Exit::Success };
    if out.is_json() {
        out.document("forks", &ForksView { items, problem })?;
        return Ok(exit);
    }
    for fork in &items {
        out.line(&fork.name)?;
    }
    if let Some(first) = items.iter().min_by_key(|fork| fork.ends_at) {
        let until = until(first);
        match items.len() {
            1 => out.note(format_args!("it runs on {} until {until}", first.node)),
            _ => out.note(format_args!("they run on {}, the first until {until}", first.node)),
        }
    }
    if let Some(problem) = &problem {
        out.note(format_args!("{} of {count} do not run: {}", count as usize - items.len(), problem.detail));
        out.note(format_args!("{}", problem.hint));
    }
    Ok(exit)
}

async fn kill(args: SandboxName, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let name = sandbox_name(args.sandbox);
    context.client()?.kill_sandbox(&context.org(), &name).await?;
    if out.is_json() {
        out.document("sandbox", &serde_json::json!({ "name": name, "state": "terminating" }))?;
        return Ok(Exit::Success);
    }
    out.done(format_args!("{name} is ended"));
    Ok(Exit::Success)
}

fn until(sandbox: &SandboxView) -> String {
    sandbox.ends_at.map_or_else(|| "-".to_owned(), |at| at.to_string())
}

/// A part of a second is one.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
