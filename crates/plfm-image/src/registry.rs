//! Fetches manifests and blobs from registries that speak the distribution protocol.
//!
//! A registry may be anyone's, so nothing it says is believed further than its digest reaches: answers are bounded,
//! credentials go to the host they belong to and to the token service it names over https, redirects never lead from
//! https to http nor to private addresses. Plain http is for hosts on a list, and for this machine.

mod auth;
mod client;
mod redirect;
mod retry;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use plfm_core::digest::Digest;

use client::Registry;
pub use retry::Retry;

use crate::error::ImageError;
use crate::manifest::Descriptor;
use crate::source::Sink;

/// Which registries are reached how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    /// Asked in turn before the host itself: `host[:port][/prefix]`.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Hosts that are spoken to in plain http, and that redirects may lead to wherever they are.
    pub insecure: BTreeSet<String>,
    pub credentials: BTreeMap<String, Credentials>,
    pub retry: Retry,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub username: String,
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// One place that may have a repository: the host, or one of its mirrors.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Endpoint {
    host: String,
    repository: String,
    plain: bool,
}

/// The name of the host differs from that of its registry only here.
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

impl Registries {
    fn endpoints(&self, host: &str, repository: &str) -> Vec<Endpoint> {
        let mirrors = self.mirrors.get(host).into_iter().flatten().map(|mirror| match mirror.split_once('/') {
            Some((host, prefix)) => self.endpoint(host, format!("{}/{repository}", prefix.trim_matches('/'))),
            None => self.endpoint(mirror, repository.to_owned()),
        });
        let itself = if host == HUB.0 { HUB.1 } else { host };
        mirrors.chain([self.endpoint(itself, repository.to_owned())]).collect()
    }

    fn endpoint(&self, host: &str, repository: String) -> Endpoint {
        Endpoint { host: host.to_owned(), repository, plain: self.is_plain(host) }
    }

    fn is_plain(&self, host: &str) -> bool {
        self.insecure.contains(host) || is_loopback(host)
    }

    fn credentials(&self, host: &str) -> Option<&Credentials> {
        let name = if host == HUB.1 { HUB.0 } else { host };
        self.credentials.get(host).or_else(|| self.credentials.get(name))
    }
}

fn is_loopback(host: &str) -> bool {
    let name = host_name(host);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `host` of `host:port`, `::1` of `[::1]:5000`.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

/// A repository on its host and mirrors.
pub struct Repository {
    registry: Registry,
    host: String,
    name: String,
}

impl Repository {
    pub fn new(host: &str, name: &str, registries: &Registries) -> Result<Self, ImageError> {
        Ok(Self { registry: Registry::new(registries)?, host: host.to_owned(), name: name.to_owned() })
    }

    /// A manifest or index by digest, else by tag: its bytes and what they hash to.
    pub async fn manifest(&self, tag: &str, digest: Option<&Digest>) -> Result<(Digest, Vec<u8>), ImageError> {
        let mut last = None;
        for endpoint in self.registry.endpoints(&self.host, &self.name) {
            match self.registry.manifest(&endpoint, tag, digest).await {
                Ok(found) => return Ok(found),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("a host is its own last endpoint"))
    }

    /// A blob's bytes, unjudged; what one place did not bring to an end the next one continues.
    pub async fn blob(&self, blob: &Descriptor, into: &mut Sink<'_>) -> Result<(), ImageError> {
        let mut last = None;
        for endpoint in self.registry.endpoints(&self.host, &self.name) {
            match self.registry.blob(&endpoint, blob, into).await {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("a host is its own last endpoint"))
    }
}

#[cfg(test)]
mod tests;
