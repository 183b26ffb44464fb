use plfm_api::channel::Mux;
use tokio::net::UnixListener;

use super::*;
use crate::microvm::qemu::Qemu;

/// A guest behind the channel socket that echoes on port 7 and refuses the rest.
async fn guest(channel: UnixListener, secret: Secret) {
    let (io, _) = channel.accept().await.unwrap();
    let (mut acceptor, work) = Mux::guest(io, Some(secret));
    let serve = async {
        while let Some(incoming) = acceptor.next().await {
            if incoming.port != 7 {
                incoming.refuse("nobody is here");
                continue;
            }
            let mut stream = incoming.accept();
            let (mut read, mut write) = tokio::io::split(&mut stream);
            tokio::io::copy(&mut read, &mut write).await.unwrap();
            write.shutdown().await.unwrap();
        }
    };
    tokio::select! { _ = work => {}, () = serve => {} }
}

/// What leads to a guest is a socket beside the others.
fn monitor() -> Arc<dyn Vmm> {
    Arc::new(Qemu { program: "qemu".into(), version: String::new() })
}

fn listener(dir: &Path, name: &str) -> UnixListener {
    let listener = sockets::bind(dir, name).unwrap();
    listener.set_nonblocking(true).unwrap();
    UnixListener::from_std(listener).unwrap()
}

fn house() -> (tempfile::TempDir, JoinSet<()>) {
    let dir = tempfile::tempdir().unwrap();
    let secret = Secret::random().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(guest(listener(dir.path(), sockets::CHANNEL), secret.clone()));
    tasks.spawn(serve(
        monitor(),
        dir.path().to_owned(),
        listener(dir.path(), sockets::CONNECT),
        secret,
        Openers::default(),
    ));
    (dir, tasks)
}

#[tokio::test]
async fn bytes_pass_both_ways_and_so_does_the_end() {
    let (dir, _tasks) = house();
    let mut stream = connect(dir.path(), 7).await.unwrap();
    stream.write_all(b"who is there").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut echo = String::new();
    stream.read_to_string(&mut echo).await.unwrap();
    assert_eq!(echo, "who is there");
}

#[tokio::test]
async fn a_port_that_nobody_serves_is_refused() {
    let (dir, _tasks) = house();
    assert_eq!(connect(dir.path(), 8).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn anything_but_the_handshake_closes_the_door() {
    let (dir, _tasks) = house();
    for said in ["CONNECT\n", "CONNECT x\n", "GET / HTTP/1.1\n", "CONNECT 99999999999\n", &"7".repeat(64)] {
        let mut stream = sockets::connect(dir.path(), sockets::CONNECT).unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{said}");
    }
}
