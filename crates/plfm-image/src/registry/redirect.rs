//! Where a registry may send us for a blob: its store is often elsewhere, but never inside our own network.

use std::net::IpAddr;

use reqwest::Url;

use super::{Registries, host_name, is_loopback};

impl Registries {
    pub(super) async fn may_lead(&self, from: &Url, to: &Url) -> bool {
        let (Some(host), Some(port)) = (to.host_str(), to.port_or_known_default()) else { return false };
        let same = from.host_str() == Some(host) && from.port_or_known_default() == Some(port);
        let listed = same || self.insecure.contains(&authority(to)) || self.insecure.contains(host);
        if to.scheme() != "https"
            && !(to.scheme() == "http" && from.scheme() == "http" && (listed || self.is_plain(host)))
        {
            return false;
        }
        // From one port of this machine to another is what a test or a local mirror does.
        if listed || (is_loopback(host) && from.host_str().is_some_and(is_loopback)) {
            return true;
        }
        match tokio::net::lookup_host((host_name(host), port)).await {
            Ok(mut addresses) => addresses.all(|address| is_public(address.ip())),
            Err(_) => true,
        }
    }
}

/// `host` or `host:port`, as the lists name it.
pub fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Addresses that a stranger may send us to.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast())
                && !(shared || a == 0 || v4.is_multicast())
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_public(IpAddr::V4(v4)),
            None => {
                let nat64 = v6.segments()[..2] == [0x64, 0xff9b];
                let global = !(v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unique_local());
                global && !v6.is_unicast_link_local() && !nat64 && v6.segments()[0] != 0x2002
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn redirects() {
        let registries = Registries {
            insecure: ["dev.example".to_owned(), "10.1.1.1:5000".to_owned()].into(),
            ..Registries::default()
        };
        for (from, to, may) in [
            ("https://1.1.1.1/a", "https://1.1.1.2/b", true),
            ("https://1.1.1.1/a", "http://1.1.1.1/a", false),
            ("https://1.1.1.1/a", "http://dev.example/a", false),
            ("https://10.0.0.1/a", "https://10.0.0.1/b", true),
            ("https://10.0.0.1/a", "https://10.0.0.2/b", false),
            ("https://1.1.1.1/a", "https://10.1.1.1:5000/b", true),
            ("https://1.1.1.1/a", "https://127.0.0.1/b", false),
            ("https://1.1.1.1/a", "https://localhost/b", false),
            ("https://1.1.1.1/a", "https://169.254.169.254/b", false),
            ("https://1.1.1.1/a", "https://100.64.0.1/b", false),
            ("https://1.1.1.1/a", "https://[fd00::1]/b", false),
            ("https://1.1.1.1/a", "https://[fe80::1]/b", false),
            ("https://1.1.1.1/a", "https://[::ffff:10.0.0.1]/b", false),
            ("https://1.1.1.1/a", "https://[64:ff9b::a00:1]/b", false),
            ("https://1.1.1.1/a", "https://[2002:a00:1::]/b", false),
            ("https://1.1.1.1/a", "https://[2606:4700::1111]/b", true),
            ("https://1.1.1.1/a", "https://0.0.0.0/b", false),
            ("http://127.0.0.1:1/a", "http://127.0.0.1:2/b", true),
            ("http://127.0.0.1:1/a", "http://1.1.1.1/b", false),
            ("http://127.0.0.1:1/a", "http://dev.example/b", true),
            ("https://1.1.1.1/a", "ftp://1.1.1.1/a", false),
        ] {
            let (from, to) = (Url::parse(from).unwrap(), Url::parse(to).unwrap());
            assert_eq!(registries.may_lead(&from, &to).await, may, "{from} to {to}");
        }
    }
}
