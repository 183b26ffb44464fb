//! Streams over tokio: what their owners see.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::secret;
use crate::channel::{Acceptor, Mux, OpenError, Opener, Stream};

fn pair() -> (Opener, Acceptor) {
    let (near, far): (DuplexStream, DuplexStream) = duplex(1 << 16);
    let (opener, host) = Mux::host(near, secret());
    let (acceptor, guest) = Mux::guest(far, Some(secret()));
    tokio::spawn(host);
    tokio::spawn(guest);
    (opener, acceptor)
}

fn echo(mut acceptor: Acceptor) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(incoming) = acceptor.next().await {
            if incoming.port == 0 {
                incoming.refuse("port 0 is nobody");
                continue;
            }
            let (mut read, mut write) = tokio::io::split(incoming.accept());
            tokio::spawn(async move {
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    })
}

async fn round_trip(mut stream: Stream, text: Vec<u8>) {
    let (mut read, mut write) = tokio::io::split(&mut stream);
    let (sent, mut back) = (text.clone(), Vec::new());
    let writing = async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let (_, read) = tokio::join!(writing, read.read_to_end(&mut back));
    read.unwrap();
    assert!(back == text, "{} of {} bytes came back", back.len(), text.len());
}

#[tokio::test]
async fn a_half_closed_stream_still_answers() {
    let (opener, acceptor) = pair();
    echo(acceptor);
    round_trip(opener.open(7).await.unwrap(), b"hello".to_vec()).await;
}

#[tokio::test]
async fn many_streams_at_once_keep_their_bytes() {
    let (opener, acceptor) = pair();
    echo(acceptor);
    let opening = (0..100u32).map(|port| {
        let opener = opener.clone();
        tokio::spawn(async move {
            let text = (0..300_000u32).map(|at| (at ^ port) as u8).collect();
            round_trip(opener.open(port + 1).await.unwrap(), text).await;
        })
    });
    for stream in opening.collect::<Vec<_>>() {
        stream.await.unwrap();
    }
}

#[tokio::test]
async fn a_refused_port_says_why() {
    let (opener, acceptor) = pair();
    echo(acceptor);
    let refused = opener.open(0).await.map(drop).unwrap_err();
    assert_eq!(refused, OpenError::Refused { port: 0, reason: "port 0 is nobody".into() });
    assert_eq!(refused.to_string(), "the guest refused port 0: port 0 is nobody");
}

#[tokio::test]
async fn streams_end_when_the_wire_does() {
    let (near, far) = duplex(1 << 16);
    let (opener, host) = Mux::host(near, secret());
    let (acceptor, guest) = Mux::guest(far, None);
    tokio::spawn(host);
    let guest = tokio::spawn(guest);
    echo(acceptor);
    let mut stream = opener.open(1).await.unwrap();
    guest.abort();
    assert!(stream.read_u8().await.is_err());
    assert_eq!(opener.open(1).await.map(drop), Err(OpenError::Closed));
}

#[tokio::test]
async fn ping_quiesce_and_attach_again() {
    let (opener, acceptor) = pair();
    echo(acceptor);
    opener.linked().await.unwrap();
    opener.ping().await.unwrap();
    let mut cut = opener.open(1).await.unwrap();
    opener.quiesce().await.unwrap();
    assert!(cut.read_u8().await.is_err());
    opener.attach();
    round_trip(opener.open(1).await.unwrap(), b"again".to_vec()).await;
}

#[tokio::test]
async fn nobody_opens_while_the_guest_falls_silent() {
    let (opener, acceptor) = pair();
    echo(acceptor);
    opener.linked().await.unwrap();
    let (quiet, opened) = tokio::join!(opener.quiesce(), opener.open(1));
    assert_eq!((quiet, opened.map(drop)), (Ok(()), Err(OpenError::Closed)));
}
