//! Many streams over the one byte stream between a host and a guest.
//!
//! A virtio port carries bytes and nothing else: no connections, no end of file, and whatever was in flight when a host process died
//! or a snapshot was taken. So every frame carries a tag that only this attach can know, and each attach begins with a resync:
//!
//! ```text
//!   host: PAD HELLO{nonce, secret} ──▶ guest drops all streams ──▶ HELLO_ACK{nonce} ──▶ OPEN, DATA, CREDIT, … ──▶ QUIESCE
//! ```
//!
//! [`frame`] knows the bytes, [`machine`] the rules (both are pure), [`driver`] and [`stream`] join them to tokio.
//! What is spoken inside a stream is left to [`guest`](crate::guest) and [`envd`](crate::envd).

use std::fmt;
use std::future::Future;
use std::io;
use std::str::FromStr;

use tokio::io::{AsyncRead, AsyncWrite};

mod driver;
mod frame;
mod handles;
mod machine;
mod stream;

pub use handles::{Acceptor, Incoming, OpenError, Opener};
pub use stream::Stream;

/// Ports of the guest daemon, and the range that stands for TCP ports of the machine itself.
pub mod port {
    /// `plfm.guest.v1`, for the host only.
    pub const GUEST: u32 = 1;
    /// E2B's envd.
    pub const ENVD: u32 = 49_983;
    /// `DIAL + p` is TCP port `p` on the instance's own address; `p` is never 0.
    pub const DIAL: u32 = 0x1_0000;

    /// The port to open for TCP port `tcp` of the instance.
    pub const fn dial(tcp: u16) -> u32 {
        DIAL + tcp as u32
    }
}

/// The multiplexer's two ends.
pub struct Mux;

impl Mux {
    /// The host's end. It says hello until the guest answers, and again whenever the guest has lost itself; streams can be opened
    /// meanwhile and wait. The future does the work and ends with the byte stream; dropped, it ends every stream.
    pub fn host<Io>(io: Io, secret: Secret) -> (Opener, impl Future<Output = io::Result<()>> + Send)
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        driver::host(io, secret)
    }

    /// The guest's end. Without a secret any host may attach, which is right where the byte stream itself proves who is there.
    pub fn guest<Io>(io: Io, secret: Option<Secret>) -> (Acceptor, impl Future<Output = io::Result<()>> + Send)
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        driver::guest(io, secret)
    }
}

/// What only this machine and its host know: bytes of a tenant that look like a hello do not make one.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; Self::BYTES]);

impl Secret {
    pub const BYTES: usize = 32;

    pub const fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// A fresh one, from the operating system.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; Self::BYTES];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(bytes))
    }

    /// As the kernel command line carries it: `plfm.secret=<64 hex digits>`.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a channel secret is 64 hex digits")]
pub struct SecretError;

impl FromStr for Secret {
    type Err = SecretError;

    fn from_str(hex: &str) -> Result<Self, SecretError> {
        let digits: Vec<u8> = hex.chars().map_while(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
        if hex.len() != 2 * Self::BYTES || digits.len() != hex.len() {
            return Err(SecretError);
        }
        let mut bytes = [0; Self::BYTES];
        bytes.iter_mut().zip(digits.chunks_exact(2)).for_each(|(byte, pair)| *byte = pair[0] << 4 | pair[1]);
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests;
