//! Sockets in a machine's directory. They are bound before the monitor starts, which then inherits them listening: there is nothing to
//! wait for, and the monitor needs no right to the directory.
//!
//! A socket's path may have 107 bytes. Directories are longer than that at times, so paths go through a descriptor of the directory.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

pub const CONSOLE: &str = "console";
pub const CONTROL: &str = "control";
/// The virtio port's other end.
pub const CHANNEL: &str = "channel";
/// Speaks `CONNECT port`, whichever monitor runs.
pub const CONNECT: &str = "connect";

pub fn bind(dir: &Path, name: &str) -> io::Result<UnixListener> {
    let _ = fs::remove_file(dir.join(name));
    through(dir, |short| UnixListener::bind(short.join(name)))
}

/// For who may block.
pub fn connect_blocking(dir: &Path, name: &str) -> io::Result<UnixStream> {
    through(dir, |short| UnixStream::connect(short.join(name)))
}

pub fn connect(dir: &Path, name: &str) -> io::Result<tokio::net::UnixStream> {
    let stream = connect_blocking(dir, name)?;
    stream.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(stream)
}

fn through<T>(dir: &Path, act: impl FnOnce(PathBuf) -> io::Result<T>) -> io::Result<T> {
    let open = File::open(dir)?;
    act(PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd())))
}
