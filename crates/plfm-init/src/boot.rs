//! From the first instruction to a daemon that answers, in both of its lives.

use std::fs;
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use nix::libc;
use plfm_api::channel::{Mux, Secret};
use tokio::net::{UnixListener, UnixStream};

use crate::daemon::Daemon;
use crate::machine::{self, Host};
use crate::{power, serve};

/// PID 1. There is nothing to return to: what can't be done ends the machine, with the cause on its console.
pub fn machine() -> ExitCode {
    let served = machine::boot().map_err(|cause| cause.to_string()).and_then(|channel| {
        let serve = async {
            let daemon = Daemon::new(true)?;
            tokio::spawn(power::off_when_asked(daemon.clone()));
            match channel.host {
                Host::Port(port) => {
                    let (acceptor, mux) = Mux::guest(port.stream()?, Some(channel.secret));
                    tokio::spawn(serve::serve(daemon, acceptor));
                    mux.await
                }
                Host::Vsock(vsock) => take_turns(daemon, Some(channel.secret), vsock.connections()?).await,
            }
        };
        block_on(serve).map_err(|cause| cause.to_string())
    });
    eprintln!("plfm-init: {}", served.err().unwrap_or_else(|| "the channel to the host has ended".into()));
    machine::reboot()
}

/// A process among others: hosts connect to a socket.
pub fn supervised(socket: PathBuf) -> ExitCode {
    let serve = async {
        let daemon = adopt_orphans().and_then(|()| Daemon::new(false))?;
        tokio::spawn(power::off_when_asked(daemon.clone()));
        listen(daemon, &socket).await
    };
    match block_on(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("plfm-init: serve {}: {cause}", socket.display());
            ExitCode::FAILURE
        }
    }
}

async fn listen(daemon: Arc<Daemon>, socket: &Path) -> io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    take_turns(daemon, None, async move || Ok(listener.accept().await?.0)).await
}

/// Each connection replaces the one before it.
async fn take_turns(
    daemon: Arc<Daemon>,
    secret: Option<Secret>,
    mut next: impl AsyncFnMut() -> io::Result<UnixStream>,
) -> io::Result<()> {
    let mut attached: Option<tokio::task::JoinHandle<()>> = None;
    loop {
        let stream = next().await?;
        if let Some(former) = attached.take() {
            former.abort();
        }
        let (acceptor, mux) = Mux::guest(stream, secret.clone());
        tokio::spawn(serve::serve(daemon.clone(), acceptor));
        attached = Some(tokio::spawn(async move { drop(mux.await) }));
    }
}

/// What a process leaves behind when it dies becomes ours, as it does for PID 1.
fn adopt_orphans() -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true).map_err(io::Error::from)
}

/// One thread serves everything; what blocks has threads of its own.
fn block_on(serve: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    raise_file_limit();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve)
}

/// Inherited by all that starts here: the kernel's own limit is for another age.
fn raise_file_limit() {
    const FILES: libc::rlim_t = 1 << 20;
    const FILES_AT_FIRST: libc::rlim_t = 1 << 16;
    let limit = libc::rlimit { rlim_cur: FILES_AT_FIRST, rlim_max: FILES };
    // SAFETY: setrlimit reads one `rlimit`. Where it is not permitted the old limit stays, which is not an error.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
}
