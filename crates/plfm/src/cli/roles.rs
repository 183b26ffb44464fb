//! The arguments of the roles: `dev`, `server`, `node`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use plfm_core::digest::Digest;

/// Beside the manifest, so that a project has its own cluster.
pub const DATA: &str = ".plfm";

#[derive(Debug, Clone, Args)]
pub struct DevArgs {
    /// Where everything is kept
    #[arg(long, value_name = "DIR", default_value = DATA)]
    pub data: PathBuf,
    /// Where the API listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where apps are reached over HTTPS
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    pub http: SocketAddr,
}

#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// Where the log and the keys are kept
    #[arg(long, value_name = "DIR", default_value = DATA)]
    pub data: PathBuf,
    /// Where the API listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
}

#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct NodeArgs {
    #[command(subcommand)]
    pub command: Option<NodeCommand>,
    /// Join a cluster with what `plfm node token` has printed; needed once
    #[arg(long, value_name = "TOKEN@HOST:PORT#CAFINGERPRINT")]
    pub join: Option<JoinAddress>,
    /// Where images, disks and the node's key are kept
    #[arg(long, value_name = "DIR", default_value = DATA)]
    pub data: PathBuf,
    /// What people call this node [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

#[derive(Debug, Clone, Subcommand)]
pub enum NodeCommand {
    /// Print the command that adds a node to the cluster
    Token,
}

/// All that one needs to join: the right to, where, and how to know that it is there.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinAddress {
    pub token: String,
    /// `host:port` of the API.
    pub server: String,
    pub ca_fingerprint: Digest,
}

impl FromStr for JoinAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || "write what `plfm node token` prints: TOKEN@HOST:PORT#CAFINGERPRINT".to_owned();
        let (token, rest) = text.split_once('@').filter(|(token, _)| !token.is_empty()).ok_or_else(refuse)?;
        let (server, fingerprint) = rest.split_once('#').ok_or_else(refuse)?;
        let (host, port) = server.rsplit_once(':').ok_or_else(refuse)?;
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(refuse());
        }
        let ca_fingerprint = format!("sha256:{fingerprint}").parse().map_err(|_| refuse())?;
        Ok(Self { token: token.to_owned(), server: server.to_owned(), ca_fingerprint })
    }
}

impl fmt::Display for JoinAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}#{}", self.token, self.server, self.ca_fingerprint.hex())
    }
}

impl fmt::Debug for JoinAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinAddress").field("server", &self.server).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_address_comes_back_as_it_went() {
        let address = JoinAddress {
            token: "secret".to_owned(),
            server: "[::1]:8080".to_owned(),
            ca_fingerprint: Digest::of(b"ca"),
        };
        assert_eq!(address.to_string().parse(), Ok(address.clone()));
        assert!(!format!("{address:?}").contains("secret"));
        let text = address.to_string();
        for cut in 0..text.len() {
            assert!(text[..cut].parse::<JoinAddress>().is_err(), "{cut}");
        }
    }
}
