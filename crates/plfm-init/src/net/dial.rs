//! Calls to TCP ports of this machine: at its own address, as a neighbour would, so that a server which nobody else can reach is not
//! taken for a healthy one. In a sandbox loopback is tried too: there the host is the only neighbour.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use plfm_api::channel::Incoming;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::daemon::Config;

/// A connection inside one machine that takes longer has no one to take it.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
const LOOPBACK: [IpAddr; 2] = [IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST)];

#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("the machine has no address yet")]
    NoAddress,
    #[error("port {port} of {address}: {}", crate::launch::describe_io(cause))]
    Connect { port: u16, address: IpAddr, cause: io::Error },
}

/// Splices the stream to the port, or refuses it with what the last address said.
pub async fn splice(incoming: Incoming, port: u16, config: Option<&Config>) {
    let candidates = config.map(|config| addresses(config, config.sandbox)).unwrap_or_default();
    match connect(&candidates, port).await {
        Err(cause) => incoming.refuse(&cause.to_string()),
        Ok(mut socket) => {
            let mut stream = incoming.accept();
            // Either end may break off; both are then dropped, which each of them sees.
            let _ = copy_bidirectional(&mut stream, &mut socket).await;
        }
    }
}

pub fn addresses(config: &Config, loopback: bool) -> Vec<IpAddr> {
    config.net.addresses().chain(LOOPBACK.into_iter().filter(|_| loopback)).collect()
}

/// The first of the addresses that answers.
pub async fn connect(addresses: &[IpAddr], port: u16) -> Result<TcpStream, DialError> {
    let mut last = DialError::NoAddress;
    for address in addresses {
        let late = || io::Error::from_raw_os_error(nix::libc::ETIMEDOUT);
        match timeout(CONNECT_WAIT, TcpStream::connect((*address, port))).await.unwrap_or_else(|_| Err(late())) {
            Ok(socket) => return Ok(socket),
            Err(cause) => last = DialError::Connect { port, address: *address, cause },
        }
    }
    Err(last)
}
