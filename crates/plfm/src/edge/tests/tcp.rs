use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// Sends back what it gets, in capitals, and ends when the other side has.
async fn shout() -> SocketAddr {
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut heard = String::new();
                stream.read_to_string(&mut heard).await.unwrap();
                stream.write_all(heard.to_uppercase().as_bytes()).await.unwrap();
            });
        }
    });
    at
}

/// A port that was free a moment ago.
async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// Opened some time after the table has changed.
async fn connect(port: u16) -> TcpStream {
    loop {
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(stream) => return stream,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

async fn said(port: u16) -> String {
    let mut stream = connect(port).await;
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.unwrap();
    heard
}

#[tokio::test]
async fn a_port_is_spliced_over_both_paths_with_half_close() {
    let world = World::new().await;
    let (at, port) = (shout().await, free_port().await);
    let tunnel = node::Tunnel::to(&world.ca, at).await;
    for backend in [direct(1, at), relayed(2, &tunnel.at)] {
        world.route(Entry::TcpPort(port), vec![backend]);
        assert_eq!(said(port).await, "HELLO");
    }
}

#[tokio::test]
async fn a_port_closes_when_its_route_goes() {
    let world = World::new().await;
    let port = free_port().await;
    world.route(Entry::TcpPort(port), vec![direct(1, shout().await)]);
    assert_eq!(said(port).await, "HELLO");
    world.table.send_replace(Arc::default());
    while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_port_that_someone_holds_does_not_stop_the_others() {
    let world = World::new().await;
    let held = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (taken, free, at) = (held.local_addr().unwrap().port(), free_port().await, shout().await);
    world.route(Entry::TcpPort(taken), vec![direct(1, at)]);
    world.route(Entry::TcpPort(free), vec![direct(1, at)]);
    assert_eq!(said(free).await, "HELLO");
    let mut closed = world.closed.clone();
    let why = closed.wait_for(|closed| !closed.is_empty()).await.unwrap().clone();
    assert!(why.keys().eq([&taken]) && why[&taken].contains("in use"), "{why:?}");
    world.table.send_replace(Arc::default());
    closed.wait_for(|closed| closed.is_empty()).await.unwrap();
}

#[tokio::test]
async fn without_an_instance_the_connection_ends() {
    let world = World::new().await;
    let port = free_port().await;
    world.route(Entry::TcpPort(port), Vec::new());
    let mut stream = connect(port).await;
    assert!(!matches!(stream.read(&mut [0; 1]).await, Ok(1..)));
}
