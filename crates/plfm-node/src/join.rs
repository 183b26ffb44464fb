//! How a node becomes one of the cluster: once, with a single-use token; afterwards it has a certificate of its own.

use std::fs;
use std::path::Path;

use plfm_api::client::ApiError;
use plfm_api::problem::Problem;
use plfm_api::tls::{self, Identity};
use plfm_api::views::{JoinReply, JoinRequest};
use plfm_core::digest::Digest;
use plfm_core::event::Capacity;
use plfm_core::ids::NodeId;
use serde::{Deserialize, Serialize};

use crate::NodeError;
use crate::link::{ANSWER_WAIT, CONNECT_WAIT};

/// What `plfm node token` prints: `TOKEN@HOST:PORT#FINGERPRINT`.
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    pub token: String,
    /// `host:port` of the server.
    pub server: String,
    /// SHA-256 of the cluster's CA certificate: the server proves itself by it before the token is sent.
    pub ca: Digest,
}

/// Who the node is and where its server is; kept in its data directory, readable by it alone.
#[derive(Clone, Serialize, Deserialize)]
pub struct Membership {
    pub node: NodeId,
    pub server: String,
    certificate_pem: String,
    key_pem: String,
    ca_pem: String,
}

impl std::str::FromStr for Invitation {
    type Err = NodeError;

    fn from_str(text: &str) -> Result<Self, NodeError> {
        let parse = || {
            let (rest, ca) = text.rsplit_once('#')?;
            let (token, server) = rest.split_once('@').filter(|(token, _)| !token.is_empty())?;
            server.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())?;
            let ca = format!("sha256:{ca}").parse().ok()?;
            Some(Self { token: token.to_owned(), server: server.to_owned(), ca })
        };
        // The text holds a secret: what is repeated of it is its beginning.
        parse().ok_or_else(|| NodeError::JoinText(text.chars().take(10).collect::<String>() + "…"))
    }
}

/// The token stays out of logs.
impl std::fmt::Debug for Invitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invitation").field("server", &self.server).finish_non_exhaustive()
    }
}

impl std::fmt::Display for Invitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}#{}", self.token, self.server, self.ca.hex())
    }
}

impl Membership {
    pub fn identity(&self) -> Identity {
        Identity {
            certificate_pem: self.certificate_pem.clone(),
            key_pem: self.key_pem.clone(),
            ca_pem: self.ca_pem.clone(),
        }
    }

    /// None when this directory's node has not joined yet.
    pub fn load(data: &Path) -> Result<Option<Self>, NodeError> {
        let path = data.join("node.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(NodeError::file(&path)(error)),
        };
        let membership = serde_json::from_slice(&text);
        membership.map(Some).map_err(|error| NodeError::Damaged { path, detail: error.to_string() })
    }

    /// The node belongs to no cluster from here on; it may join one again.
    pub fn forget(data: &Path) -> Result<(), NodeError> {
        let path = data.join("node.json");
        fs::remove_file(&path).map_err(NodeError::file(&path))
    }

    fn save(&self, data: &Path) -> Result<(), NodeError> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let (path, fresh) = (data.join("node.json"), data.join("node.json.new"));
        let text = serde_json::to_vec_pretty(self).expect("strings become JSON");
        let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh);
        let written = file.and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
        written.and_then(|()| fs::rename(&fresh, &path)).map_err(NodeError::file(&path))
    }
}

/// Spends the token. The private key never leaves this directory.
pub async fn join(
    invitation: &Invitation,
    name: &str,
    capacity: Capacity,
    data: &Path,
) -> Result<Membership, NodeError> {
    let key = tls::key_pair()?;
    let request = JoinRequest {
        token: invitation.token.clone(),
        name: name.to_owned(),
        public_key_pem: key.public_key_pem,
        capacity,
    };
    let config = tls::pinned_config(invitation.ca)?;
    let client = reqwest::Client::builder().tls_backend_preconfigured(config).https_only(true);
    let client = client.connect_timeout(CONNECT_WAIT).timeout(ANSWER_WAIT).build()?;
    let cut = |error| NodeError::Join(ApiError::of(error));
    let answer = client.post(format!("https://{}/v1/nodes/join", invitation.server)).json(&request).send();
    let answer = answer.await.map_err(cut)?;
    if !answer.status().is_success() {
        let problem: Problem = answer.json().await.map_err(cut)?;
        return Err(NodeError::Refused { detail: problem.detail, hint: problem.hint });
    }
    let JoinReply { node, certificate_pem, ca_pem } = answer.json().await.map_err(cut)?;
    let server = invitation.server.clone();
    let membership = Membership { node, server, certificate_pem, key_pem: key.key_pem, ca_pem };
    membership.save(data)?;
    Ok(membership)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_reads_as_it_prints() {
        let ca = Digest::of(b"ca");
        let text = format!("enroll_abc@[::1]:7443#{}", ca.hex());
        let invitation: Invitation = text.parse().unwrap();
        assert_eq!(
            (invitation.token.as_str(), invitation.server.as_str(), invitation.ca),
            ("enroll_abc", "[::1]:7443", ca)
        );
        assert_eq!(invitation.to_string(), text);
        assert!(!format!("{invitation:?}").contains("abc"));
        (0..text.len()).for_each(|cut| assert!(text[..cut].parse::<Invitation>().is_err(), "{cut}"));
    }

    #[test]
    fn a_wrong_invitation_is_refused_without_repeating_its_token() {
        for text in
            ["", "enroll_0123456789abcdef", "enroll_0123456789abcdef@host:1", "enroll_0123456789abcdef@host:1#00"]
        {
            let error = text.parse::<Invitation>().err().unwrap().to_string();
            assert!(!error.contains("456789"), "{error}");
        }
    }
}
