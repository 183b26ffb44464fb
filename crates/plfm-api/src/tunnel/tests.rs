use std::convert::Infallible;

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use ulid::Ulid;

use super::*;
use crate::tls::tests::Ca;
use crate::tls::{ClientAuth, Peer, Role};

fn node() -> NodeId {
    NodeId::new(Ulid::from_parts(1, 1))
}

fn instance(number: u128) -> InstanceId {
    InstanceId::new(Ulid::from_parts(1, number))
}

/// A node's tunnel that echoes on port 8080 of instance 1 and knows no other instance.
async fn serve(ca: &Ca) -> String {
    let config = tls::server_config(&ca.node(node()), ClientAuth::Required).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(tcp).await else { continue };
            let peer = Peer::of(stream.get_ref().1).unwrap().unwrap();
            assert_eq!(peer.role, Role::Edge);
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .with_upgrades();
            tokio::spawn(connection);
        }
    });
    at
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let echo = format!("/v1/instances/{}/tunnel/8080", instance(1));
    let status = match path {
        path if path == echo => StatusCode::SWITCHING_PROTOCOLS,
        path if path.contains(&instance(1).to_string()) => StatusCode::BAD_GATEWAY,
        _ => StatusCode::NOT_FOUND,
    };
    if status == StatusCode::SWITCHING_PROTOCOLS {
        assert_eq!(request.headers()[http::header::UPGRADE], PROTOCOL);
        tokio::spawn(echo_on(hyper::upgrade::on(request)));
    }
    Ok(Response::builder().status(status).body(Full::default()).unwrap())
}

async fn echo_on(upgrade: hyper::upgrade::OnUpgrade) {
    let (mut read, mut write) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
    tokio::io::copy(&mut read, &mut write).await.unwrap();
    write.shutdown().await.unwrap();
}

fn tunnels(ca: &Ca) -> Tunnels {
    Tunnels::new(&ca.identity("edge", "edge-a", "edge-a.edge.plfm")).unwrap()
}

#[tokio::test]
async fn bytes_pass_both_ways_and_the_end_is_passed_on() {
    let ca = Ca::new();
    let at = serve(&ca).await;
    let mut tunnel = tunnels(&ca).open(node(), &at, instance(1), 8080).await.unwrap();
    let sent = vec![7; 300_000];
    let (mut read, mut write) = tokio::io::split(&mut tunnel);
    let mut received = Vec::new();
    let send = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    tokio::join!(send, async { read.read_to_end(&mut received).await.unwrap() });
    assert_eq!(received, sent);
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let ca = Ca::new();
    let at = serve(&ca).await;
    let open = async |at: &str, node, number, port| {
        tunnels(&ca).open(node, at, instance(number), port).await.map(drop).unwrap_err()
    };
    assert!(matches!(open(&at, node(), 2, 8080).await, TunnelError::NotHere { .. }));
    assert!(matches!(open(&at, node(), 1, 81).await, TunnelError::PortClosed { port: 81, .. }));
    let other = NodeId::new(Ulid::from_parts(9, 9));
    assert!(matches!(open(&at, other, 1, 8080).await, TunnelError::Unreachable { .. }), "the certificate is another's");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    assert!(matches!(open(&closed, node(), 1, 8080).await, TunnelError::Unreachable { .. }));
}
