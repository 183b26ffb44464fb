//! `plfm.term.v1` (spec §14.2): a terminal or a command in an instance, over a WebSocket. Frames on one side, the guest's process
//! service on the other; this file only translates.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use plfm_api::envd::{self, Event, Input, Output, Selector, Size};
use plfm_api::rpc::{Error, ErrorCode, Target};
use plfm_api::term::{self, Control, Exit, Frame, Hello, close};
use plfm_api::tunnel;
use plfm_core::ids::InstanceId;

use crate::serve::NodeTunnel;

/// Of a whole WebSocket message: the largest payload, its type and its number.
pub const MESSAGE_BYTES_MAX: usize = term::FRAME_BYTES_MAX + 9;
/// P-EXEC-22.
const HELLO_WAIT: Duration = Duration::from_secs(10);

/// Why a session ends before its process does.
struct Closed {
    code: u16,
    name: &'static str,
    detail: String,
}

impl Closed {
    fn new(code: u16, name: &'static str, detail: impl Into<String>) -> Self {
        Self { code, name, detail: detail.into() }
    }

    fn protocol(detail: impl Into<String>) -> Self {
        Self::new(close::PROTOCOL_ERROR, "protocol_error", detail)
    }
}

pub async fn run(socket: WebSocket, tunnel: NodeTunnel, instance: InstanceId, process_type: String) {
    let (mut sink, mut frames) = socket.split();
    let code = match session(&mut sink, &mut frames, tunnel, instance, process_type).await {
        Ok(()) => close::NORMAL,
        Err(Closed { code, name, detail }) => {
            let error = Control::Error { code: name.to_owned(), message: detail, retryable: false };
            let _ = send(&mut sink, Frame::Control(error)).await;
            code
        }
    };
    let _ = sink.send(Message::Close(Some(CloseFrame { code, reason: "".into() }))).await;
}

type Sink = SplitSink<WebSocket, Message>;
type Frames = SplitStream<WebSocket>;

async fn session(
    sink: &mut Sink,
    frames: &mut Frames,
    tunnel: NodeTunnel,
    instance_id: InstanceId,
    process_type: String,
) -> Result<(), Closed> {
    let hello = hello(frames).await?;
    let (tty, client) = (hello.tty, guest(tunnel, instance_id));
    let mut process = client.start(command(hello)).await.map_err(|error| not_started(&error))?;
    let welcome = Control::Welcome { v: term::VERSION, instance_id, process_type, tty };
    send(sink, Frame::Control(welcome)).await?;
    let guest = Guest { client, process: process.selector(), tty };
    let (mut seq, mut listening) = (0, true);
    loop {
        tokio::select! {
            event = process.next() => match event.map_err(|error| broken(&error))? {
                Some(Event::Data(data)) => {
                    let Some(output) = data.output else { continue };
                    send(sink, shown(output, &mut seq)).await?;
                }
                Some(Event::End(end)) => return send(sink, Frame::Exit(ended(&end))).await,
                Some(_) => {}
                None => return Err(Closed::new(close::GUEST_UNAVAILABLE, "guest_unavailable", "the output ended early")),
            },
            message = frames.next(), if listening => listening = guest.obey(message).await?,
        }
    }
}

async fn hello(frames: &mut Frames) -> Result<Hello, Closed> {
    let first = tokio::time::timeout(HELLO_WAIT, frames.next()).await;
    let first = first.map_err(|_| Closed::new(close::HELLO_TIMEOUT, "hello_timeout", "no hello came in time"))?;
    let Some(Ok(Message::Binary(frame))) = first else {
        return Err(Closed::protocol("the first frame is not a hello"));
    };
    match Frame::decode(&frame).map_err(|error| Closed::protocol(error.to_string()))? {
        Frame::Control(Control::Hello(hello)) if hello.v != term::VERSION => {
            Err(Closed::new(close::VERSION, "version", format!("this server speaks version {}", term::VERSION)))
        }
        Frame::Control(Control::Hello(hello)) if !hello.command.is_empty() => Ok(hello),
        _ => Err(Closed::protocol("the first frame is not a hello with a command")),
    }
}

fn guest(tunnel: NodeTunnel, instance: InstanceId) -> envd::Client {
    envd::Client::new(Target::new(move || {
        let tunnel = tunnel.clone();
        async move { tunnel.open(instance, tunnel::ENVD).await.map_err(std::io::Error::other) }
    }))
}

