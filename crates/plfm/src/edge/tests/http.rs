use std::sync::atomic::Ordering;

use ::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::routing::{any, get, post};
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use plfm_api::problem::Problem;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite;

use super::*;

const HOST: &str = "shop.localhost";

/// An app as people write them.
async fn app(name: &'static str) -> SocketAddr {
    let seen = async |headers: HeaderMap| {
        let header = |name: &str| headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
        let names = [
            "host",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-secret",
            "connection",
            "cookie",
            "forwarded",
        ];
        names.map(header).join(" ")
    };
    let echo = async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async |mut socket| {
            while let Some(Ok(Message::Text(text))) = socket.recv().await {
                socket.send(Message::Text(text)).await.unwrap();
            }
        })
    };
    let call = async |request: Request<Body>| {
        let seen = format!("{:?} {:?}", request.version(), request.headers()["te"]);
        let asked = to_bytes(request.into_body(), 1024).await.unwrap();
        let told = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
        let frames = [Frame::data(asked), Frame::trailers(told)].map(Ok::<_, std::convert::Infallible>);
        let body = Body::new(StreamBody::new(futures::stream::iter(frames)));
        Response::builder().header("content-type", "application/grpc").header("x-seen", seen).body(body).unwrap()
    };
    let router = Router::new()
        .route("/shop.Till/Pay", post(call))
        .route("/slow", get(async || slow().await))
        .route("/", get(async move || name))
        .route("/seen", get(seen))
        .route("/echo", any(echo))
        .route("/back", post(async |body: Body| body));
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    at
}

#[tokio::test]
async fn a_request_goes_the_direct_way() {
    let world = World::new().await;
    world.route(hostname(HOST), vec![direct(1, app("one").await)]);
    assert_eq!(world.get(HOST, "/").await.text().await.unwrap(), "one");
}

