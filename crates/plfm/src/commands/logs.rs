//! `plfm logs`: what instances have written, in the order of time; with `--follow`, as it comes, from new instances too.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll};
use futures::{StreamExt, TryStreamExt};
use plfm_api::client::{ApiError, Client, InstanceFilter};
use plfm_api::views::{InstanceView, LogLine, LogStream};
use plfm_core::ids::InstanceId;
use plfm_core::phase::InstancePhase;
use tokio::time::{MissedTickBehavior, interval};

use super::short;
use crate::cli::LogsArgs;
use crate::context::Context;
use crate::printer::{Colour, Printer};
use crate::{CliError, Exit};

/// How soon the output of a new instance is joined to what is followed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub async fn run(args: LogsArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let source = Source::new(&args, context)?;
    let instances = source.instances().await?;
    if instances.is_empty() && !args.follow {
        return Err(source.nothing());
    }
    if args.follow {
        follow(&source, out).await?
    } else {
        show(&source, &instances, out).await?
    }
    Ok(Exit::Success)
}

/// Whose output is wanted.
struct Source {
    client: Client,
    org: String,
    wanted: Wanted,
    follow: bool,
    console: bool,
    tail: Option<usize>,
}

enum Wanted {
    Instance(InstanceId),
    App { app: String, env: String },
}

impl Source {
    fn new(args: &LogsArgs, context: &Context) -> Result<Self, CliError> {
        let wanted = match args.instance {
            Some(instance) => Wanted::Instance(instance),
            None => Wanted::App { app: context.app(args.app.as_ref())?, env: context.env(&args.env) },
        };
        let (client, org) = (context.client()?, context.org());
        Ok(Self { client, org, wanted, follow: args.follow, console: args.console, tail: args.tail })
    }

    async fn instances(&self) -> Result<Vec<InstanceId>, ApiError> {
        let (app, env) = match &self.wanted {
            Wanted::Instance(instance) => return Ok(vec![*instance]),
            Wanted::App { app, env } => (Some(app.clone()), Some(env.clone())),
        };
        let all = self.client.instances(&self.org, &InstanceFilter { app, env, all: true }).await?;
        let is_there = |it: &&InstanceView| it.phase != InstancePhase::Gone;
        let there: Vec<_> = all.items.iter().filter(is_there).map(|it| it.id).collect();
        // Where nothing is any more, what was last has left its output, which is what is asked for then.
        let last = || all.items.iter().max_by_key(|it| (it.created_at, it.id)).map(|it| it.id);
        Ok(if there.is_empty() { last().into_iter().collect() } else { there })
    }

    async fn open(&self, instance: InstanceId) -> Result<BoxStream<'static, Result<LogLine, ApiError>>, ApiError> {
        Ok(self.client.logs(&self.org, instance, self.follow, self.console).await?.boxed())
    }

    fn nothing(&self) -> CliError {
        let (app, env) = match &self.wanted {
            Wanted::Instance(instance) => (instance.to_string(), String::new()),
            Wanted::App { app, env } => (app.clone(), env.clone()),
        };
        CliError::NoInstance { app, env }
    }
}

async fn show(source: &Source, instances: &[InstanceId], out: &mut Printer) -> Result<(), CliError> {
    let mut lines: Vec<LogLine> = Vec::new();
    for instance in instances {
        match source.open(*instance).await {
            Ok(stream) => lines.extend(stream.try_collect::<Vec<_>>().await?),
            Err(error) if instances.len() > 1 => out.warn(format_args!("no output of {instance}: {error}")),
            Err(error) => return Err(error.into()),
        }
    }
    lines.sort_by_key(|line| line.at);
    let skipped = source.tail.map_or(0, |tail| lines.len().saturating_sub(tail));
    lines[skipped..].iter().try_for_each(|line| print(line, instances.len() > 1, out))
}

async fn follow(source: &Source, out: &mut Printer) -> Result<(), CliError> {
    let (mut known, mut lines) = (BTreeSet::new(), SelectAll::new());
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = look.tick() => join(source, &mut known, &mut lines, out).await?,
            Some(line) = lines.next() => print(&line?, known.len() > 1, out)?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
        if lines.is_empty() && matches!(source.wanted, Wanted::Instance(_)) {
            return Ok(());
        }
    }
}

async fn join(
    source: &Source,
    known: &mut BTreeSet<InstanceId>,
    lines: &mut SelectAll<BoxStream<'static, Result<LogLine, ApiError>>>,
    out: &mut Printer,
) -> Result<(), CliError> {
    for instance in source.instances().await? {
        if known.contains(&instance) {
            continue;
        }
        match source.open(instance).await {
            Ok(stream) => lines.push(stream),
            // Its node may not have it yet; the next look tries again.
            Err(error) if error.is_retryable() => continue,
            Err(error) if matches!(source.wanted, Wanted::Instance(_)) => return Err(error.into()),
            Err(error) => out.warn(format_args!("no output of {instance}: {error}")),
        }
        known.insert(instance);
    }
    Ok(())
}

fn print(line: &LogLine, several: bool, out: &mut Printer) -> Result<(), CliError> {
    if out.is_json() {
        return Ok(out.item("log", line.at, line)?);
    }
    let from = match (several, line.stream) {
        (false, LogStream::Stdout | LogStream::Stderr) => String::new(),
        (false, stream) => format!("{} | ", name(stream)),
        (true, LogStream::Stdout | LogStream::Stderr) => format!("{} | ", short(line.instance)),
        (true, stream) => format!("{} {} | ", short(line.instance), name(stream)),
    };
    let from = if from.is_empty() { from } else { out.paint(Colour::Dim, &from) };
    Ok(out.line(format_args!("{from}{}", line.text))?)
}

const fn name(stream: LogStream) -> &'static str {
    match stream {
        LogStream::Stdout => "stdout",
        LogStream::Stderr => "stderr",
        LogStream::Console => "console",
        LogStream::Node => "node",
    }
}

#[cfg(test)]
mod tests;
