//! Ports of the channel, and through it of the machine.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use plfm_api::channel::{OpenError, port};
use plfm_api::guest::{ConfigureRequest, Network};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::daemon::{Daemon, request};

/// The instance's "own address" is any of the host's that is not loopback's first; Linux answers on all of 127/8.
const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

async fn daemon(sandbox: bool) -> Daemon {
    let daemon = Daemon::start().await;
    let network = Network { ipv4: OWN.to_string(), ipv4_prefix: 32, loopback_only: true, ..Default::default() };
    let asked = ConfigureRequest { network: network.into(), sandbox, ..request(["/bin/sleep", "1000"]) };
    daemon.guest.configure(asked).await.unwrap();
    daemon
}

async fn listen(address: IpAddr) -> (TcpListener, u16) {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Answers one request in the plainest way.
fn answer(listener: TcpListener, text: &'static str) {
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(text.as_bytes()).await;
        }
    });
}

#[tokio::test]
async fn a_port_of_the_machine_is_spliced() {
    let (daemon, (listener, port)) = (daemon(false).await, listen(OWN).await);
    answer(listener, "hello");
    let mut stream = daemon.opener.open(port::dial(port)).await.unwrap();
    stream.write_all(b"?").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello");
}

#[tokio::test]
async fn loopback_is_for_sandboxes_only() {
    let (listener, port) = listen(Ipv4Addr::LOCALHOST.into()).await;
    answer(listener, "hello");
    let refused = daemon(false).await.opener.open(port::dial(port)).await.map(drop).unwrap_err();
    let reason = format!("port {port} of 127.0.0.2: connection refused");
    assert_eq!(refused, OpenError::Refused { port: port::dial(port), reason });
    daemon(true).await.opener.open(port::dial(port)).await.unwrap();
}

#[tokio::test]
async fn ports_that_are_none_are_refused() {
    let daemon = daemon(true).await;
    for port in [0, 2, 49_984, port::DIAL, port::DIAL + 65_536, u32::MAX] {
        let refused = daemon.opener.open(port).await.map(drop);
        assert!(matches!(refused, Err(OpenError::Refused { .. })), "{port}: {refused:?}");
    }
}

#[tokio::test]
async fn probes_see_health_and_say_what_ails() {
    let daemon = daemon(true).await;
    let within = Duration::from_secs(10);
    let (listener, port) = listen(OWN).await;
    answer(listener, "HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n");
    assert!(daemon.guest.probe_tcp(port, within).await.unwrap().healthy);
    let found = daemon.guest.probe_http(port, "/health", within).await.unwrap();
    assert_eq!((found.healthy, found.http_status), (true, 302));
    let (listener, port) = listen(OWN).await;
    answer(listener, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
    let sick = daemon.guest.probe_http(port, "/health", within).await.unwrap();
    assert_eq!(
        (sick.healthy, sick.http_status, sick.detail.as_str()),
        (false, 503, "answered 503 Service Unavailable")
    );
    let (_silent, port) = listen(OWN).await;
    let late = daemon.guest.probe_http(port, "/", Duration::from_millis(100)).await.unwrap();
    assert_eq!((late.healthy, late.detail.as_str()), (false, "no answer within 100ms"));
    let (_, only_loopback) = listen(Ipv4Addr::LOCALHOST.into()).await;
    assert!(
        !daemon.guest.probe_tcp(only_loopback, within).await.unwrap().healthy,
        "a server nobody can reach is not healthy"
    );
}

#[tokio::test]
async fn envd_answers_plain_http() {
    let daemon = daemon(true).await;
    for (request, status) in [("GET /health", "204"), ("POST /init", "404"), ("GET /nothing", "404")] {
        let mut stream = daemon.opener.open(port::ENVD).await.unwrap();
        let text = format!("{request} HTTP/1.1\r\nhost: envd\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
    }
}
