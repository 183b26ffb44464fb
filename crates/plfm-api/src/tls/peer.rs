//! Who a certificate says its holder is. The chain has been checked by rustls before.

use std::fmt;
use std::str::FromStr;

use plfm_core::ids::NodeId;
use rustls::CommonState;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

/// The subject's OU. A certificate without one of these (one for an app's host name, say) is nobody's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Server,
    Node,
    Edge,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub role: Role,
    /// The subject's CN: an id, as `node_01…`.
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    #[error("the peer's certificate cannot be read")]
    Unreadable,
    #[error("the peer's certificate has no {0}")]
    Missing(&'static str),
    #[error("the peer's certificate is for `{0}`, which is not a role of a cluster")]
    Role(String),
}

impl Peer {
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, PeerError> {
        let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| PeerError::Unreadable)?;
        let subject = certificate.subject();
        Ok(Self { role: unit(subject)?.parse()?, name: name(subject)?.to_owned() })
    }

    /// None when the peer has shown no certificate.
    pub fn of(connection: &CommonState) -> Result<Option<Self>, PeerError> {
        let shown = connection.peer_certificates().and_then(<[_]>::first);
        shown.map(Self::read).transpose()
    }

    /// The node it is, if it is one.
    pub fn node(&self) -> Option<NodeId> {
        (self.role == Role::Node).then(|| self.name.parse().ok()).flatten()
    }
}

/// Exactly one: two would let each reader choose.
fn unit<'a>(subject: &'a X509Name<'_>) -> Result<&'a str, PeerError> {
    one(subject.iter_organizational_unit().map(|unit| unit.as_str().ok())).ok_or(PeerError::Missing("role"))
}

fn name<'a>(subject: &'a X509Name<'_>) -> Result<&'a str, PeerError> {
    one(subject.iter_common_name().map(|name| name.as_str().ok())).ok_or(PeerError::Missing("name"))
}

fn one<'a>(mut values: impl Iterator<Item = Option<&'a str>>) -> Option<&'a str> {
    let first = values.next()??;
    values.next().is_none().then_some(first)
}

impl Role {
    pub const fn code(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Node => "node",
            Self::Edge => "edge",
        }
    }
}

impl FromStr for Role {
    type Err = PeerError;

    fn from_str(text: &str) -> Result<Self, PeerError> {
        let roles = [Self::Server, Self::Node, Self::Edge];
        roles
            .into_iter()
            .find(|role| role.code() == text)
            .ok_or_else(|| PeerError::Role(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
