//! The network as a list of steps.

use std::net::IpAddr;

use super::{Link, Net};

pub const DEVICE: &str = "eth0";
pub const LOOPBACK: &str = "lo";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A kernel setting; one that this kernel does not have is not needed either.
    Set {
        path: String,
        value: &'static str,
    },
    Mtu {
        device: &'static str,
        mtu: u32,
    },
    Up {
        device: &'static str,
    },
    Address {
        device: &'static str,
        address: IpAddr,
        prefix: u8,
    },
    /// The default route; the gateway need not be inside the prefix.
    Route {
        device: &'static str,
        gateway: IpAddr,
    },
}

/// Nobody else is on the link and the addresses are given: nothing is to be detected, asked for or announced.
const SETTINGS: [(&str, &str); 4] =
    [("accept_dad", "0"), ("dad_transmits", "0"), ("accept_ra", "0"), ("autoconf", "0")];

pub fn plan(net: &Net) -> Vec<Step> {
    let mut steps = vec![Step::Up { device: LOOPBACK }];
    if net.loopback_only {
        steps.extend(links(net).map(|link| Step::Address {
            device: LOOPBACK,
            address: link.address,
            prefix: host(link),
        }));
        return steps;
    }
    if links(net).next().is_none() {
        return steps;
    }
    steps.extend(settings());
    steps.extend(net.mtu.map(|mtu| Step::Mtu { device: DEVICE, mtu }));
    steps.push(Step::Up { device: DEVICE });
    steps.extend(links(net).map(|link| Step::Address { device: DEVICE, address: link.address, prefix: link.prefix }));
    steps.extend(links(net).filter_map(|link| link.gateway).map(|gateway| Step::Route { device: DEVICE, gateway }));
    steps
}

fn links(net: &Net) -> impl Iterator<Item = &Link> {
    [&net.v6, &net.v4].into_iter().flatten()
}

fn host(link: &Link) -> u8 {
    if link.address.is_ipv6() { 128 } else { 32 }
}

fn settings() -> impl Iterator<Item = Step> {
    SETTINGS.iter().map(|(name, value)| Step::Set { path: format!("/proc/sys/net/ipv6/conf/{DEVICE}/{name}"), value })
}

#[cfg(test)]
mod tests {
    use plfm_api::guest::Network;

    use super::*;

    fn network() -> Network {
        Network {
            ipv6: "fd00:c1::2".into(),
            ipv6_prefix: 64,
            ipv6_gateway: "fe80::1".into(),
            ipv4: "169.254.64.2".into(),
            ipv4_prefix: 30,
            ipv4_gateway: "169.254.64.1".into(),
            mtu: 1420,
            dns: vec!["fd00:c1::53".into()],
            ..Default::default()
        }
    }

    fn steps(network: &Network) -> Vec<String> {
        let steps = plan(&Net::read(network).unwrap());
        steps.iter().filter(|step| !matches!(step, Step::Set { .. })).map(|step| format!("{step:?}")).collect()
    }

    #[test]
    fn a_device_gets_both_addresses_and_their_routes() {
        assert_eq!(
            steps(&network()),
            [
                "Up { device: \"lo\" }",
                "Mtu { device: \"eth0\", mtu: 1420 }",
                "Up { device: \"eth0\" }",
                "Address { device: \"eth0\", address: fd00:c1::2, prefix: 64 }",
                "Address { device: \"eth0\", address: 169.254.64.2, prefix: 30 }",
                "Route { device: \"eth0\", gateway: fe80::1 }",
                "Route { device: \"eth0\", gateway: 169.254.64.1 }",
            ]
        );
    }

    #[test]
    fn without_a_device_the_addresses_are_on_loopback() {
        assert_eq!(
            steps(&Network { loopback_only: true, ..network() }),
            [
                "Up { device: \"lo\" }",
                "Address { device: \"lo\", address: fd00:c1::2, prefix: 128 }",
                "Address { device: \"lo\", address: 169.254.64.2, prefix: 32 }",
            ]
        );
        assert_eq!(steps(&Network::default()), ["Up { device: \"lo\" }"]);
    }

    #[test]
    fn addresses_that_are_none_are_refused() {
        let refused = |network: Network| Net::read(&network).unwrap_err().to_string();
        assert_eq!(refused(Network { ipv6: "10.0.0.1".into(), ..network() }), "\"10.0.0.1\" is not an IPv6 address");
        assert_eq!(refused(Network { ipv4_prefix: 33, ..network() }), "/33 is not a prefix of 169.254.64.2");
        assert_eq!(refused(Network { ipv4_prefix: 4000, ..network() }), "/4000 is not a prefix of 169.254.64.2");
        assert_eq!(refused(Network { mtu: 100, ..network() }), "mtu 100 is not between 1280 and 9000");
    }
}
