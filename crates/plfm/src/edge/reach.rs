//! Getting to one instance: directly where a route to its address exists, else through the tunnel of its node.
//!
//! Which of the two worked is remembered for a few seconds, so that a host without a route does not wait for it at each connection.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use plfm_api::tunnel::{Tunnel, TunnelError, Tunnels};
use plfm_api::views::Backend;
use plfm_core::ids::InstanceId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Within a fleet a connection takes milliseconds; what needs longer has no route.
const DIRECT_WAIT: Duration = Duration::from_millis(300);
/// A route may come up; a tunnel may go away.
const REMEMBERED: Duration = Duration::from_secs(10);
/// More than a fleet's instances; beyond it, what is too old is forgotten.
const KNOWN_MAX: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    Direct,
    Relayed,
}

/// Bytes to and from a port of an instance.
pub enum Link {
    Direct(TcpStream),
    Relayed(Box<Tunnel>),
}

#[derive(Debug, thiserror::Error)]
#[error("{instance} is reached neither directly ({direct}) nor through its node ({relayed})")]
pub struct Unreachable {
    pub instance: InstanceId,
    direct: io::Error,
    relayed: TunnelError,
}

pub struct Reach {
    tunnels: Tunnels,
    known: Mutex<HashMap<InstanceId, (Path, Instant)>>,
}

impl Reach {
    pub fn new(tunnels: Tunnels) -> Self {
        Self { tunnels, known: Mutex::default() }
    }

    pub async fn connect(&self, backend: &Backend) -> Result<Link, Unreachable> {
        let instance = backend.instance;
        match self.remembered(instance) {
            Path::Direct => match direct(backend).await {
                Ok(link) => Ok(self.remember(instance, link)),
                Err(direct) => self.relayed(backend).await.map_err(|relayed| Unreachable { instance, direct, relayed }),
            },
            Path::Relayed => match self.relayed(backend).await {
                Ok(link) => Ok(link),
                Err(relayed) => {
                    let link = direct(backend).await.map(|link| self.remember(instance, link));
                    link.map_err(|direct| Unreachable { instance, direct, relayed })
                }
            },
        }
    }

    async fn relayed(&self, backend: &Backend) -> Result<Link, TunnelError> {
        let Backend { instance, node, tunnel, port, .. } = backend;
        let tunnel = self.tunnels.open(*node, tunnel, *instance, *port).await?;
        Ok(self.remember(*instance, Link::Relayed(Box::new(tunnel))))
    }

    fn remembered(&self, instance: InstanceId) -> Path {
        let known = self.known.lock().expect("no panic while it is held");
        let fresh = known.get(&instance).filter(|(_, at)| at.elapsed() < REMEMBERED);
        fresh.map_or(Path::Direct, |(path, _)| *path)
    }

    /// From the first time that it had to be: a relayed path is not prolonged by use, so that a new route is found.
    fn remember(&self, instance: InstanceId, link: Link) -> Link {
        let mut known = self.known.lock().expect("no panic while it is held");
        if known.len() >= KNOWN_MAX {
            known.retain(|_, (_, at)| at.elapsed() < REMEMBERED);
        }
        match known.get(&instance) {
            Some((path, at)) if *path == link.path() && at.elapsed() < REMEMBERED => {}
            _ => drop(known.insert(instance, (link.path(), Instant::now()))),
        }
        link
    }
}

async fn direct(backend: &Backend) -> io::Result<Link> {
    let connect = TcpStream::connect((backend.address, backend.port));
    let stream = timeout(DIRECT_WAIT, connect).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    Ok(Link::Direct(stream))
}

impl Link {
    pub const fn path(&self) -> Path {
        match self {
            Self::Direct(_) => Path::Direct,
            Self::Relayed(_) => Path::Relayed,
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Direct(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Relayed(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Direct(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Relayed(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Direct(stream) => Pin::new(stream).poll_flush(cx),
            Self::Relayed(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Direct(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Relayed(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
