//! The machine's `connect` socket: a client says `CONNECT port`, hears `OK port`, and then has a stream to that port of the guest.
//!
//! It is Firecracker's handshake, so that all above this module sees one interface. The number after `OK` means nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plfm_api::channel::{Mux, Opener, Secret};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::sockets;
use super::vmm::Vmm;

/// `CONNECT 4294967295\n` has 19 bytes.
const LINE_BYTES_MAX: usize = 32;
const LINE_WAIT: Duration = Duration::from_secs(5);
/// The byte stream breaks when the monitor ends, when it takes another client first, and under Firecracker with every picture.
const REATTACH_DELAY: Duration = Duration::from_millis(100);

/// Who can open streams, once there is one.
pub type Openers = watch::Sender<Option<Opener>>;

/// Keeps the channel attached and serves the door, for as long as it is polled.
pub async fn serve(vmm: Arc<dyn Vmm>, dir: PathBuf, listener: UnixListener, secret: Secret, announce: Openers) {
    let opener = announce.subscribe();
    tokio::join!(attach(&*vmm, &dir, secret, announce), accept(listener, opener));
}

/// A stream to `port`, through the door of the machine in `dir`.
pub async fn connect(dir: &Path, port: u32) -> io::Result<UnixStream> {
    ask(sockets::connect(dir, sockets::CONNECT)?, port).await
}

/// Says to whoever leads to a guest which port is meant.
pub async fn ask(mut stream: UnixStream, port: u32) -> io::Result<UnixStream> {
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).await?;
    match line(&mut stream).await {
        Ok(answer) if answer.starts_with("OK ") => Ok(stream),
        _ => Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the guest does not listen there")),
    }
}

async fn attach(vmm: &dyn Vmm, dir: &Path, secret: Secret, announce: Openers) {
    loop {
        if let Ok(stream) = vmm.channel(dir).await {
            let (opener, work) = Mux::host(stream, secret.clone());
            announce.send_replace(Some(opener));
            let _ = work.await;
            announce.send_replace(None);
        }
        tokio::time::sleep(REATTACH_DELAY).await;
    }
}

async fn accept(listener: UnixListener, opener: watch::Receiver<Option<Opener>>) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => { clients.spawn(join(client, opener.clone())); }
            Some(_) = clients.join_next() => {}
            else => tokio::time::sleep(REATTACH_DELAY).await,
        }
    }
}

async fn join(mut client: UnixStream, mut opener: watch::Receiver<Option<Opener>>) -> io::Result<()> {
    let asked = tokio::time::timeout(LINE_WAIT, line(&mut client)).await??;
    let port = asked.strip_prefix("CONNECT ").and_then(|port| port.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    let opener = opener.wait_for(Option::is_some).await.map_err(io::Error::other)?.clone();
    let opener = opener.expect("waited for it");
    let mut stream = tokio::select! {
        opened = opener.open(port) => opened.map_err(io::Error::other)?,
        // A caller that has stopped waiting leaves no stream behind.
        _ = client.read_u8() => return Ok(()),
    };
    client.write_all(format!("OK {port}\n").as_bytes()).await?;
    tokio::io::copy_bidirectional(&mut client, &mut stream).await?;
    Ok(())
}

/// Byte by byte: what follows the line belongs to the stream.
async fn line(from: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut line = Vec::new();
    while line.len() < LINE_BYTES_MAX {
        match from.read_u8().await? {
            b'\n' => return String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData.into()),
            byte => line.push(byte),
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests;
