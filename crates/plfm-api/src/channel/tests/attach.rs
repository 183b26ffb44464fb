//! Hosts that die in the middle of a word, one after another, on the wire of one guest.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};

use super::{Dice, secret};
use crate::channel::{Mux, Opener};

const ATTACHES: usize = 200;
const TEXT: usize = 200_000;

/// The far end of a virtio port: what the guest says while nobody listens is lost, as is what a dead host had not sent.
struct Port {
    from_guest: ReadHalf<DuplexStream>,
    to_guest: WriteHalf<DuplexStream>,
}

impl Port {
    /// Carries bytes until so many have gone down or up, then drops the host in the middle of whatever it was saying.
    async fn carry(&mut self, host: DuplexStream, mut down_left: usize, mut up_left: usize) {
        let (mut from_host, mut to_host) = split(host);
        let (mut down, mut up) = ([0; 4096], [0; 4096]);
        while down_left > 0 && up_left > 0 {
            tokio::select! {
                size = from_host.read(&mut down) => {
                    let Ok(size @ 1..) = size else { return };
                    let size = size.min(down_left);
                    self.to_guest.write_all(&down[..size]).await.unwrap();
                    down_left -= size;
                }
                size = self.from_guest.read(&mut up) => {
                    let size = size.unwrap().min(up_left);
                    if to_host.write_all(&up[..size]).await.is_err() {
                        return;
                    }
                    up_left -= size;
                }
            }
        }
    }
}

/// Sends a pattern and reads it back: whatever comes is right, and the number of bytes that came is returned.
async fn echo(opener: &Opener, port: u32) -> usize {
    let Ok(stream) = opener.open(port).await else { return 0 };
    let (mut read, mut write) = split(stream);
    let letter = move |at: usize| (at * 7 + port as usize) as u8;
    let writing = async move {
        let text: Vec<u8> = (0..TEXT).map(letter).collect();
        let _ = write.write_all(&text).await;
        let _ = write.shutdown().await;
    };
    let reading = async move {
        let (mut seen, mut bytes) = (0, [0; 9_000]);
        while let Ok(size @ 1..) = read.read(&mut bytes).await {
            assert!(bytes[..size].iter().enumerate().all(|(at, byte)| *byte == letter(seen + at)), "after byte {seen}");
            seen += size;
        }
        seen
    };
    tokio::join!(writing, reading).1
}

fn serve(guest: DuplexStream) {
    let (mut acceptor, task) = Mux::guest(guest, Some(secret()));
    tokio::spawn(task);
    tokio::spawn(async move {
        while let Some(incoming) = acceptor.next().await {
            let (mut read, mut write) = split(incoming.accept());
            tokio::spawn(async move {
                if tokio::io::copy(&mut read, &mut write).await.is_ok() {
                    let _ = write.shutdown().await;
                }
            });
        }
    });
}

/// One host's life on the port; the bytes that came back on each of its streams.
async fn attach(port: &mut Port, down: usize, up: usize) -> [usize; 3] {
    let (near, far) = duplex(8_192);
    let (opener, task) = Mux::host(near, secret());
    let task = tokio::spawn(task);
    let talking = async {
        let seen = tokio::join!(echo(&opener, 1), echo(&opener, 2), echo(&opener, 3));
        task.abort();
        seen.into()
    };
    tokio::join!(port.carry(far, down, up), talking).1
}

#[tokio::test]
async fn two_hundred_attaches_cut_anywhere_corrupt_nothing() {
    let (guest, port) = duplex(8_192);
    serve(guest);
    let (from_guest, to_guest) = split(port);
    let (mut port, mut dice) = (Port { from_guest, to_guest }, Dice(1));
    for _ in 0..ATTACHES {
        let (down, up) = (1 + dice.roll(4 * TEXT), 1 + dice.roll(4 * TEXT));
        attach(&mut port, down, up).await;
    }
    assert_eq!(attach(&mut port, usize::MAX, usize::MAX).await, [TEXT; 3]);
}
