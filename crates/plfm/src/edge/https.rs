//! HTTPS: a bounded hello that names the host, then HTTP/1.1 requests, each proxied.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Shared, accept_failed, proxy};

/// From the first byte to the end of the handshake; then to the end of each request's head. A phone on a bad line needs a few.
const HELLO_WAIT: Duration = Duration::from_secs(10);
/// Larger hellos are not seen in the wild: with a post-quantum key share they have about 2 KiB.
const HELLO_BYTES_MAX: usize = 16 * 1024;
/// Of one request's head: cookies of many applications on one domain come near 32 KiB.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;

pub async fn serve(shared: &Arc<Shared>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => shared.spawn(connection(shared.clone(), stream, client)),
            Err(error) => accept_failed(&error).await,
        }
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream, client: SocketAddr) {
    let _ = stream.set_nodelay(true);
    match timeout(HELLO_WAIT, handshake(&shared, stream)).await {
        Ok(Ok(stream)) => requests(shared, stream, client).await,
        Ok(Err(error)) => tracing::debug!(%client, %error, "no handshake"),
        Err(_) => tracing::debug!(%client, "the handshake took too long"),
    }
}

async fn handshake(shared: &Shared, stream: TcpStream) -> io::Result<TlsStream<Bounded>> {
    let stream = Bounded { stream, left: Some(HELLO_BYTES_MAX) };
    let mut hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    hello.io.left = None;
    let name = hello.client_hello().server_name().map(str::to_owned);
    let name = name.ok_or_else(|| io::Error::other("the hello names no host"))?;
    let table = shared.routes.borrow().clone();
    let config = shared.certificates.config(&name, &table);
    let config = config.ok_or_else(|| io::Error::other("the host is not one of this edge"))?;
    hello.into_stream(config).await
}

async fn requests(shared: Arc<Shared>, stream: TlsStream<Bounded>, client: SocketAddr) {
    let name: Arc<str> = stream.get_ref().1.server_name().unwrap_or_default().to_lowercase().into();
    let service = service_fn(|request| {
        let (shared, name) = (shared.clone(), name.clone());
        async move { Ok::<_, std::convert::Infallible>(proxy::answer(&shared, request, &name, client).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HELLO_WAIT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%client, %error, "a connection ended early");
    }
}

/// A stream of which only so much may be read before a hello is whole.
struct Bounded {
    stream: TcpStream,
    left: Option<usize>,
}

impl AsyncRead for Bounded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.left == Some(0) {
            return Poll::Ready(Err(io::Error::other("the hello is too long")));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        this.left = this.left.map(|left| left.saturating_sub(buffer.filled().len() - before));
        read
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
