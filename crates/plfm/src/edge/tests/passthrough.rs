//! TLS that ends in the app: real clients and servers of other libraries, with the edge between them.

use std::process::Stdio;

use plfm_core::event::Tls;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::*;

const HOST: &str = "db.localhost";

/// `openssl s_server` that sends back each line it gets, turned round, with a certificate of its own.
struct Server {
    at: SocketAddr,
    _child: Child,
    dir: TempDir,
}

impl Server {
    async fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name).display().to_string();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"])
            .args(["-subj", "/CN=of the app", "-keyout", &file("key"), "-out", &file("cert")])
            .output();
        if !made.await.is_ok_and(|made| made.status.success()) {
            eprintln!("skipped: TLS passed through: no `openssl`");
            return None;
        }
        // It says where it listens: `ACCEPT [::1]:PORT`.
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "[::1]:0", "-rev", "-cert", &file("cert"), "-key", &file("key")])
            .args(["-cipher", "DEFAULT@SECLEVEL=0", "-min_protocol", "TLSv1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (mut out, mut said) = (child.stdout.take().unwrap(), String::new());
        let at = loop {
            let mut byte = [0];
            assert_eq!(out.read(&mut byte).await.unwrap(), 1, "it says where it listens: {said}");
            said.push(byte[0].into());
            let line = said.lines().find_map(|line| line.strip_prefix("ACCEPT "));
            if let Some(at) = line.filter(|_| said.ends_with('\n')) {
                break at.parse().unwrap();
            }
        };
        tokio::spawn(async move { tokio::io::copy(&mut out, &mut tokio::io::sink()).await });
        Some(Self { at, _child: child, dir })
    }

    /// What a client of this version hears.
    async fn heard(&self, edge: SocketAddr, version: &str) -> String {
        let mut client = Command::new("openssl")
            .args(["s_client", "-quiet", "-connect", &edge.to_string(), "-servername", HOST, version])
            .args(["-cipher", "DEFAULT@SECLEVEL=0", "-verify_return_error", "-verify_hostname", "of the app"])
            .args(["-CAfile", &self.dir.path().join("cert").display().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (mut stdin, mut stdout) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
        stdin.write_all(b"hello\n").await.unwrap();
        let mut heard = [0; 6];
        let read = stdout.read_exact(&mut heard).await;
        read.map_or_else(|error| error.to_string(), |_| String::from_utf8_lossy(&heard).trim().to_owned())
    }
}

#[tokio::test]
async fn tls_of_any_version_ends_in_the_app() {
    let Some(server) = Server::start().await else { return };
    let world = World::new().await;
    let tunnel = node::Tunnel::to(&world.ca, server.at).await;
    for backend in [direct(1, server.at), relayed(2, &tunnel.at)] {
        world.route_as(hostname(HOST), Tls::Passthrough, vec![backend]);
        for version in ["-tls1", "-tls1_1", "-tls1_2", "-tls1_3"] {
            assert_eq!(server.heard(world.https, version).await, "olleh", "{version}");
        }
    }
}

/// The bytes arrive as they were sent, however they were cut, and the end of one side is not the end of the other.
#[tokio::test]
async fn not_a_byte_is_altered() {
    let world = World::new().await;
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    world.route_as(hostname(HOST), Tls::Passthrough, vec![direct(1, listener.local_addr().unwrap())]);
    let config = plfm_api::tls::client_config(None, &world.ca.pem).unwrap();
    let name = rustls::pki_types::ServerName::try_from(HOST).unwrap();
    let mut hello = Vec::new();
    rustls::ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut hello).unwrap();
    let said = [hello, vec![0x5a; 100_000]].concat();
    let mut client = TcpStream::connect(world.https).await.unwrap();
    client.set_nodelay(true).unwrap();
    let sends = async {
        for part in said.chunks(97) {
            client.write_all(part).await.unwrap();
        }
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let takes = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        stream.write_all(b"after the end").await.unwrap();
        heard
    };
    let (answer, heard) = tokio::join!(sends, takes);
    assert!(heard == said);
    assert_eq!(answer, "after the end");
}

#[tokio::test]
async fn without_an_instance_the_connection_ends() {
    let world = World::new().await;
    world.route_as(hostname(HOST), Tls::Passthrough, Vec::new());
    let mut client = TcpStream::connect(world.https).await.unwrap();
    let config = plfm_api::tls::client_config(None, &world.ca.pem).unwrap();
    let name = rustls::pki_types::ServerName::try_from(HOST).unwrap();
    let mut hello = Vec::new();
    rustls::ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut hello).unwrap();
    client.write_all(&hello).await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty(), "the edge says nothing for the app");
}
