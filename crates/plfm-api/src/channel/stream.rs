//! One stream as tokio sees it. Shutting down sends FIN and leaves reading open; dropped unfinished, the peer sees a reset.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::driver::Shared;
use super::machine::{Key, Read, Written};

pub struct Stream {
    key: Key,
    shared: Arc<Shared>,
}

impl Stream {
    pub(super) fn new(key: Key, shared: Arc<Shared>) -> Self {
        Self { key, shared }
    }

    pub(super) fn key(&self) -> Key {
        self.key
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.shared.lock();
        match inner.machine.read(self.key, buf.remaining(), |bytes| buf.put_slice(bytes)) {
            Read::Bytes(_) => {
                inner.wake_driver();
                Poll::Ready(Ok(()))
            }
            Read::End => Poll::Ready(Ok(())),
            Read::Empty => inner.wait_to_read(self.key, cx),
            Read::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.shared.lock();
        match inner.machine.write(self.key, bytes) {
            Written::Bytes(size) => {
                inner.wake_driver();
                Poll::Ready(Ok(size))
            }
            Written::Full => inner.wait_to_write(self.key, cx),
            Written::Broken => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// The driver sends what is written without being asked; waiting here for the peer's credit would only stall the owner.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.shared.lock();
        inner.machine.finish(self.key);
        inner.wake_driver();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        inner.machine.abandon(self.key);
        inner.forget(self.key);
        inner.wake_driver();
    }
}
