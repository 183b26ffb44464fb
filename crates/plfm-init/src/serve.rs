//! What is behind each port of the channel.

use std::sync::Arc;

use bytes::Bytes;
use connectrpc::{ConnectRpcService, Router};
use http::{Request, Response};
use hyper::body::{Body, Incoming as RequestBody};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use plfm_api::channel::{Acceptor, Incoming, Stream, port};

use crate::daemon::Daemon;
use crate::{envd, net, service};

/// Takes streams until the byte stream ends.
pub async fn serve(daemon: Arc<Daemon>, mut acceptor: Acceptor) {
    let ports = Ports {
        guest: rpc(service::router(&daemon)),
        envd: envd::Web::new(rpc(envd::router(&daemon)), daemon.clone()),
        daemon,
    };
    while let Some(incoming) = acceptor.next().await {
        tokio::spawn(ports.clone().take(incoming));
    }
}

pub type Rpc = TowerToHyperService<ConnectRpcService>;

fn rpc(router: Router) -> Rpc {
    TowerToHyperService::new(ConnectRpcService::new(router))
}

#[derive(Clone)]
struct Ports {
    guest: Rpc,
    envd: envd::Web,
    daemon: Arc<Daemon>,
}

impl Ports {
    async fn take(self, incoming: Incoming) {
        match incoming.port {
            port::GUEST => http(incoming.accept(), self.guest).await,
            port::ENVD => http(incoming.accept(), self.envd).await,
            dialed => match dialed.checked_sub(port::DIAL).map(u16::try_from) {
                Some(Ok(tcp @ 1..)) => net::dial::splice(incoming, tcp, self.daemon.config()).await,
                _ => incoming.refuse("the guest daemon has no such port"),
            },
        }
    }
}

/// One connection; its end is of interest to its caller only.
async fn http<S, B>(stream: Stream, service: S)
where
    S: Service<Request<RequestBody>, Response = Response<B>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
