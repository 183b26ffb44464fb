//! One process: its wires, its listeners, its end.
//!
//! ```text
//!   start ──▶ output told, input taken ──exit──▶ pipes empty (or cut) ──▶ end told ──30 s──▶ forgotten
//! ```

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{read, write};
use plfm_api::envd::ProcessConfig;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::unix::pipe;
use tokio::sync::{Mutex, watch};

use super::audience::{Audience, Piece};
use super::end::End;
use crate::launch::{self, Ends, Size};
use crate::reaper::Waiting;

/// W-PR-1.
const PIPE_PIECE: usize = 32 << 10;
const TERMINAL_PIECE: usize = 16 << 10;
/// What may wait in a pipe when its process has ended: its largest size for those without privileges. Others may still be writing.
const REST_MAX: usize = 1 << 20;

pub struct Process {
    pub pid: u32,
    pub config: ProcessConfig,
    pub tag: Option<String>,
    pub audience: Audience,
    input: Mutex<Input>,
    terminal: Option<Arc<AsyncFd<OwnedFd>>>,
    /// Someone wants this over: its output is not waited for (W-PR-11).
    cut: watch::Sender<bool>,
}

enum Input {
    Stdin(pipe::Sender),
    Terminal(Arc<AsyncFd<OwnedFd>>),
    Closed,
    /// Never had one.
    None,
}

/// What a process writes to, from this side.
pub enum Output {
    Pipes(pipe::Receiver, pipe::Receiver),
    Terminal(Arc<AsyncFd<OwnedFd>>),
}

#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("process {0} has no stdin")]
    NoStdin(u32),
    #[error("stdin of process {0} is closed")]
    Closed(u32),
    #[error("process {0} has a terminal: its input is `pty`")]
    IsTerminal(u32),
    #[error("process {0} has no terminal")]
    NoTerminal(u32),
    #[error("write to process {pid}: {}", launch::describe_io(cause))]
    Write { pid: u32, cause: io::Error },
}

