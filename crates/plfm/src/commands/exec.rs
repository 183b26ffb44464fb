//! `plfm exec`: a command in an instance. Its output is ours, byte for byte, and so is its exit code.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use plfm_api::client::{Client, InstanceFilter, TerminalReader, TerminalWriter};
use plfm_api::term::{self, Control, Frame, Hello};
use plfm_core::ids::InstanceId;
use plfm_core::phase::{Desired, InstancePhase};
use serde_json::json;

use crate::cli::{ExecArgs, RunArgs};
use crate::context::Context;
use crate::printer::Printer;
use crate::terminal::{Raw, size};
use crate::{CliError, Exit};

mod input;

use input::{Input, forward};

pub async fn run(args: ExecArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let (client, org) = (context.client()?, context.org());
    let instance = match args.instance {
        Some(instance) => instance,
        None => first_ready(&client, &org, &args, context).await?,
    };
    inside(instance, args.run, context, out).await
}

/// In an instance that is known.
pub async fn inside(
    instance: InstanceId,
    args: RunArgs,
    context: &Context,
    out: &mut Printer,
) -> Result<Exit, CliError> {
    if args.tty && !std::io::stdin().is_terminal() {
        return Err(CliError::NoTerminal);
    }
    let terminal = context.client()?.exec(&context.org(), instance, hello(&args)).await;
    let (writer, mut reader) = terminal.map_err(|source| CliError::Exec { instance, source })?.split();
    welcome(&mut reader, instance).await?;
    // From here on what is typed is the other side's; the guard gives the terminal back.
    let raw = args.tty.then(Raw::enter).transpose();
    let _raw = raw.map_err(|source| CliError::Terminal { source })?;
    let exit = attend(instance, writer, &mut reader, Input::of(&args), out).await?;
    Ok(Exit::Remote(exit))
}

async fn first_ready(client: &Client, org: &str, args: &ExecArgs, context: &Context) -> Result<InstanceId, CliError> {
    let (app, env) = (context.app(args.app.as_ref())?, context.env(&args.env));
    let filter = InstanceFilter { app: Some(app.clone()), env: Some(env.clone()), all: false };
    let instances = client.instances(org, &filter).await?.items;
    if instances.is_empty() {
        // What is not there at all is another matter than what is not ready.
        client.env(org, &app, &env).await?;
    }
    let wanted = instances.into_iter().filter(|it| it.desired == Desired::Running);
    let mut ready = wanted.filter(|it| matches!(it.phase, InstancePhase::Ready | InstancePhase::Unready));
    ready.next().map(|it| it.id).ok_or(CliError::NoReadyInstance { app, env })
}

fn hello(args: &RunArgs) -> Hello {
    let (cols, rows) = size();
    let terminal = std::env::var("TERM").ok().filter(|_| args.tty).map(|term| ("TERM".to_owned(), term));
    Hello {
        v: term::VERSION,
        cols,
        rows,
        command: args.command.clone(),
        tty: args.tty,
        stdin: args.tty || args.interactive,
        env: BTreeMap::from_iter(terminal),
    }
}

/// The command runs when the other side says welcome.
async fn welcome(reader: &mut TerminalReader, instance: InstanceId) -> Result<(), CliError> {
    loop {
        match reader.next().await.map_err(|source| CliError::Exec { instance, source })? {
            Some(Frame::Control(Control::Welcome { .. })) => return Ok(()),
            Some(Frame::Control(Control::Error { code, message, .. })) => {
                return Err(CliError::ExecRefused { instance, code, message });
            }
            Some(_) => {}
            None => return Err(cut(instance)),
        }
    }
}

/// Passes everything on until the command has ended; its exit code.
async fn attend(
    instance: InstanceId,
    writer: TerminalWriter,
    reader: &mut TerminalReader,
    input: Input,
    out: &mut Printer,
) -> Result<u8, CliError> {
    let forwarding = tokio::spawn(forward(input, writer));
    let exit = output(instance, reader, out).await;
    forwarding.abort();
    exit
}

async fn output(instance: InstanceId, reader: &mut TerminalReader, out: &mut Printer) -> Result<u8, CliError> {
    while let Some(frame) = reader.next().await.map_err(|source| CliError::Exec { instance, source })? {
        match frame {
            Frame::Stdout { bytes, .. } | Frame::Replay { bytes, .. } => show(&bytes, Stream::Out, out)?,
            Frame::Stderr { bytes, .. } => show(&bytes, Stream::Err, out)?,
            Frame::Exit(exit) => return Ok(u8::try_from(exit.exit_code).unwrap_or(u8::MAX)),
            Frame::Control(Control::Error { message, .. }) => {
                return Err(CliError::ExecCut { instance, why: message });
            }
            _ => {}
        }
    }
    Err(cut(instance))
}

fn cut(instance: InstanceId) -> CliError {
    CliError::ExecCut { instance, why: "the connection has ended".to_owned() }
}

#[derive(Debug, Clone, Copy)]
enum Stream {
    Out,
    Err,
}

fn show(bytes: &[u8], stream: Stream, out: &mut Printer) -> Result<(), CliError> {
    match stream {
        _ if out.is_json() => {
            let name = if matches!(stream, Stream::Out) { "stdout" } else { "stderr" };
            let text = String::from_utf8_lossy(bytes);
            Ok(out.item("exec_output", crate::time::now(), &json!({ "stream": name, "text": text }))?)
        }
        Stream::Out => Ok(out.bytes(bytes)?),
        Stream::Err => Ok(out.error_bytes(bytes)?),
    }
}
