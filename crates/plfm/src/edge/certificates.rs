//! Which certificate a name gets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use plfm_api::views::RouteTable;
use plfm_core::event::Entry;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::Issue;

/// Strangers choose the names; what has been made for them must not grow. A kept configuration has a few KiB.
const KEPT_MAX: usize = 2048;

/// Certificates are good for three months.
const RENEW_AFTER: Duration = Duration::from_secs(60 * 24 * 3600);

pub struct Certificates {
    /// With its dot: `.example.org`.
    suffix: String,
    issue: Issue,
    kept: Mutex<HashMap<String, (Arc<ServerConfig>, Instant)>>,
}

impl Certificates {
    pub fn new(domain: &str, issue: Issue) -> Self {
        Self { suffix: format!(".{}", domain.to_lowercase()), issue, kept: Mutex::default() }
    }

    /// None for a name that is not ours.
    pub fn config(&self, name: &str, table: &RouteTable) -> Option<Arc<ServerConfig>> {
        let name = name.to_lowercase();
        if let Some((config, made)) = self.kept.lock().expect("no panic while it is held").get(&name)
            && made.elapsed() < RENEW_AFTER
        {
            return Some(config.clone());
        }
        if !self.is_ours(&name, table) {
            return None;
        }
        let config = Arc::new(server_config((self.issue)(&name)?)?);
        let mut kept = self.kept.lock().expect("no panic while it is held");
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(name, (config.clone(), Instant::now()));
        Some(config)
    }

    fn is_ours(&self, name: &str, table: &RouteTable) -> bool {
        name.ends_with(&self.suffix) || table.find(&Entry::Hostname(name.to_owned())).is_some()
    }
}

fn server_config(key: Arc<CertifiedKey>) -> Option<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().ok()?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(Always(key)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Some(config)
}

/// The name was looked at before.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}
