//! The machine's network: what was asked, the steps that make it so, and calls to ports of the machine itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use plfm_api::guest::Network;

mod apply;
pub mod dial;
mod plan;
pub mod probe;
pub mod quiet;

pub use apply::apply;
pub use plan::plan;

/// P-NET-31.
const MTU: std::ops::RangeInclusive<u32> = 1280..=9000;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Net {
    /// There is no device: the addresses go to `lo`.
    pub loopback_only: bool,
    pub v6: Option<Link>,
    pub v4: Option<Link>,
    pub mtu: Option<u32>,
    pub dns: Vec<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub address: IpAddr,
    pub prefix: u8,
    pub gateway: Option<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetInvalid {
    #[error("\"{text}\" is not an {kind} address")]
    Address { text: String, kind: &'static str },
    #[error("/{prefix} is not a prefix of {address}")]
    Prefix { prefix: u32, address: IpAddr },
    #[error("mtu {0} is not between 1280 and 9000")]
    Mtu(u32),
}

impl Net {
    pub fn read(network: &Network) -> Result<Self, NetInvalid> {
        let v6 = |text: &str| parse::<Ipv6Addr>(text, "IPv6");
        let v4 = |text: &str| parse::<Ipv4Addr>(text, "IPv4");
        if network.mtu != 0 && !MTU.contains(&network.mtu) {
            return Err(NetInvalid::Mtu(network.mtu));
        }
        Ok(Self {
            loopback_only: network.loopback_only,
            v6: link(v6(&network.ipv6)?, network.ipv6_prefix, v6(&network.ipv6_gateway)?)?,
            v4: link(v4(&network.ipv4)?, network.ipv4_prefix, v4(&network.ipv4_gateway)?)?,
            mtu: Some(network.mtu).filter(|mtu| *mtu != 0),
            dns: network
                .dns
                .iter()
                .filter_map(|text| parse::<IpAddr>(text, "IP").transpose())
                .collect::<Result<_, _>>()?,
        })
    }

    /// The machine's own addresses, in the order in which they are called.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        [&self.v6, &self.v4].into_iter().flatten().map(|link| link.address)
    }
}

fn parse<A: std::str::FromStr + Into<IpAddr>>(text: &str, kind: &'static str) -> Result<Option<IpAddr>, NetInvalid> {
    if text.is_empty() {
        return Ok(None);
    }
    let address = text.parse::<A>().map_err(|_| NetInvalid::Address { text: text.chars().take(64).collect(), kind })?;
    Ok(Some(address.into()))
}

fn link(address: Option<IpAddr>, prefix: u32, gateway: Option<IpAddr>) -> Result<Option<Link>, NetInvalid> {
    let Some(address) = address else { return Ok(None) };
    let longest = if address.is_ipv6() { 128 } else { 32 };
    match u8::try_from(prefix) {
        Ok(prefix @ 1..) if prefix <= longest => Ok(Some(Link { address, prefix, gateway })),
        _ => Err(NetInvalid::Prefix { prefix, address }),
    }
}
