//! The host's byte streams under Firecracker: connections to a port of the vsock, each in place of the one before it.
//!
//! Unlike a serial port's stream they end, with the host's process and whenever the machine is saved.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::{io, os};

use nix::libc::VMADDR_CID_ANY;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, VsockAddr, accept4, bind, getpeername, listen, socket,
};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

use super::BootError;

/// linux/vm_sockets.h
const HOST_CID: u32 = 2;

pub struct Vsock {
    listener: OwnedFd,
}

impl Vsock {
    pub fn listen(port: u32) -> Result<Self, BootError> {
        let listening = || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let listener = socket(AddressFamily::Vsock, SockType::Stream, flags, None)?;
            bind(listener.as_raw_fd(), &VsockAddr::new(VMADDR_CID_ANY, port))?;
            listen(&listener, Backlog::new(4)?)?;
            Ok::<_, nix::Error>(Self { listener })
        };
        listening().map_err(BootError::of(format!("listen on vsock port {port}")))
    }

    /// Connections of the host; whatever else in this machine finds the port is turned away.
    pub fn connections(self) -> io::Result<impl AsyncFnMut() -> io::Result<UnixStream>> {
        // SAFETY: the registration owns the descriptor, which is open until it goes.
        let listener = unsafe { AsyncFd::register(self.listener) }?;
        Ok(async move || {
            loop {
                let mut ready = listener.readable().await?;
                if let Ok(Ok(stream)) = ready.try_io(|listener| accept(listener.as_fd().as_raw_fd())) {
                    return UnixStream::from_std(stream);
                }
            }
        })
    }
}

/// A stream socket is read and written in one way, whatever its family.
fn accept(listener: os::fd::RawFd) -> io::Result<os::unix::net::UnixStream> {
    let fd = accept4(listener, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    // SAFETY: it was opened for us just now.
    let stream = unsafe { OwnedFd::from_raw_fd(fd) };
    let peer: VsockAddr = getpeername(fd)?;
    if peer.cid() == HOST_CID { Ok(stream.into()) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
}
