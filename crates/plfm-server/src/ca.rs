//! The cluster's certificate authority: made at the first start, kept beside the log, signs what servers, nodes, edges and
//! managed host names show.

use std::path::Path;
use std::time::Duration;

use plfm_api::tls::{Identity, Role, TlsError};
use plfm_core::digest::Digest;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SubjectPublicKeyInfo,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::ServerError;
use crate::secrets::write_private;

/// P-TEN-19.
const NODE_DAYS: u64 = 90;
const CA_DAYS: u64 = 3650;

pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    fingerprint: Digest,
}

impl Ca {
    /// Reads the CA of this directory, or makes it.
    pub fn open(dir: &Path) -> Result<Self, ServerError> {
        let (key_file, certificate_file) = (dir.join("ca.key"), dir.join("ca.pem"));
        if !key_file.exists() {
            let key = KeyPair::generate()?;
            let certificate = authority()?.self_signed(&key)?;
            std::fs::write(&certificate_file, certificate.pem()).map_err(ServerError::file(&certificate_file))?;
            write_private(&key_file, key.serialize_pem().as_bytes())?;
        }
        let key = std::fs::read_to_string(&key_file).map_err(ServerError::file(&key_file))?;
        let pem = std::fs::read_to_string(&certificate_file).map_err(ServerError::file(&certificate_file))?;
        let bad = |path: &Path| {
            let path = path.to_owned();
            move |source| ServerError::Key { path, source }
        };
        let key = KeyPair::from_pem(&key).map_err(bad(&key_file))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key).map_err(bad(&certificate_file))?;
        let fingerprint = fingerprint(&pem)?;
        Ok(Self { issuer, certificate_pem: pem, fingerprint })
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// What a joining node is told, so that it can know the server before it has met it.
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// A key and a certificate for a part of this process.
    pub fn identity(&self, role: Option<Role>, name: &str, hosts: &[String]) -> Result<Identity, ServerError> {
        let key = KeyPair::generate()?;
        let certificate_pem = self.sign(role, name, hosts, &key)?;
        Ok(Identity { certificate_pem, key_pem: key.serialize_pem(), ca_pem: self.certificate_pem.clone() })
    }

    /// A certificate for a node that keeps its key to itself.
    pub fn certify(
        &self,
        role: Option<Role>,
        name: &str,
        hosts: &[String],
        public_key_pem: &str,
    ) -> Result<String, ServerError> {
        let key = SubjectPublicKeyInfo::from_pem(public_key_pem)?;
        self.sign(role, name, hosts, &key)
    }

    fn sign(
        &self,
        role: Option<Role>,
        name: &str,
        hosts: &[String],
        key: &impl PublicKeyData,
    ) -> Result<String, ServerError> {
        let mut params = CertificateParams::new(hosts.to_vec())?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        // A certificate without a role, as for an app's host name, is nobody's identity.
        if let Some(role) = role {
            params.distinguished_name.push(DnType::OrganizationalUnitName, role.to_string());
        }
        valid_for(&mut params, NODE_DAYS);
        Ok(params.signed_by(key, &self.issuer)?.pem())
    }
}

/// Of the DER form, which is what a TLS chain carries.
fn fingerprint(pem: &str) -> Result<Digest, ServerError> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes());
    let certificate =
        certificate.map_err(|source| ServerError::Tls(TlsError::Pem { what: "CA certificate", source }))?;
    Ok(Digest::of(&certificate))
}

fn authority() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "plfm cluster CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, CA_DAYS);
    Ok(params)
}

/// From an hour ago: clocks of one cluster differ a little.
fn valid_for(params: &mut CertificateParams, days: u64) {
    let now = std::time::SystemTime::now();
    params.not_before = (now - Duration::from_secs(3600)).into();
    params.not_after = (now + Duration::from_secs(days * 24 * 3600)).into();
}
