//! Where traffic enters and where it leads. Part of the events, and so of the contract.

use serde::{Deserialize, Serialize};

use crate::ids::ReleaseId;

/// Where traffic enters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// TLS for this name.
    Hostname(String),
    /// Plain TCP on this port of the edge.
    TcpPort(u16),
}

/// Where a route finds the instances of one release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub release: ReleaseId,
    pub process: String,
    pub port: u16,
    #[serde(default, skip_serializing_if = "Tls::is_terminated")]
    pub tls: Tls,
}

/// Who ends the TLS of a host name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// The edge, which passes HTTP on.
    #[default]
    Terminated,
    /// The app: the edge reads the name, and passes every byte on as it came.
    Passthrough,
}

impl Tls {
    pub const fn is_terminated(&self) -> bool {
        matches!(self, Self::Terminated)
    }
}
