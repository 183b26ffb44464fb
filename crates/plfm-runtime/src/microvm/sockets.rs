//! Sockets in a machine's directory. They are bound before the monitor starts, which then inherits them listening: there is nothing to
//! wait for, and the monitor needs no right to the directory.
//!
//! A socket's path may have 107 bytes. Directories are longer than that at times, so paths go through a descriptor of the directory.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK, O_PATH};

pub const CONSOLE: &str = "console";
pub const CONTROL: &str = "control";
/// The virtio port's other end.
pub const CHANNEL: &str = "channel";
/// Speaks `CONNECT port`, whichever monitor runs.
pub const CONNECT: &str = "connect";
/// A directory for a monitor that makes its sockets itself, and for nothing else of it.
pub const OWN: &str = "own";
/// There from the first picture of a run on.
pub const SAVED: &str = "saved";

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

/// In a directory that belongs to a monitor: a link would lead us where it cannot go itself.
pub fn connect_strictly(dir: &Path, name: &str) -> io::Result<UnixStream> {
    let socket = File::options().read(true).custom_flags(O_PATH | O_NOFOLLOW).open(dir.join(name))?;
    if !socket.metadata()?.file_type().is_socket() {
        return Err(io::Error::other(format!("{name} is not a socket")));
    }
    let stream = UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd()))?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// An ordinary file there, for reading.
pub fn open_strictly(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path)?;
    let ordinary = file.metadata()?.is_file();
    if ordinary { Ok(file) } else { Err(io::Error::other(format!("{} is not an ordinary file", path.display()))) }
}

fn through<T>(dir: &Path, act: impl FnOnce(PathBuf) -> io::Result<T>) -> io::Result<T> {
    let open = File::open(dir)?;
    act(PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd())))
}
