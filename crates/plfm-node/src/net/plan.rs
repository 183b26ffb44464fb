//! What there should be on the host for an instance: lines for `ip -batch` and rule sets for `nft`. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use plfm_core::digest::Digest;
use plfm_core::ids::InstanceId;
use plfm_runtime::GUEST_MAC;

/// What the guest's own world looks like, the same for each.
pub mod guest {
    use std::net::{Ipv4Addr, Ipv6Addr};

    pub const IPV4: Ipv4Addr = Ipv4Addr::new(169, 254, 64, 2);
    pub const IPV4_PREFIX: u8 = 30;
    pub const IPV4_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 64, 1);
    pub const IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x706c, 0x666d, 0, 0, 0, 0, 2);
    pub const IPV6_PREFIX: u8 = 64;
    pub const IPV6_GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x706c, 0x666d, 0, 0, 0, 0, 1);
}

/// P-NET-14: the same on the mesh, on taps and in guests.
pub const MTU: u16 = 1420;
pub const TAP: &str = "tap0";
/// Of the pair between namespace and host.
const INNER: &str = "up0";
const OUTER_PREFIX: &str = "plfmv";
const NAMESPACE_PREFIX: &str = "plfm-";

/// A clone keeps its neighbours in mind, so every gateway has this address.
const TAP_MAC: &str = "02:70:6c:66:6d:02";
const OUTER_MAC: &str = "02:70:6c:66:6d:03";
const INNER_MAC: &str = "02:70:6c:66:6d:04";

/// Where the host's own calls to an instance come from: a host may have no address that reaches that far.
const HOST: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x706c, 0x666d, 1, 0, 0, 0, 1);
/// For IPv4 between namespace and host: 198.18.0.0/15 is set apart for benchmarks (RFC 2544), so nobody's network uses it.
const TRANSIT: u32 = Ipv4Addr::new(198, 18, 0, 0).to_bits();
const TRANSIT_SIZE: u32 = 1 << 17;

/// In a namespace before it has interfaces.
pub const SETTINGS: &[(&str, &str)] = &[
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
];

/// Not public: what an instance must not reach by IPv4 (RFC 6890 and the cloud's metadata services, which are link-local).
const IPV4_DENIED: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
];

/// All that is public by IPv6. What is outside of it holds mapped, translated, private, link-local and metadata addresses.
const IPV6_PUBLIC: &str = "2000::/3";
/// Inside of it: Teredo and other protocol addresses, documentation, and 6to4, which leads back to IPv4.
const IPV6_DENIED: &[&str] = &["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"];

/// P-NET-33: mail and the ports that worms use.
const PORTS_DENIED: &[&str] = &["23", "25", "135-139", "445", "465", "587"];

/// P-ISO-4: for each direction, as nft(8) has it. What is over it is dropped, and TCP takes the hint.
const PACE: &str = "125 mbytes/second burst 64 mbytes";

/// An instance's place in the host's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub id: InstanceId,
    pub address: Ipv6Addr,
    pub transit: Ipv4Addr,
    /// The host's end of the pair; at most 15 bytes.
    pub name: String,
}

pub fn namespace(id: InstanceId) -> String {
    format!("{NAMESPACE_PREFIX}{id}")
}

/// The instance whose namespace has this name.
pub fn namespace_owner(name: &str) -> Option<InstanceId> {
    name.strip_prefix(NAMESPACE_PREFIX)?.parse().ok()
}

impl Link {
    /// A name and a transit address that none of `others` has.
    pub fn choose(id: InstanceId, address: Ipv6Addr, others: &[Self]) -> Self {
        let free = |link: &Self| !others.iter().any(|other| other.name == link.name || other.transit == link.transit);
        let mut tries = (0_u32..).map(|salt| Self::nth(id, address, salt));
        tries.find(free).expect("a host has far fewer instances than there are names")
    }

    fn nth(id: InstanceId, address: Ipv6Addr, salt: u32) -> Self {
        let hash = Digest::of(format!("{id} {salt}").as_bytes()).hex();
        let number = u32::from_str_radix(&hash[10..18], 16).expect("eight hex digits");
        let transit = Ipv4Addr::from_bits(TRANSIT + number % TRANSIT_SIZE);
        Self { id, address, transit, name: format!("{OUTER_PREFIX}{}", &hash[..10]) }
    }

    /// What the host's interface says about itself, once all is made.
    pub fn alias(&self) -> String {
        format!("plfm {} {} {}", self.id, self.address, self.transit)
    }

    /// The link that an interface says it is.
    pub fn from_alias(name: &str, alias: &str) -> Option<Self> {
        let (Some("plfm"), [id, address, transit]) = (alias.split(' ').next(), fields(alias)?) else { return None };
        let (id, address, transit) = (id.parse().ok()?, address.parse().ok()?, transit.parse().ok()?);
        Some(Self { id, address, transit, name: name.to_owned() })
    }

    /// On the host, first.
    pub fn outside(&self) -> Vec<String> {
        let Self { name, transit, id, .. } = self;
        let namespace = namespace(*id);
        vec![
            format!("netns add {namespace}"),
            format!(
                "link add {name} address {OUTER_MAC} mtu {MTU} type veth \
                 peer name {INNER} address {INNER_MAC} mtu {MTU} netns {namespace}"
            ),
            format!("link set {name} addrgenmode none"),
            format!("addr add fe80::1/64 dev {name} nodad"),
            format!("addr add {HOST}/128 dev {name} nodad"),
            format!("link set {name} up"),
            format!("neigh replace fe80::2 lladdr {INNER_MAC} dev {name} nud permanent"),
            format!("route replace {transit}/32 via inet6 fe80::2 dev {name}"),
            self.route(),
        ]
    }

