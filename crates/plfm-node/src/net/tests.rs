use expect_test::{Expect, expect};
use plfm_core::ids::InstanceId;
use ulid::Ulid;

use super::plan::{Link, host_rules};
use super::*;

mod frame;
mod guest;
mod real;

fn id(number: u128) -> InstanceId {
    InstanceId::new(Ulid(number))
}

fn address(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd51, 1, 2, 1, 0, 0, 0, number)
}

fn check(lines: &[String], expected: Expect) {
    expected.assert_eq(&(lines.join("\n") + "\n"));
}

#[test]
fn what_is_made_for_an_instance() {
    let link = Link::choose(id(1), address(7), &[]);
    check(
        &link.outside(),
        expect![[r#"
        netns add plfm-inst_00000000000000000000000001
        link add plfmv1e393cfc07 address 02:70:6c:66:6d:03 mtu 1420 type veth peer name up0 address 02:70:6c:66:6d:04 mtu 1420 netns plfm-inst_00000000000000000000000001
        link set plfmv1e393cfc07 addrgenmode none
        addr add fe80::1/64 dev plfmv1e393cfc07 nodad
        addr add fd00:706c:666d:1::1/128 dev plfmv1e393cfc07 nodad
        link set plfmv1e393cfc07 up
        neigh replace fe80::2 lladdr 02:70:6c:66:6d:04 dev plfmv1e393cfc07 nud permanent
        route replace 198.19.50.155/32 via inet6 fe80::2 dev plfmv1e393cfc07
        route replace fd51:1:2:1::7/128 via fe80::2 dev plfmv1e393cfc07 src fd00:706c:666d:1::1
    "#]],
    );
    check(
        &link.inside(),
        expect![[r#"
        link set lo up
        link set up0 addrgenmode none
        addr add fe80::2/64 dev up0 nodad
        link set up0 up
        neigh replace fe80::1 lladdr 02:70:6c:66:6d:03 dev up0 nud permanent
        route replace 0.0.0.0/0 via inet6 fe80::1 dev up0
        route replace ::/0 via fe80::1 dev up0
        tuntap add dev tap0 mode tap vnet_hdr
        link set tap0 addrgenmode none
        link set tap0 address 02:70:6c:66:6d:02 mtu 1420
        addr add 169.254.64.1/30 dev tap0
        addr add fe80::1/64 dev tap0 nodad
        addr add fd00:706c:666d::1/64 dev tap0 nodad
        link set tap0 up
        neigh replace 169.254.64.2 lladdr 02:70:6c:66:6d:01 dev tap0 nud permanent
        neigh replace fd00:706c:666d::2 lladdr 02:70:6c:66:6d:01 dev tap0 nud permanent
    "#]],
    );
    check(
        &link.finish(),
        expect![[r#"
        link set plfmv1e393cfc07 alias "plfm inst_00000000000000000000000001 fd51:1:2:1::7 198.19.50.155"
    "#]],
    );
    expect![[r#"
        table inet plfm
        delete table inet plfm
        table inet plfm {
        	chain input {
        		type filter hook input priority filter; policy drop;
        		ct state established,related accept
        		iifname "tap0" icmpv6 type nd-neighbor-solicit accept
        	}
        	chain forward {
        		type filter hook forward priority filter; policy drop;
        		ct state established,related accept
        		iifname "up0" ip6 daddr fd00:706c:666d::2 accept
        		iifname "tap0" oifname "up0" jump egress
        		counter
        	}
        	chain pace {
        		type filter hook forward priority filter - 1;
        		iifname "tap0" limit rate over 125 mbytes/second burst 64 mbytes counter drop
        		oifname "tap0" limit rate over 125 mbytes/second burst 64 mbytes counter drop
        	}
        	chain egress {
        		ip saddr != 169.254.64.2 counter drop
        		ip6 saddr != fd00:706c:666d::2 counter drop
        		ip daddr { 0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.0.0.0/24, 192.0.2.0/24, 192.88.99.0/24, 192.168.0.0/16, 198.18.0.0/15, 198.51.100.0/24, 203.0.113.0/24, 224.0.0.0/3 } counter drop
        		ip6 daddr != 2000::/3 counter drop
        		ip6 daddr { 2001::/23, 2001:db8::/32, 2002::/16, 3fff::/20 } counter drop
        		tcp dport { 23, 25, 135-139, 445, 465, 587 } counter drop
        		accept
        	}
        	chain prerouting {
        		type nat hook prerouting priority dstnat;
        		iifname "up0" ip6 daddr fd51:1:2:1::7 dnat ip6 to fd00:706c:666d::2
        	}
        	chain postrouting {
        		type nat hook postrouting priority srcnat;
        		oifname "up0" ip saddr 169.254.64.2 snat ip to 198.19.50.155
        		oifname "up0" ip6 saddr fd00:706c:666d::2 snat ip6 to fd51:1:2:1::7
        	}
        }
    "#]].assert_eq(&link.rules());
}

#[test]
fn what_the_host_allows() {
    expect![[r#"
        table inet plfm
        delete table inet plfm
        table inet plfm {
        	chain input {
        		type filter hook input priority filter; policy accept;
        		iifname "plfmv*" ct state established,related accept
        		iifname "plfmv*" counter drop
        	}
        	chain forward {
        		type filter hook forward priority filter; policy accept;
        		oifname "plfmv*" ct state established,related accept
        		oifname "plfmv*" counter drop
        	}
        	chain postrouting {
        		type nat hook postrouting priority srcnat;
        		iifname "plfmv*" ip saddr 198.18.0.0/15 masquerade
        		iifname "plfmv*" ip6 saddr fc00::/7 masquerade
        	}
        }
    "#]]
    .assert_eq(&host_rules());
}

#[test]
fn names_fit_the_kernel_and_are_never_shared() {
    let first = Link::choose(id(1), address(1), &[]);
    assert!(first.name.len() <= 15, "{}", first.name);
    let second = Link::choose(id(1), address(1), std::slice::from_ref(&first));
    assert_ne!((&first.name, first.transit), (&second.name, second.transit));
    let mut all = Vec::new();
    for number in 0..500 {
        let link = Link::choose(id(number), address(number as u16), &all);
        assert!(!all.iter().any(|other: &Link| other.transit == link.transit || other.name == link.name));
        all.push(link);
    }
}

#[test]
fn an_interface_tells_whose_it_is() {
    let link = Link::choose(id(3), address(4), &[]);
    assert_eq!(Link::from_alias(&link.name, &link.alias()), Some(link.clone()));
    assert_eq!(plan::namespace_owner(&plan::namespace(link.id)), Some(link.id));
    let alias = link.alias();
    for cut in 0..alias.len() {
        assert_ne!(Link::from_alias(&link.name, &alias[..cut]), Some(link.clone()), "cut at {cut}");
    }
    for foreign in ["", "uplink", "plfm", "plfm a b c", &format!("{alias} more"), &alias.replace("plfm ", "peer ")] {
        assert_eq!(Link::from_alias("eth0", foreign), None, "{foreign}");
    }
    assert_eq!(plan::namespace_owner("plfm-other"), None);
}
