//! A node's tunnel with real mutual TLS; every instance behind it is one server.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::http::{Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use plfm_api::tls::{ClientAuth, Peer, Role, node_name, server_config};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::*;

pub struct Tunnel {
    pub at: String,
    pub opened: Arc<AtomicUsize>,
}

impl Tunnel {
    pub async fn to(ca: &Ca, server: SocketAddr) -> Self {
        let identity = ca.identity("node", &node_id().to_string(), &node_name(node_id()));
        let acceptor = TlsAcceptor::from(Arc::new(server_config(&identity, ClientAuth::Required).unwrap()));
        let listener = TcpListener::bind("[::1]:0").await.unwrap();
        let (at, opened) = (listener.local_addr().unwrap().to_string(), Arc::new(AtomicUsize::new(0)));
        let counter = opened.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(tcp).await else { continue };
                assert_eq!(Peer::of(stream.get_ref().1).unwrap().unwrap().role, Role::Edge);
                counter.fetch_add(1, Ordering::Relaxed);
                let service = service_fn(move |request| upgrade(request, server));
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service).with_upgrades());
            }
        });
        Self { at, opened }
    }
}

async fn upgrade(request: Request<Incoming>, server: SocketAddr) -> Result<Response<Full<Bytes>>, Infallible> {
    tokio::spawn(async move {
        let client = hyper::upgrade::on(request).await.unwrap();
        let mut instance = TcpStream::connect(server).await.unwrap();
        let _ = copy_bidirectional(&mut TokioIo::new(client), &mut instance).await;
    });
    Ok(Response::builder().status(StatusCode::SWITCHING_PROTOCOLS).body(Full::default()).unwrap())
}