    /// To the instance's own address.
    pub fn route(&self) -> String {
        format!("route replace {}/128 via fe80::2 dev {} src {HOST}", self.address, self.name)
    }

    pub fn unroute(&self) -> String {
        format!("route del {}/128 dev {}", self.address, self.name)
    }

    /// In the namespace.
    pub fn inside(&self) -> Vec<String> {
        use guest::*;
        vec![
            "link set lo up".to_owned(),
            format!("link set {INNER} addrgenmode none"),
            format!("addr add fe80::2/64 dev {INNER} nodad"),
            format!("link set {INNER} up"),
            format!("neigh replace fe80::1 lladdr {OUTER_MAC} dev {INNER} nud permanent"),
            format!("route replace 0.0.0.0/0 via inet6 fe80::1 dev {INNER}"),
            format!("route replace ::/0 via fe80::1 dev {INNER}"),
            format!("tuntap add dev {TAP} mode tap vnet_hdr"),
            format!("link set {TAP} addrgenmode none"),
            format!("link set {TAP} address {TAP_MAC} mtu {MTU}"),
            format!("addr add {IPV4_GATEWAY}/{IPV4_PREFIX} dev {TAP}"),
            format!("addr add fe80::1/64 dev {TAP} nodad"),
            format!("addr add {IPV6_GATEWAY}/{IPV6_PREFIX} dev {TAP} nodad"),
            format!("link set {TAP} up"),
            format!("neigh replace {IPV4} lladdr {GUEST_MAC} dev {TAP} nud permanent"),
            format!("neigh replace {IPV6} lladdr {GUEST_MAC} dev {TAP} nud permanent"),
        ]
    }

    /// On the host, last: what carries this alias is whole.
    pub fn finish(&self) -> Vec<String> {
        vec![format!("link set {} alias \"{}\"", self.name, self.alias())]
    }

    /// The namespace's rules: 1:1 addresses, and what may pass.
    pub fn rules(&self) -> String {
        let Self { address, transit, .. } = self;
        let (ipv4, ipv6) = (guest::IPV4, guest::IPV6);
        let (denied4, denied6, ports) = (IPV4_DENIED.join(", "), IPV6_DENIED.join(", "), PORTS_DENIED.join(", "));
        fresh_table(&format!(
            r#"
	chain input {{
		type filter hook input priority filter; policy drop;
		ct state established,related accept
		iifname "{TAP}" icmpv6 type nd-neighbor-solicit accept
	}}
	chain forward {{
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
		iifname "{INNER}" ip6 daddr {ipv6} accept
		iifname "{TAP}" oifname "{INNER}" jump egress
		counter
	}}
	chain pace {{
		type filter hook forward priority filter - 1;
		iifname "{TAP}" limit rate over {PACE} counter drop
		oifname "{TAP}" limit rate over {PACE} counter drop
	}}
	chain egress {{
		ip saddr != {ipv4} counter drop
		ip6 saddr != {ipv6} counter drop
		ip daddr {{ {denied4} }} counter drop
		ip6 daddr != {IPV6_PUBLIC} counter drop
		ip6 daddr {{ {denied6} }} counter drop
		tcp dport {{ {ports} }} counter drop
		accept
	}}
	chain prerouting {{
		type nat hook prerouting priority dstnat;
		iifname "{INNER}" ip6 daddr {address} dnat ip6 to {ipv6}
	}}
	chain postrouting {{
		type nat hook postrouting priority srcnat;
		oifname "{INNER}" ip saddr {ipv4} snat ip to {transit}
		oifname "{INNER}" ip6 saddr {ipv6} snat ip6 to {address}
	}}"#
        ))
    }
}

/// In the namespace, before it goes: both ends of the pair go with one.
pub fn unplug() -> Vec<String> {
    vec![format!("link del {INNER}")]
}

fn fields(alias: &str) -> Option<[&str; 3]> {
    let fields: Vec<&str> = alias.split(' ').skip(1).collect();
    fields.try_into().ok()
}

/// The host's rules, the same whatever instances there are.
pub fn host_rules() -> String {
    let (ours, transit) = (format!("\"{OUTER_PREFIX}*\""), Ipv4Addr::from_bits(TRANSIT));
    fresh_table(&format!(
        r#"
	chain input {{
		type filter hook input priority filter; policy accept;
		iifname {ours} ct state established,related accept
		iifname {ours} counter drop
	}}
	chain forward {{
		type filter hook forward priority filter; policy accept;
		oifname {ours} ct state established,related accept
		oifname {ours} counter drop
	}}
	chain postrouting {{
		type nat hook postrouting priority srcnat;
		iifname {ours} ip saddr {transit}/15 masquerade
		iifname {ours} ip6 saddr fc00::/7 masquerade
	}}"#
    ))
}

/// Replaces the table in one step: there is no moment without rules.
fn fresh_table(chains: &str) -> String {
    format!("table inet plfm\ndelete table inet plfm\ntable inet plfm {{{chains}\n}}\n")
}
