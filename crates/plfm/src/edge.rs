//! The edge: where traffic for apps enters, and how it gets to a ready instance.
//!
//! ```text
//!   TLS ─▶ hello (SNI) ─▶ TLS ends here ─▶ HTTP request ─▶ host in the table ─▶ backend
//!                     └─▶ host in the table, passed through ───────────────────▶ backend
//!   TCP port of the table ─────────────────────────────────────────────────────▶ backend
//! ```
//!
//! [`https`] and [`ports`] take connections, [`proxy`] passes one HTTP exchange on, [`backends`] chooses an instance and [`reach`] gets
//! to it, directly or through the tunnel of its node. What is routed where is decided by the server: the edge only has its table.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plfm_api::tls::{Identity, TlsError};
use plfm_api::tunnel::Tunnels;
use plfm_api::views::{ClosedPorts, EdgeRoute, RouteTable};
use plfm_core::event::Entry;
use rustix::net::sockopt;
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod backends;
mod certificates;
mod https;
mod limits;
mod ports;
mod proxy;
mod reach;
mod refusal;

use backends::Backends;
use certificates::Certificates;
pub use limits::Bounds;
use limits::{Limits, Pass};

/// Connections still open when the edge stops get this long to end.
const DRAIN_MAX: Duration = Duration::from_secs(3);

pub struct Config {
    /// Where HTTPS is taken. Plain TCP ports of the table are opened on the same address.
    pub https: SocketAddr,
    /// Names below it are ours: unknown ones get an answer that says so, all others no certificate.
    pub domain: String,
    /// Shown to the tunnels of nodes.
    pub identity: Identity,
    pub certificates: Issue,
    pub bounds: Bounds,
    /// The newest is what counts; that it ends means nothing.
    pub routes: watch::Receiver<Arc<RouteTable>>,
    /// Told what of the table cannot be opened.
    pub closed: watch::Sender<ClosedPorts>,
}

/// Gives the certificate for a host name. What it gives is kept for a while.
pub type Issue = Box<dyn Fn(&str) -> Option<Arc<CertifiedKey>> + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    #[error("cannot listen on {address} for HTTPS")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("the edge's identity cannot be used")]
    Identity(#[from] TlsError),
}

/// An edge that listens and does not serve yet.
pub struct Edge {
    shared: Arc<Shared>,
    https: TcpListener,
    address: SocketAddr,
}

/// What every connection needs.
struct Shared {
    routes: watch::Receiver<Arc<RouteTable>>,
    closed: watch::Sender<ClosedPorts>,
    backends: Backends,
    certificates: Certificates,
    limits: Limits,
    /// Connections, to be waited for.
    open: TaskTracker,
    /// What is asked is answered, and nothing more.
    closing: CancellationToken,
    stop: CancellationToken,
}

impl Edge {
    pub async fn build(config: Config) -> Result<Self, EdgeError> {
        let listen = |source| EdgeError::Listen { address: config.https, source };
        let https = TcpListener::bind(config.https).await.map_err(listen)?;
        let address = https.local_addr().map_err(listen)?;
        let shared = Shared {
            backends: Backends::new(Tunnels::new(&config.identity)?),
            certificates: Certificates::new(&config.domain, config.certificates),
            limits: Limits::new(config.bounds),
            routes: config.routes,
            closed: config.closed,
            open: TaskTracker::new(),
            closing: CancellationToken::new(),
            stop: CancellationToken::new(),
        };
        Ok(Self { shared: Arc::new(shared), https, address })
    }

    pub fn https_address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` turns true or its sender is gone, then lets open connections end.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let Self { shared, https, address } = self;
        let listening = async { tokio::join!(https::serve(&shared, https), ports::serve(&shared, address.ip())) };
        tokio::select! {
            _ = listening => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        shared.closing.cancel();
        shared.open.close();
        if tokio::time::timeout(DRAIN_MAX, shared.open.wait()).await.is_err() {
            tracing::info!(connections = shared.open.len(), "the edge cuts connections that are still open");
        }
        shared.stop.cancel();
    }
}

impl Shared {
    /// As the newest table has it.
    fn route(&self, entry: &Entry) -> Option<EdgeRoute> {
        self.routes.borrow().find(entry).cloned()
    }

    /// None for a client that may not have one more connection.
    fn admit(&self, client: SocketAddr) -> Option<Arc<Pass>> {
        let pass = self.limits.admit(client.ip(), Instant::now());
        pass.inspect_err(|limit| tracing::debug!(%client, %limit, "a connection is refused")).ok().map(Arc::new)
    }

    /// Runs until the connection ends, or the edge does.
    fn spawn(self: &Arc<Self>, connection: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.open.spawn(async move {
            tokio::select! {
                () = connection => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

/// Small answers go out at once, and a client that is gone without a word is noticed (P-EDGE §11.4).
fn attend(stream: &TcpStream) {
    const SILENT_MAX: Duration = Duration::from_secs(60);
    let kept = || {
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, SILENT_MAX)
    };
    let _ = (stream.set_nodelay(true), kept());
}

/// Waits out what makes a listener fail for a while, such as too many open files.
async fn accept_failed(error: &io::Error) {
    tracing::warn!(%error, "cannot take a connection");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[cfg(test)]
mod tests;
