use std::io;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConnection};
use ulid::Ulid;

use super::*;

/// A CA for tests; the one of a cluster is the server's.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
    pub fingerprint: plfm_core::digest::Digest,
}

impl Ca {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let fingerprint = plfm_core::digest::Digest::of(certificate.der());
        Self { pem: certificate.pem(), fingerprint, issuer: Issuer::new(params, key) }
    }

    pub fn identity(&self, unit: &str, name: &str, dns: &str) -> Identity {
        let mut params = CertificateParams::new(vec![dns.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem(), ca_pem: self.pem.clone() }
    }

    pub fn server(&self) -> Identity {
        self.identity("server", "server", SERVER_NAME)
    }

    pub fn node(&self, node: NodeId) -> Identity {
        self.identity("node", &node.to_string(), &node_name(node))
    }
}

/// A handshake in memory; what the server knows of the client.
fn handshake(client: ClientConfig, server: ServerConfig, name: &str) -> Result<Option<Peer>, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut io::Cursor::new(&bytes)).unwrap();
        server.process_new_packets()?;
        let mut bytes = Vec::new();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut io::Cursor::new(&bytes)).unwrap();
        client.process_new_packets()?;
    }
    Ok(Peer::of(&server).expect("the certificate is readable"))
}

#[test]
fn a_node_is_known_by_its_certificate() {
    let (ca, node) = (Ca::new(), NodeId::new(Ulid::from_parts(1, 2)));
    let server = server_config(&ca.server(), ClientAuth::Required).unwrap();
    let client = client_config(Some(&ca.node(node)), &ca.pem).unwrap();
    let peer = handshake(client, server, SERVER_NAME).unwrap().unwrap();
    assert_eq!((peer.role, peer.node()), (Role::Node, Some(node)));
}

#[test]
fn a_certificate_is_asked_for_only_where_it_is_required() {
    let ca = Ca::new();
    let client = || client_config(None, &ca.pem).unwrap();
    let server = |auth| server_config(&ca.server(), auth).unwrap();
    assert_eq!(handshake(client(), server(ClientAuth::Optional), SERVER_NAME), Ok(None));
    assert!(handshake(client(), server(ClientAuth::Required), SERVER_NAME).is_err());
}

#[test]
fn another_ca_or_another_name_is_not_trusted() {
    let (ca, other) = (Ca::new(), Ca::new());
    let server = || server_config(&ca.server(), ClientAuth::Optional).unwrap();
    assert!(handshake(client_config(None, &other.pem).unwrap(), server(), SERVER_NAME).is_err());
    assert!(handshake(client_config(None, &ca.pem).unwrap(), server(), "other.plfm").is_err());
    let stranger = other.node(NodeId::new(Ulid::from_parts(1, 2)));
    assert!(handshake(client_config(Some(&stranger), &ca.pem).unwrap(), server(), SERVER_NAME).is_err());
}

#[test]
fn a_fingerprint_is_enough_to_trust_the_ca_that_is_sent_along() {
    let (ca, other) = (Ca::new(), Ca::new());
    let server = || server_config(&ca.server(), ClientAuth::Optional).unwrap();
    assert_eq!(handshake(pinned_config(ca.fingerprint).unwrap(), server(), SERVER_NAME), Ok(None));
    assert!(handshake(pinned_config(ca.fingerprint).unwrap(), server(), "other.plfm").is_err());
    assert!(handshake(pinned_config(other.fingerprint).unwrap(), server(), SERVER_NAME).is_err());
    // The right CA sent along does not help a certificate that it has not signed.
    let mut forged = other.server();
    forged.ca_pem = format!("{}{}", forged.ca_pem, ca.pem);
    let forged = server_config(&forged, ClientAuth::Optional).unwrap();
    assert!(handshake(pinned_config(ca.fingerprint).unwrap(), forged, SERVER_NAME).is_err());
}

#[test]
fn a_certificate_without_a_role_is_nobodys_identity() {
    let ca = Ca::new();
    let read = |unit: &str| {
        let identity = ca.identity(unit, "shop", "shop.plfm.localhost");
        Peer::read(&certificates(&identity.certificate_pem, "certificate").unwrap()[0])
    };
    assert_eq!(read("edge"), Ok(Peer { role: Role::Edge, name: "shop".to_owned() }));
    assert_eq!(read("admin"), Err(PeerError::Role("admin".to_owned())));
    let der = certificates(&ca.server().certificate_pem, "certificate").unwrap().remove(0);
    for cut in 0..der.len() {
        assert_eq!(Peer::read(&CertificateDer::from(&der[..cut])), Err(PeerError::Unreadable));
    }
}

#[test]
fn keys_are_fresh_and_not_shown() {
    let (one, two) = (key_pair().unwrap(), key_pair().unwrap());
    assert_ne!(one.public_key_pem, two.public_key_pem);
    let secret = one.key_pem.lines().nth(1).unwrap();
    assert!(!format!("{one:?}").contains(secret), "debug output ends up in logs");
}

#[test]
fn what_is_not_pem_is_said_to_be_so() {
    let identity = Identity { certificate_pem: String::new(), ..Ca::new().server() };
    let error = server_config(&identity, ClientAuth::Optional).unwrap_err();
    assert_eq!(error.to_string(), "the certificate is empty");
}