fn command(hello: Hello) -> envd::Command {
    let mut argv = hello.command.into_iter();
    envd::Command {
        cmd: argv.next().unwrap_or_default(),
        args: argv.collect(),
        env: hello.env.into_iter().collect(),
        stdin: hello.stdin,
        terminal: hello.tty.then(|| size(hello.cols, hello.rows)),
        ..Default::default()
    }
}

/// The process at the other end, as this session drives it.
struct Guest {
    client: envd::Client,
    process: Selector,
    tty: bool,
}

impl Guest {
    /// Does what one message says; whether more may come.
    async fn obey(&self, message: Option<Result<Message, axum::Error>>) -> Result<bool, Closed> {
        let frame = match message {
            Some(Ok(Message::Binary(frame))) => frame,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(true),
            Some(Ok(Message::Text(_))) => return Err(Closed::protocol("frames are binary")),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return self.hang_up().await,
        };
        let done = match Frame::decode(&frame).map_err(|error| Closed::protocol(error.to_string()))? {
            Frame::Stdin(bytes) => self.input(bytes).await,
            Frame::Control(Control::StdinEof) => self.client.close_stdin(self.process.clone()).await,
            Frame::Control(Control::Resize { cols, rows }) => {
                self.client.resize(self.process.clone(), size(cols, rows)).await
            }
            Frame::Control(Control::Signal { name }) => self.signal(name).await,
            Frame::Control(Control::Close { .. }) => return self.hang_up().await,
            Frame::Control(Control::Hello(_)) => return Err(Closed::protocol("a second hello")),
            _ => Ok(()),
        };
        // What the process no longer takes is no error of the session: its end is under way.
        if let Err(error) = done {
            tracing::debug!(%error, "the process took no input");
        }
        Ok(true)
    }

    async fn input(&self, bytes: Vec<u8>) -> Result<(), Error> {
        let input = if self.tty { Input::Pty(bytes) } else { Input::Stdin(bytes) };
        self.client.send_input(self.process.clone(), input).await
    }

    async fn signal(&self, name: term::Signal) -> Result<(), Error> {
        let signal =
            if name == term::Signal::Kill { envd::Signal::SIGNAL_SIGKILL } else { envd::Signal::SIGNAL_SIGTERM };
        self.client.signal(self.process.clone(), signal).await
    }

    /// The client is gone: what it ran goes with it, as with a closed line.
    async fn hang_up(&self) -> Result<bool, Closed> {
        drop(self.client.signal(self.process.clone(), envd::Signal::SIGNAL_SIGTERM).await);
        Ok(false)
    }
}

fn shown(output: Output, seq: &mut u64) -> Frame {
    let begins = *seq;
    let (bytes, frame): (_, fn(u64, Vec<u8>) -> Frame) = match output {
        Output::Stdout(bytes) | Output::Pty(bytes) => (bytes, |seq, bytes| Frame::Stdout { seq, bytes }),
        Output::Stderr(bytes) => (bytes, |seq, bytes| Frame::Stderr { seq, bytes }),
    };
    *seq += bytes.len() as u64;
    frame(begins, bytes.to_vec())
}

/// A signal is `-1` to the guest's service and 128 + its number to a shell.
fn ended(end: &envd::process_event::EndEvent) -> Exit {
    let signal = (!end.exited).then(|| end.status.clone());
    let killed = end.status.contains("killed");
    let exit_code = if end.exited {
        end.exit_code
    } else if killed {
        137
    } else {
        143
    };
    Exit { exit_code, signal, reason: end.status.clone() }
}

async fn send(sink: &mut Sink, frame: Frame) -> Result<(), Closed> {
    let sent = sink.send(Message::Binary(frame.encode().into())).await;
    sent.map_err(|_| Closed::new(close::GOING_AWAY, "client_gone", "the client is gone"))
}

fn size(cols: u16, rows: u16) -> Size {
    Size { cols: cols.clamp(1, 1000).into(), rows: rows.clamp(1, 1000).into() }
}

fn not_started(error: &Error) -> Closed {
    let detail = error.message.clone().unwrap_or_else(|| error.to_string());
    match error.code {
        ErrorCode::InvalidArgument | ErrorCode::Unauthenticated => {
            Closed::new(close::PROTOCOL_ERROR, "command_not_started", detail)
        }
        _ => Closed::new(close::GUEST_UNAVAILABLE, "guest_unavailable", detail),
    }
}

fn broken(error: &Error) -> Closed {
    Closed::new(close::GUEST_UNAVAILABLE, "guest_unavailable", format!("the instance stopped answering: {error}"))
}
