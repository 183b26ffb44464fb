//! The relayed way to an instance: through the tunnel of its node, whatever routes exist in between.
//!
//! Mutual TLS to the node, one HTTP/1.1 request that upgrades, then raw bytes in both directions:
//!
//! ```text
//! GET /v1/instances/{instance}/tunnel/{port}
//! Connection: Upgrade
//! Upgrade: plfm-tunnel            ──▶  101, and what follows is the port's
//! ```
//!
//! Who may open which tunnel is the node's to decide; when to use it instead of a direct connection is the caller's.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Empty;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use plfm_core::ids::{InstanceId, NodeId};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tls::{self, Identity, TlsError};

mod fetch;
mod refusal;

/// What the request upgrades to.
pub const PROTOCOL: &str = "plfm-tunnel";
/// The guest's envd service. Every other number is a TCP port of the workload.
pub const ENVD: u16 = 49_983;
/// TCP and TLS with a node that is there take a few round trips.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// The node asks the guest, which may be emulated and just booting.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// Makes tunnels as one identity; TLS sessions are resumed between them.
#[derive(Clone)]
pub struct Tunnels {
    tls: TlsConnector,
}

/// Bytes to and from a port of an instance.
pub struct Tunnel(TokioIo<Upgraded>);

#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    #[error("cannot reach the tunnel of {node} at {at}")]
    Unreachable { node: NodeId, at: String, source: io::Error },
    #[error("the tunnel of {node} at {at} does not answer")]
    Silent { node: NodeId, at: String },
    #[error("the connection to {node} ended before its answer")]
    Cut { node: NodeId, source: hyper::Error },
    /// 404: the instance is not on this node, or not any more.
    #[error("{instance} is not on {node}")]
    NotHere { instance: InstanceId, node: NodeId },
    /// 502, 503: the machine runs, nothing takes the connection.
    #[error("port {port} of {instance} takes no connection: {detail}")]
    PortClosed { instance: InstanceId, port: u16, detail: String },
    #[error("{node} refuses a tunnel to {instance} with status {status}: {detail}")]
    Refused { instance: InstanceId, node: NodeId, status: u16, detail: String },
}

impl Tunnels {
    pub fn new(identity: &Identity) -> Result<Self, TlsError> {
        let mut config = tls::client_config(Some(identity), &identity.ca_pem)?;
        // An upgrade is a thing of HTTP/1.1.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self::with(config))
    }

    fn with(config: ClientConfig) -> Self {
        Self { tls: TlsConnector::from(Arc::new(config)) }
    }

    /// `at` is the node's tunnel, `host:port`; that it is this node is proven by its certificate.
    pub async fn open(&self, node: NodeId, at: &str, instance: InstanceId, port: u16) -> Result<Tunnel, TunnelError> {
        let stream = within(CONNECT_WAIT, node, at, self.connect(node, at)).await?;
        let stream = stream.map_err(|source| TunnelError::Unreachable { node, at: at.to_owned(), source })?;
        within(ANSWER_WAIT, node, at, ask(stream, node, instance, port)).await?
    }

    async fn connect(&self, node: NodeId, at: &str) -> io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(at).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(tls::node_name(node)).map_err(io::Error::other)?;
        self.tls.connect(name, tcp).await
    }
}

async fn within<F: Future>(wait: Duration, node: NodeId, at: &str, work: F) -> Result<F::Output, TunnelError> {
    timeout(wait, work).await.map_err(|_| TunnelError::Silent { node, at: at.to_owned() })
}

async fn ask(
    stream: TlsStream<TcpStream>,
    node: NodeId,
    instance: InstanceId,
    port: u16,
) -> Result<Tunnel, TunnelError> {
    let cut = |source| TunnelError::Cut { node, source };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(cut)?;
    // Ends when the upgraded stream is dropped.
    tokio::spawn(connection.with_upgrades());
    let answer = sender.send_request(request(node, instance, port)).await.map_err(cut)?;
    if answer.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        return Err(refusal::read(answer, node, instance, port).await);
    }
    let upgraded = hyper::upgrade::on(answer).await.map_err(cut)?;
    Ok(Tunnel(TokioIo::new(upgraded)))
}

fn request(node: NodeId, instance: InstanceId, port: u16) -> http::Request<Empty<&'static [u8]>> {
    http::Request::get(format!("/v1/instances/{instance}/tunnel/{port}"))
        .header(http::header::HOST, tls::node_name(node))
        .header(http::header::CONNECTION, "Upgrade")
        .header(http::header::UPGRADE, PROTOCOL)
        .body(Empty::new())
        .expect("ids and numbers are plain ASCII")
}

impl AsyncRead for Tunnel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
