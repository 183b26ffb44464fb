//! Calls over the channel: Connect on HTTP/1.1, one connection on one stream of the multiplexer for each call.
//!
//! A stream costs a round trip of the channel and nothing else, has its own credit, and is reset when its owner goes; so there is no
//! connection to share, to keep alive or to tell apart.

use std::io;
use std::sync::Arc;

use connectrpc::client::{ClientBody, ClientConfig, ClientTransport};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::channel::Opener;

pub use connectrpc::{ConnectError as Error, ErrorCode};

/// Code generated from `proto/`.
#[allow(clippy::all, clippy::todo, rustdoc::all, missing_docs, unused_qualifications)]
pub mod generated {
    ::connectrpc::include_generated!();
}

/// Any connected byte stream: of the multiplexer, of a UNIX socket, of a tunnel.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

type Dial = dyn Fn() -> BoxFuture<'static, io::Result<Box<dyn Io>>> + Send + Sync;

/// Where a client's calls go: gives a fresh connected stream for each.
#[derive(Clone)]
pub struct Target {
    dial: Arc<Dial>,
}

impl Target {
    /// Streams to one port of a multiplexed guest.
    pub fn port(opener: Opener, port: u32) -> Self {
        Self::new(move || {
            let opener = opener.clone();
            async move { opener.open(port).await.map_err(io::Error::other) }
        })
    }

    /// Streams that `dial` makes.
    pub fn new<D, F, S>(dial: D) -> Self
    where
        D: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: Io,
    {
        Self {
            dial: Arc::new(move || dial().map(|stream| stream.map(|stream| Box::new(stream) as Box<dyn Io>)).boxed()),
        }
    }

    /// The name in the requests is for readers of logs only.
    pub(crate) fn config() -> ClientConfig {
        ClientConfig::new(Uri::from_static("http://guest"))
    }
}

impl ClientTransport for Target {
    type ResponseBody = Incoming;
    type Error = CallError;

    fn send(&self, request: Request<ClientBody>) -> BoxFuture<'static, Result<Response<Incoming>, CallError>> {
        let stream = (self.dial)();
        Box::pin(async move {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream.await?)).await?;
            // Ends with the answer's body, or when the caller drops what it waits for.
            tokio::spawn(connection);
            Ok(sender.send_request(request).await?)
        })
    }
}

/// Why a call found no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("cannot reach the guest daemon")]
    Connect(#[from] io::Error),
    #[error("the guest daemon did not answer")]
    Http(#[from] hyper::Error),
}
