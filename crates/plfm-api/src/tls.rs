//! Who is at the other end: identities of the cluster's CA, as rustls configurations, and the peer read from a certificate.
//!
//! Every certificate names a role (OU) and the one who holds it (CN). Issuing them is the server's; what a peer may do is decided by
//! whoever accepted the connection. Cryptography is ring's, given explicitly, so no process-wide default is needed.

use std::fmt;
use std::sync::Arc;

use plfm_core::ids::NodeId;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

mod peer;
mod pin;

pub use peer::{Peer, PeerError, Role};
pub use pin::pinned_config;

/// The name in the server's certificate, whatever address it is reached at.
pub const SERVER_NAME: &str = "server.plfm";

/// The name in a node's certificate.
pub fn node_name(node: NodeId) -> String {
    format!("{}.node.plfm", node.ulid().to_string().to_lowercase())
}

/// A certificate with its key, and the CA that both sides trust. All PEM.
#[derive(Clone)]
pub struct Identity {
    pub certificate_pem: String,
    pub key_pem: String,
    pub ca_pem: String,
}

/// Whether one who connects has to show a certificate. One that is shown must be of the CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    Optional,
    Required,
}

/// A fresh key: the public half is sent to be signed, the private half stays.
#[derive(Clone)]
pub struct Key {
    pub key_pem: String,
    pub public_key_pem: String,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the {what} is not PEM")]
    Pem { what: &'static str, source: rustls::pki_types::pem::Error },
    #[error("the {what} is empty")]
    Empty { what: &'static str },
    #[error("the certificate and its key cannot be used")]
    Unusable(#[from] rustls::Error),
    #[error("the CA cannot be used to check certificates")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("cannot make a key")]
    Key(#[from] rcgen::Error),
}

/// HTTP/2 and HTTP/1.1 by choice of the client. The CA goes along in the chain: one who has never met it compares its fingerprint.
pub fn server_config(identity: &Identity, auth: ClientAuth) -> Result<ServerConfig, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(&identity.ca_pem)?.into(), provider());
    let verifier = match auth {
        ClientAuth::Optional => verifier.allow_unauthenticated().build()?,
        ClientAuth::Required => verifier.build()?,
    };
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = builder.with_client_cert_verifier(verifier);
    let mut config = builder.with_single_cert(identity.chain()?, identity.key()?)?;
    config.alpn_protocols = alpn();
    Ok(config)
}

/// Trusts what `ca_pem` has signed and nothing else.
pub fn client_config(identity: Option<&Identity>, ca_pem: &str) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(roots(ca_pem)?);
    let mut config = match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain()?, identity.key()?)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn();
    Ok(config)
}

pub fn key_pair() -> Result<Key, TlsError> {
    let pair = rcgen::KeyPair::generate()?;
    Ok(Key { key_pem: pair.serialize_pem(), public_key_pem: pair.public_key_pem() })
}

impl Identity {
    /// For a TLS server that chooses by name.
    pub fn certified_key(&self) -> Result<CertifiedKey, TlsError> {
        Ok(CertifiedKey::from_der(self.chain()?, self.key()?, &provider())?)
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let mut chain = certificates(&self.certificate_pem, "certificate")?;
        chain.extend(certificates(&self.ca_pem, "CA certificate")?);
        Ok(chain)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(|source| TlsError::Pem { what: "key", source })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("public_key_pem", &self.public_key_pem).finish_non_exhaustive()
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn alpn() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}

fn roots(ca_pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_pem, "CA certificate")? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let certificates = certificates.map_err(|source| TlsError::Pem { what, source })?;
    if certificates.is_empty() { Err(TlsError::Empty { what }) } else { Ok(certificates) }
}

#[cfg(test)]
pub(crate) mod tests;
