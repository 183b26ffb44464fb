//! The host's byte stream: a virtio serial port, found by its name.
//!
//! The port is not like a socket. It has no end: while no host is attached `read` returns 0 and `poll` says HUP at once, for ever; and an
//! edge-triggered wait never hears of it again. So two threads poll it, patiently, and the runtime sees a socket that does not end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::BootError;

pub const NAME: &str = "plfm.0";
const PORTS: &str = "/sys/class/virtio-ports";
/// A port that its driver has not shown by then will not come.
const PORT_WAIT: Duration = Duration::from_secs(5);
const FIND_POLL: Duration = Duration::from_millis(5);
/// While no host is attached: how often to look for one.
const DETACHED_READ: Duration = Duration::from_millis(5);
const DETACHED_WRITE: Duration = Duration::from_millis(2);
const READ_WAIT_MS: u16 = 100;
const CHUNK: usize = 64 << 10;

pub struct Port(Arc<File>);

pub fn open() -> Result<Port, BootError> {
    let path = find()?;
    let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&path);
    let port = opened.map_err(BootError::of(format!("open port {NAME}")))?;
    Ok(Port(Arc::new(port)))
}

/// The device of the port; names come to `/sys` a moment after the port.
fn find() -> Result<PathBuf, BootError> {
    let until = Instant::now() + PORT_WAIT;
    while Instant::now() < until {
        let ports = fs::read_dir(PORTS).into_iter().flatten().flatten();
        let is_ours =
            |entry: &fs::DirEntry| fs::read_to_string(entry.path().join("name")).is_ok_and(|name| name.trim() == NAME);
        if let Some(found) = ports.into_iter().find(is_ours) {
            return Ok(PathBuf::from("/dev").join(found.file_name()));
        }
        sleep(FIND_POLL);
    }
    Err(BootError { what: format!("find port {NAME}"), cause: ErrorKind::NotFound.into() })
}

impl Port {
    /// The port as the runtime sees it.
    pub fn stream(&self) -> io::Result<tokio::net::UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let (reader, writer) = (self.0.clone(), self.0.clone());
        let (to_runtime, from_runtime) = (theirs.try_clone()?, theirs);
        thread::Builder::new().name("port-read".into()).spawn(move || carry_in(&reader, to_runtime))?;
        thread::Builder::new().name("port-write".into()).spawn(move || carry_out(from_runtime, &writer))?;
        ours.set_nonblocking(true)?;
        tokio::net::UnixStream::from_std(ours)
    }
}

fn carry_in(mut port: &File, mut runtime: UnixStream) {
    let mut bytes = vec![0; CHUNK];
    loop {
        let _ = poll(&mut [PollFd::new(port.as_fd(), PollFlags::POLLIN)], PollTimeout::from(READ_WAIT_MS));
        match port.read(&mut bytes) {
            Ok(0) => sleep(DETACHED_READ),
            Ok(size) => {
                if runtime.write_all(&bytes[..size]).is_err() {
                    return;
                }
            }
            Err(cause) if is_passing(&cause) => {}
            Err(cause) => return eprintln!("plfm-init: read from the host: {cause}"),
        }
    }
}

fn carry_out(mut runtime: UnixStream, port: &File) {
    let mut bytes = vec![0; CHUNK];
    while let Ok(size @ 1..) = runtime.read(&mut bytes) {
        if let Err(cause) = write_all(port, &bytes[..size]) {
            return eprintln!("plfm-init: write to the host: {cause}");
        }
    }
}

fn write_all(mut port: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = [PollFd::new(port.as_fd(), PollFlags::POLLOUT)];
        let _ = poll(&mut ready, PollTimeout::NONE);
        if ready[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)) {
            sleep(DETACHED_WRITE);
            continue;
        }
        match port.write(bytes) {
            Ok(size) => bytes = &bytes[size..],
            Err(cause) if is_passing(&cause) => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(())
}

fn is_passing(cause: &io::Error) -> bool {
    matches!(cause.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