#[tokio::test]
async fn where_there_is_no_route_the_nodes_tunnel_is_taken_and_remembered() {
    let world = World::new().await;
    let tunnel = node::Tunnel::to(&world.ca, app("far").await).await;
    world.route(hostname(HOST), vec![relayed(1, &tunnel.at)]);
    for _ in 0..3 {
        assert_eq!(world.get(HOST, "/").await.text().await.unwrap(), "far");
    }
    assert_eq!(tunnel.opened.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn instances_take_turns_and_one_that_is_gone_is_passed_over() {
    let world = World::new().await;
    let (one, two) = (direct(1, app("one").await), direct(2, app("two").await));
    let gone = relayed(3, "[::1]:1");
    world.route(hostname(HOST), vec![one, gone, two]);
    let client = world.client(HOST);
    let mut heard = Vec::new();
    for _ in 0..6 {
        heard.push(client.get(world.url(HOST, "/")).send().await.unwrap().text().await.unwrap());
    }
    heard.sort();
    heard.dedup();
    assert_eq!(heard, ["one", "two"]);
}

#[tokio::test]
async fn the_app_sees_who_asked_and_not_what_they_claim() {
    let world = World::new().await;
    world.route(hostname(HOST), vec![direct(1, app("one").await)]);
    let request = world.client(HOST).get(world.url(HOST, "/seen"));
    let request = request
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-secret", "s")
        .header("forwarded", "for=6.6.6.6")
        .header("connection", "x-secret");
    let seen = request.send().await.unwrap().text().await.unwrap();
    let host = format!("{HOST}:{}", world.https.port());
    assert_eq!(seen, format!("{host} 127.0.0.1 https {host} - - - -"));
}

#[tokio::test]
async fn bodies_stream_through() {
    let world = World::new().await;
    let tunnel = node::Tunnel::to(&world.ca, app("far").await).await;
    world.route(hostname(HOST), vec![relayed(1, &tunnel.at)]);
    let body = vec![b'x'; 3 << 20];
    let request = world.client(HOST).post(world.url(HOST, "/back")).body(body.clone());
    assert!(request.send().await.unwrap().bytes().await.unwrap() == body, "the body comes back as it went");
}

#[tokio::test]
async fn a_websocket_is_passed_through_over_both_paths() {
    let world = World::new().await;
    let at = app("one").await;
    let tunnel = node::Tunnel::to(&world.ca, at).await;
    for backend in [direct(1, at), relayed(2, &tunnel.at)] {
        world.route(hostname(HOST), vec![backend]);
        let stream = connect(&world, HOST).await.unwrap();
        let (mut socket, _) = tokio_tungstenite::client_async(format!("wss://{HOST}/echo"), stream).await.unwrap();
        socket.send(tungstenite::Message::text("hello")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), tungstenite::Message::text("hello"));
    }
}

#[tokio::test]
async fn http2_is_spoken_with_who_offers_it() {
    let world = World::new().await;
    world.route(hostname(HOST), vec![direct(1, app("one").await)]);
    let mut sender = http2(&world).await;
    let request = Request::get(format!("https://{HOST}/seen")).header("cookie", "a=1").header("cookie", "b=2");
    let answer = sender.send_request(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    assert_eq!(text(answer).await, format!("{HOST} 127.0.0.1 https {HOST} - - a=1; b=2 -"));
    let asked = (0..50).map(|_| Request::get(format!("https://{HOST}/")).body(Body::empty()).unwrap());
    let answers = futures::future::join_all(asked.map(|request| sender.send_request(request))).await;
    for answer in answers {
        assert_eq!(text(answer.unwrap()).await, "one");
    }
    let other = Request::get("https://other.localhost/").body(Body::empty()).unwrap();
    assert_eq!(sender.send_request(other).await.unwrap().status(), StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn a_call_of_grpc_keeps_its_version_and_its_trailers() {
    let world = World::new().await;
    let at = app("one").await;
    let tunnel = node::Tunnel::to(&world.ca, at).await;
    for backend in [direct(1, at), relayed(2, &tunnel.at)] {
        world.route(hostname(HOST), vec![backend]);
        let request = Request::post(format!("https://{HOST}/shop.Till/Pay")).header("content-type", "application/grpc");
        let request = request.header("te", "trailers").body(Body::from("a message")).unwrap();
        let answer = http2(&world).await.send_request(request).await.unwrap();
        assert_eq!(answer.headers()["x-seen"], r#"HTTP/2.0 "trailers""#);
        let whole = answer.into_body().collect().await.unwrap();
        assert_eq!(whole.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(whole.to_bytes(), "a message");
    }
}

#[tokio::test]
async fn what_was_asked_is_answered_before_the_edge_ends() {
    let world = World::new().await;
    world.route(hostname(HOST), vec![direct(1, app("one").await)]);
    let (mut idle, mut busy) = (http2(&world).await, http2(&world).await);
    let asks = |path: &str| Request::get(format!("https://{HOST}{path}")).body(Body::empty()).unwrap();
    text(idle.send_request(asks("/")).await.unwrap()).await;
    let slow = tokio::spawn(busy.send_request(asks("/slow")));
    ASKED.notified().await;
    world.stop.send_replace(true);
    while !idle.is_closed() {
        tokio::task::yield_now().await;
    }
    assert!(!world.edge.is_finished() && !slow.is_finished());
    ANSWER.notify_one();
    assert_eq!(text(slow.await.unwrap().unwrap()).await, "slow");
    world.edge.await.unwrap();
}

#[tokio::test]
async fn one_client_has_so_many_connections() {
    let world = World::with(Bounds { open: 10, open_by_one: 2, new_per_second: 1_000 }).await;
    world.route(hostname(HOST), vec![direct(1, app("one").await)]);
    let held = (connect(&world, HOST).await.unwrap(), connect(&world, HOST).await.unwrap());
    assert!(connect(&world, HOST).await.is_err());
    drop(held.0);
    // The edge has to notice it first.
    let stream = loop {
        if let Ok(stream) = connect(&world, HOST).await {
            break stream;
        }
        tokio::task::yield_now().await;
    };
    drop(held.1);
    // What a connection has become counts as one.
    let (socket, _) = tokio_tungstenite::client_async(format!("wss://{HOST}/echo"), stream).await.unwrap();
    let other = loop {
        if let Ok(stream) = connect(&world, HOST).await {
            break stream;
        }
        tokio::task::yield_now().await;
    };
    assert!(connect(&world, HOST).await.is_err());
    drop((socket, other));
}

#[tokio::test]
async fn what_cannot_be_served_is_said() {
    let world = World::new().await;
    let problem = async |host: &str| world.get(host, "/").await.json::<Problem>().await.unwrap();
    let unknown = problem("nobody.localhost").await;
    assert_eq!((unknown.status, unknown.detail.as_str()), (404, "no app is served under `nobody.localhost`"));
    world.route(hostname(HOST), Vec::new());
    let none = problem(HOST).await;
    assert_eq!((none.status, none.detail.as_str()), (503, "`shop` has no instance that is ready"));
    world.route(hostname(HOST), vec![relayed(1, "[::1]:1")]);
    let unreached = problem(HOST).await;
    assert_eq!((unreached.status, unreached.code.as_str()), (502, "backend_unreachable"));
    assert_eq!(unreached.hint, "`plfm explain shop` says why");
}

#[tokio::test]
async fn a_name_of_someone_else_gets_no_certificate_and_a_connection_serves_its_own_name_only() {
    let world = World::new().await;
    assert!(connect(&world, "example.org").await.is_err());
    let mut stream = connect(&world, HOST).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: other.localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
}

#[tokio::test]
async fn a_hello_without_end_and_a_head_without_end_are_cut() {
    let world = World::new().await;
    let mut plain = TcpStream::connect(world.https).await.unwrap();
    // A handshake record of the longest allowed length, that says its message has 16 MiB.
    let record = [b"\x16\x03\x01\x40\x00\x01\xff\xff\xff".as_slice(), &[0; 0x4000 - 4]].concat();
    let _ = plain.write_all(&record.repeat(64)).await;
    let mut alert = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), plain.read_to_end(&mut alert)).await;
    assert!(ended.is_ok(), "it is cut for its length, before its time is over");
    let mut stream = connect(&world, HOST).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX: {}", "x".repeat(1 << 20));
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn every_prefix_of_a_hello_leaves_the_edge_alive() {
    let world = World::new().await;
    let config = plfm_api::tls::client_config(None, &world.ca.pem).unwrap();
    let name = ServerName::try_from(HOST).unwrap();
    let mut hello = Vec::new();
    rustls::ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut hello).unwrap();
    for cut in 0..hello.len() {
        let mut stream = TcpStream::connect(world.https).await.unwrap();
        stream.write_all(&hello[..cut]).await.unwrap();
    }
    world.route(hostname(HOST), vec![direct(1, app("alive").await)]);
    assert_eq!(world.get(HOST, "/").await.text().await.unwrap(), "alive");
}

static ASKED: Notify = Notify::const_new();
static ANSWER: Notify = Notify::const_new();

/// Says that it was asked, and answers when it is told to.
async fn slow() -> &'static str {
    ASKED.notify_one();
    ANSWER.notified().await;
    "slow"
}

async fn text(answer: Response<Incoming>) -> String {
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn http2(world: &World) -> hyper::client::conn::http2::SendRequest<Body> {
    let stream = connect_for(world, HOST, "h2").await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(executor, hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn connect(world: &World, host: &'static str) -> io::Result<TlsStream<TcpStream>> {
    connect_for(world, host, "http/1.1").await
}

async fn connect_for(world: &World, host: &'static str, protocol: &str) -> io::Result<TlsStream<TcpStream>> {
    let mut config = plfm_api::tls::client_config(None, &world.ca.pem).unwrap();
    config.alpn_protocols = vec![protocol.into()];
    let tcp = TcpStream::connect(world.https).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(host).unwrap(), tcp).await
}
