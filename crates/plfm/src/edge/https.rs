//! TLS: a bounded hello that names the host. Either all of it is passed through, as it came, or TLS ends here, and each request of
//! HTTP/1.1 or HTTP/2 is proxied.

use std::io::{self, Cursor};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BufMut;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use plfm_api::client_hello::{self, Hello as ClientHello};
use plfm_core::event::{Entry, Tls};
use tokio::io::{AsyncReadExt, Chain, Join};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Pass, Shared, accept_failed, attend, ports, proxy};

/// From the first byte to the end of the handshake; then to the end of each request's head. A phone on a bad line needs a few.
const HELLO_WAIT: Duration = Duration::from_secs(10);
const HELLO_BYTES_USUAL: usize = 2 * 1024;
/// Of one request's head: cookies of many applications on one domain come near 32 KiB.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;
/// Requests at once on one connection of HTTP/2; each has a connection to an instance.
const STREAMS_MAX: u32 = 100;
/// No connection is kept for a client that asks for nothing any more; what it has asked for is answered first.
const QUIET_MAX: Duration = Duration::from_secs(75);
/// A client that does not answer a ping of HTTP/2 is gone.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_WAIT: Duration = Duration::from_secs(20);

pub async fn serve(shared: &Arc<Shared>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                if let Some(pass) = shared.admit(client) {
                    shared.spawn(connection(shared.clone(), stream, client, pass));
                }
            }
            Err(error) => accept_failed(&error).await,
        }
    }
}

async fn connection(shared: Arc<Shared>, mut stream: TcpStream, client: SocketAddr, pass: Arc<Pass>) {
    attend(&stream);
    let begun = Instant::now();
    let (hello, said) = match timeout(HELLO_WAIT, hello(&mut stream)).await {
        Ok(Ok(said)) => said,
        Ok(Err(error)) => return tracing::debug!(%client, %error, "no hello"),
        Err(_) => return tracing::debug!(%client, "the hello took too long"),
    };
    let Some(name) = hello.name else { return tracing::debug!(%client, "the hello names no host") };
    let route = shared.route(&Entry::Hostname(name.clone()));
    if let Some(route) = route.filter(|route| route.tls == Tls::Passthrough) {
        return ports::splice(&shared, stream, &said, client, &route).await;
    }
    match timeout(HELLO_WAIT.saturating_sub(begun.elapsed()), handshake(&shared, &name, stream, said)).await {
        Ok(Ok(stream)) => requests(shared, stream, name.into(), client, pass).await,
        Ok(Err(error)) => tracing::debug!(%client, %error, "no handshake"),
        Err(_) => tracing::debug!(%client, "the handshake took too long"),
    }
}

/// What the client says first, and all bytes that have come.
async fn hello(stream: &mut TcpStream) -> io::Result<(ClientHello, Vec<u8>)> {
    let mut said = Vec::with_capacity(HELLO_BYTES_USUAL);
    loop {
        let room = client_hello::BYTES_MAX - said.len();
        if stream.read_buf(&mut (&mut said).limit(room)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(hello) = client_hello::parse(&said).map_err(io::Error::other)? {
            return Ok((hello, said));
        }
    }
}

/// A stream whose first bytes have been read already.
type Rewound = Join<Chain<Cursor<Vec<u8>>, OwnedReadHalf>, OwnedWriteHalf>;

async fn handshake(shared: &Shared, name: &str, stream: TcpStream, said: Vec<u8>) -> io::Result<TlsStream<Rewound>> {
    let table = shared.routes.borrow().clone();
    let config = shared.certificates.config(name, &table);
    let config = config.ok_or_else(|| io::Error::other("the host is not one of this edge"))?;
    let (read, write) = stream.into_split();
    TlsAcceptor::from(config).accept(tokio::io::join(Cursor::new(said).chain(read), write)).await
}

async fn requests(
    shared: Arc<Shared>,
    stream: TlsStream<Rewound>,
    name: Arc<str>,
    client: SocketAddr,
    pass: Arc<Pass>,
) {
    let protocol = protocol(stream.get_ref().1.alpn_protocol());
    let asked = Notify::new();
    let service = service_fn(|request| {
        asked.notify_one();
        let (shared, name, pass) = (shared.clone(), name.clone(), pass.clone());
        async move { Ok::<_, std::convert::Infallible>(proxy::answer(&shared, request, &name, client, &pass).await) }
    });
    let mut connection = pin!(protocol.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        never = is_quiet(&asked) => {
            if never {
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = shared.closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%client, %error, "a connection ended early");
    }
}

/// As was agreed in the handshake: what a client sends first does not choose it once more.
fn protocol(agreed: Option<&[u8]>) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HELLO_WAIT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WAIT);
    if agreed == Some(b"h2") { builder.http2_only() } else { builder.http1_only() }
}

/// Until there was no request for a while; whether there never was one.
async fn is_quiet(asked: &Notify) -> bool {
    if timeout(HELLO_WAIT, asked.notified()).await.is_err() {
        return true;
    }
    while timeout(QUIET_MAX, asked.notified()).await.is_ok() {}
    false
}
