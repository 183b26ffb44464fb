//! What goes to the command: standard input, the size of the window, signals.

use std::future::pending;
use std::io;

use plfm_api::client::{ExecError, TerminalWriter};
use plfm_api::term::{Control, FRAME_BYTES_MAX, Frame, Signal};
use tokio::io::{AsyncReadExt, Stdin, stdin};
use tokio::signal::unix::{self, SignalKind, signal};

use crate::cli::RunArgs;
use crate::terminal::size;

pub struct Input {
    stdin: Option<Stdin>,
    tty: bool,
}

impl Input {
    pub fn of(args: &RunArgs) -> Self {
        Self { stdin: (args.tty || args.interactive).then(stdin), tty: args.tty }
    }

    async fn read(&mut self) -> io::Result<Vec<u8>> {
        let Some(stdin) = &mut self.stdin else { return pending().await };
        let mut bytes = vec![0; FRAME_BYTES_MAX];
        let count = stdin.read(&mut bytes).await?;
        bytes.truncate(count);
        Ok(bytes)
    }
}

/// Goes on until the other side takes nothing more.
pub async fn forward(mut input: Input, mut writer: TerminalWriter) -> Result<(), ExecError> {
    let Ok(mut signals) = Signals::new() else { return Ok(()) };
    let tty = input.tty;
    loop {
        let said = tokio::select! {
            bytes = input.read() => Ok(bytes.unwrap_or_default()),
            control = signals.next(tty) => Err(control),
        };
        let frame = said.map_or_else(Frame::Control, |bytes| stdin_frame(&mut input, bytes));
        writer.send(&frame).await?;
    }
}

/// Nothing more to read is the end of the input, said once.
fn stdin_frame(input: &mut Input, bytes: Vec<u8>) -> Frame {
    if bytes.is_empty() {
        input.stdin = None;
        return Frame::Control(Control::StdinEof);
    }
    Frame::Stdin(bytes)
}

/// What this process is told, to be told to the other.
struct Signals {
    winch: unix::Signal,
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            winch: signal(SignalKind::window_change())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self, tty: bool) -> Control {
        tokio::select! {
            Some(()) = self.winch.recv(), if tty => {
                let (cols, rows) = size();
                Control::Resize { cols, rows }
            }
            Some(()) = self.interrupt.recv() => Control::Signal { name: Signal::Int },
            Some(()) = self.terminate.recv() => Control::Signal { name: Signal::Term },
            else => pending().await,
        }
    }
}