impl Process {
    pub fn new(pid: u32, config: ProcessConfig, tag: Option<String>, ends: Ends) -> io::Result<(Arc<Self>, Output)> {
        let (input, output, terminal) = match ends {
            Ends::Pipes { stdin, stdout, stderr } => {
                let input = stdin.map(pipe::Sender::from_owned_fd).transpose()?.map_or(Input::None, Input::Stdin);
                let receive = pipe::Receiver::from_owned_fd;
                (input, Output::Pipes(receive(stdout)?, receive(stderr)?), None)
            }
            Ends::Terminal(master) => {
                fcntl(&master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))?;
                // SAFETY: the descriptor is owned, and the registration owns its owner: it stays open and the same while registered.
                let master = Arc::new(unsafe { AsyncFd::register(master) }?);
                (Input::Terminal(master.clone()), Output::Terminal(master.clone()), Some(master))
            }
        };
        let (input, audience, cut) = (Mutex::new(input), Audience::default(), watch::Sender::new(false));
        Ok((Arc::new(Self { pid, config, tag, audience, input, terminal, cut }), output))
    }

    /// Tells everything until the end.
    pub async fn live(&self, output: Output, exit: Waiting) {
        let over = watch::Sender::new(false);
        let ending = async {
            let exit = exit.await.expect("the reaper answers for every child");
            let _ = self.cut.subscribe().wait_for(|cut| *cut).await;
            over.send_replace(true);
            exit
        };
        let telling = async {
            self.tell(output, over.subscribe()).await;
            self.cut();
        };
        let (exit, ()) = tokio::join!(ending, telling);
        self.audience.end(End::of(exit)).await;
    }

    /// From now on the process's end is the end, whoever still holds its output. What is in the pipes by then is told.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    async fn tell(&self, output: Output, over: watch::Receiver<bool>) {
        match output {
            Output::Terminal(master) => self.tell_terminal(&master, over).await,
            Output::Pipes(stdout, stderr) => {
                let (out, err) =
                    (self.tell_pipe(stdout, Piece::Stdout, over.clone()), self.tell_pipe(stderr, Piece::Stderr, over));
                tokio::join!(out, err);
            }
        }
    }

    async fn tell_pipe(&self, mut pipe: pipe::Receiver, piece: fn(Bytes) -> Piece, mut over: watch::Receiver<bool>) {
        let mut bytes = vec![0; PIPE_PIECE];
        while let Some(Ok(size @ 1..)) = unless(&mut over, pipe.read(&mut bytes)).await {
            self.audience.tell(piece(Bytes::copy_from_slice(&bytes[..size]))).await;
        }
        let mut rest = REST_MAX;
        while let Ok(size @ 1..) = pipe.try_read(&mut bytes[..PIPE_PIECE.min(rest)]) {
            self.audience.tell(piece(Bytes::copy_from_slice(&bytes[..size]))).await;
            rest -= size;
        }
    }

    /// A terminal ends with EIO, when its last holder has closed it.
    async fn tell_terminal(&self, master: &AsyncFd<OwnedFd>, mut over: watch::Receiver<bool>) {
        let mut bytes = vec![0; TERMINAL_PIECE];
        loop {
            let reading = master.async_io(Interest::READABLE, |fd| Ok(read(fd, &mut bytes)?));
            let Some(Ok(size @ 1..)) = unless(&mut over, reading).await else { break };
            self.audience.tell(Piece::Terminal(Bytes::copy_from_slice(&bytes[..size]))).await;
        }
        let mut rest = REST_MAX;
        while let Ok(size @ 1..) = read(master.get_ref(), &mut bytes[..TERMINAL_PIECE.min(rest)]) {
            self.audience.tell(Piece::Terminal(Bytes::copy_from_slice(&bytes[..size]))).await;
            rest -= size;
        }
    }

    /// Waits while the process does not read; several writers take turns.
    pub async fn write_stdin(&self, bytes: &[u8]) -> Result<(), InputError> {
        match &mut *self.input.lock().await {
            Input::Stdin(stdin) => {
                stdin.write_all(bytes).await.map_err(|cause| InputError::Write { pid: self.pid, cause })
            }
            Input::Terminal(_) => Err(InputError::IsTerminal(self.pid)),
            Input::Closed => Err(InputError::Closed(self.pid)),
            Input::None => Err(InputError::NoStdin(self.pid)),
        }
    }

    pub async fn write_terminal(&self, mut bytes: &[u8]) -> Result<(), InputError> {
        let input = self.input.lock().await;
        let Input::Terminal(master) = &*input else { return Err(InputError::NoTerminal(self.pid)) };
        while !bytes.is_empty() {
            let written = master.async_io(Interest::WRITABLE, |fd| Ok(write(fd, bytes)?)).await;
            bytes = &bytes[written.map_err(|cause| InputError::Write { pid: self.pid, cause })?..];
        }
        Ok(())
    }

    /// The reader gets its end of file; again is well.
    pub async fn close_stdin(&self) -> Result<(), InputError> {
        let mut input = self.input.lock().await;
        match &*input {
            Input::Terminal(_) => return Err(InputError::IsTerminal(self.pid)),
            Input::None => return Err(InputError::NoStdin(self.pid)),
            Input::Stdin(_) | Input::Closed => {}
        }
        *input = Input::Closed;
        Ok(())
    }

    pub fn resize(&self, size: Size) -> Result<(), InputError> {
        let terminal = self.terminal.as_ref().ok_or(InputError::NoTerminal(self.pid))?;
        launch::resize(&terminal.as_raw_fd(), size).map_err(|cause| InputError::Write { pid: self.pid, cause })
    }
}

/// What `work` gives, or nothing once it is over.
async fn unless<T>(over: &mut watch::Receiver<bool>, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        _ = over.wait_for(|over| *over) => None,
        done = work => Some(done),
    }
}
