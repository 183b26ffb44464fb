//! Real namespaces, taps and rules. Each test has a host of its own, which is a network namespace too, and an internet beside it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

use super::super::plan::guest;
use super::frame::Card;
use super::*;

/// Addresses that are public, of a resolver on the internet of the test.
pub const RESOLVER: [&str; 2] = ["9.9.9.9", "2620:fe::fe"];
/// Of the host, on its uplink: its public ones are no less closed than the others.
const HOST: [&str; 3] = ["100.66.0.1", "8.8.4.4", "2600::1"];

const DENIED_PORT: u16 = 7000;
/// Where a rule refuses: private ranges, metadata services, and their twins in IPv6.
const PRIVATE: [&str; 12] = [
    "10.0.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.1.1",
    "198.18.0.1",
    "64:ff9b::a9fe:a9fe",
    "2001::1",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "fd00:ec2::254",
    "fd51:1:2:1::999",
];
/// What the kernel itself passes on to nobody.
const NOWHERE: [&str; 5] = ["127.0.0.1", "169.254.64.1", "::ffff:169.254.169.254", "fe80::1", "fd00:706c:666d::1"];

pub struct World {
    pub net: Net,
    pub internet: String,
}

/// Runs `test` on a host of its own, or says why not.
pub fn on_a_host(name: &str, test: impl AsyncFnOnce(&World) + Send) {
    if let Err(missing) = Net::available() {
        eprintln!("skipped: {name}: {missing}");
        return;
    }
    let internet = format!("test-{name}-{}", std::process::id());
    thread::scope(|scope| {
        let host = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            connect_to_internet(&internet);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let world = World { net: Net::default(), internet: internet.clone() };
            runtime.block_on(test(&world));
        });
        let outcome = host.join();
        let _ = apply::ip(&[format!("netns del {internet}")]);
        outcome.unwrap();
    });
}

/// The internet knows the way to the host's own addresses and to nothing behind it.
fn connect_to_internet(internet: &str) {
    let outside = [
        "link set lo up".to_owned(),
        format!("netns add {internet}"),
        format!("link add wan type veth peer name wan netns {internet}"),
        "addr add 100.66.0.1/24 dev wan".to_owned(),
        "addr add 8.8.4.4/32 dev wan".to_owned(),
        "addr add 2600::1/64 dev wan nodad".to_owned(),
        "link set wan up".to_owned(),
        "route add 0.0.0.0/0 via 100.66.0.2".to_owned(),
        "route add ::/0 via 2600::2".to_owned(),
    ];
    let inside = [
        "link set lo up",
        "addr add 9.9.9.9/32 dev lo",
        "addr add 2620:fe::fe/128 dev lo",
        "addr add 100.66.0.2/24 dev wan",
        "addr add 2600::2/64 dev wan nodad",
        "link set wan up",
    ];
    apply::ip(&outside).unwrap();
    let leaks = format!(
        "table inet plfm {{\nchain input {{\ntype filter hook prerouting priority filter\nudp dport {DENIED_PORT} counter\n}}\n}}\n"
    );
    apply::inside(internet, || {
        apply::ip(&inside.map(str::to_owned))?;
        apply::nft(&leaks)
    })
    .unwrap();
}

fn socket(address: &str, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((address.parse::<IpAddr>().unwrap(), port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = [0; 100];
    let (size, from) = socket.recv_from(&mut bytes).expect("a datagram within 5 s");
    (bytes[..size].to_vec(), from)
}

fn assert_silent(socket: &UdpSocket) {
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0; 100]).is_err(), "something came through");
}

/// Packets that a rule has refused, in the thread's namespace.
fn refused() -> u64 {
    let output = Command::new("nft").args(["list", "table", "inet", "plfm"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let counts = text.split("counter packets ").skip(1).map(|rest| rest.split(' ').next().unwrap());
    counts.map(|count| count.parse::<u64>().unwrap()).sum()
}

fn refused_anywhere(id: InstanceId) -> u64 {
    refused() + apply::inside(&plan::namespace(id), || Ok(refused())).unwrap()
}

/// The host reaches it by its address, and it reaches the internet.
fn is_reached_and_reaches(world: &World, card: &mut Card, address: Ipv6Addr) {
    let caller = socket("::", 0);
    let call = card.receive_sent_again(|| {
        caller.send_to(b"are you there", (address, 80)).unwrap();
    });
    assert_eq!((call.to, call.body), (SocketAddr::new(guest::IPV6.into(), 80), b"are you there".to_vec()));
    card.send_as(call.to, call.from, b"yes");
    assert_eq!(receive(&caller), (b"yes".to_vec(), SocketAddr::new(address.into(), 80)));

    for (resolver, host) in RESOLVER.iter().zip(["100.66.0.1", "2600::1"]) {
        let listener = apply::inside(&world.internet, || Ok(socket(resolver, 53))).unwrap();
        card.send(listener.local_addr().unwrap(), b"question");
        let (question, from) = receive(&listener);
        assert_eq!((question, from.ip()), (b"question".to_vec(), host.parse().unwrap()), "as the host, masqueraded");
        listener.send_to(b"answer", from).unwrap();
        let answer = card.receive();
        assert_eq!((answer.from, answer.body), (listener.local_addr().unwrap(), b"answer".to_vec()));
    }
}

#[test]
fn an_instance_reaches_the_internet_and_the_host_reaches_it() {
    on_a_host("reach", async |world| {
        let (id, address) = (unique(100), address(0x100));
        let mut card = Card::new(world.net.ensure(id, address).await.unwrap().fd);

        is_reached_and_reaches(world, &mut card, address);
        drop(card);
        world.net.remove(id).await.unwrap();
    });
}

#[test]
fn an_instance_reaches_nothing_else() {
    on_a_host("deny", async |world| {
        let (id, neighbour, public) = (unique(101), unique(102), "2a00:1::102".parse().unwrap());
        let mut card = Card::new(world.net.ensure(id, address(0x101)).await.unwrap().fd);
        let mut other_card = Card::new(world.net.ensure(neighbour, public).await.unwrap().fd);
        let listeners = HOST.map(|address| socket(address, DENIED_PORT));
        let resolver = apply::inside(&world.internet, || Ok(socket(RESOLVER[0], 53))).unwrap();
        let mut attempts = 0;
        let public = public.to_string();
        for target in PRIVATE.into_iter().chain(HOST).chain([public.as_str()]) {
            let before = refused_anywhere(id);
            card.send(SocketAddr::new(target.parse().unwrap(), DENIED_PORT), b"let me in");
            // Frames keep their order: what arrives now was sent after the attempt had been judged.
            card.send(resolver.local_addr().unwrap(), b"next");
            receive(&resolver);
            assert_eq!(refused_anywhere(id), before + 1, "{target}");
            attempts += 1;
        }
        for target in NOWHERE {
            card.send(SocketAddr::new(target.parse().unwrap(), DENIED_PORT), b"let me in");
        }
        card.send_as("100.66.0.9:1".parse().unwrap(), resolver.local_addr().unwrap(), b"forged");
        card.send(resolver.local_addr().unwrap(), b"last");
        assert_eq!(receive(&resolver).0, b"last");
        assert_eq!(attempts, PRIVATE.len() + HOST.len() + 1);
        listeners.iter().for_each(assert_silent);
        assert_eq!(other_card.receive_now(), None);
        assert_eq!(apply::inside(&world.internet, || Ok(refused())).unwrap(), 0, "nothing leaked");
        drop((card, other_card));
        world.net.remove(id).await.unwrap();
        world.net.remove(neighbour).await.unwrap();
    });
}

#[test]
fn a_network_is_made_once_and_leaves_nothing() {
    on_a_host("life", async |world| {
        let (id, net) = (unique(103), &world.net);
        assert!(!net.list().await.unwrap().contains(&id));
        drop(net.ensure(id, address(0x103)).await.unwrap());
        let made = interfaces();
        assert!(made.contains("plfmv") && std::path::Path::new("/run/netns").join(plan::namespace(id)).exists());
        let tap = net.ensure(id, address(0x103)).await.unwrap();
        assert_eq!(interfaces(), made, "made once");
        assert_eq!(tap.mtu, MTU);
        drop(tap);

        drop(net.ensure(id, address(0x104)).await.unwrap());
        assert!(interfaces() != made && routes().contains("fd51:1:2:1::104") && !routes().contains("fd51:1:2:1::103"));
        assert!(net.list().await.unwrap().contains(&id));
        net.remove(id).await.unwrap();
        net.remove(id).await.unwrap();
        assert!(!net.list().await.unwrap().contains(&id));
        assert!(!interfaces().contains("plfmv") && !routes().contains("fd51:"), "{}", interfaces());
        assert!(!std::path::Path::new("/run/netns").join(plan::namespace(id)).exists());
    });
}

#[test]
fn it_is_handed_over_whole() {
    on_a_host("heir", async |world| {
        let (id, to, net) = (unique(106), unique(107), &world.net);
        let mut card = Card::new(net.ensure(id, address(0x106)).await.unwrap().fd);
        net.hand_over(id, to, address(0x107)).await.unwrap();
        assert!(routes().contains("fd51:1:2:1::107") && !routes().contains("fd51:1:2:1::106"), "{}", routes());
        let listed = net.list().await.unwrap();
        assert!(listed.contains(&to) && !listed.contains(&id));
        let made = interfaces();
        net.ensure(to, address(0x107)).await.expect_err("its only queue is held");
        assert_eq!(interfaces(), made, "it is the heir's, and whole");
        is_reached_and_reaches(world, &mut card, address(0x107));
        assert!(net.hand_over(id, unique(108), address(0x108)).await.is_err(), "there is none any more");
        net.remove(to).await.unwrap();
        assert!(!interfaces().contains("plfmv") && !routes().contains("fd51:"), "{}", interfaces());
    });
}

#[test]
fn what_a_crash_left_half_made_is_found_and_made_anew() {
    on_a_host("crash", async |world| {
        let (id, address) = (unique(105), address(0x105));
        let steps = Link::choose(id, address, &[]).outside();
        for done in 1..=steps.len() {
            apply::ip(&steps[..done]).unwrap();
            assert!(world.net.list().await.unwrap().contains(&id), "after {done} steps");
            let card = Card::new(world.net.ensure(id, address).await.unwrap().fd);
            drop(card);
            world.net.remove(id).await.unwrap();
            assert!(!world.net.list().await.unwrap().contains(&id));
        }
    });
}

/// Namespaces have names on the whole machine, and other tests run beside this one.
pub fn unique(number: u128) -> InstanceId {
    id(number << 64 | u128::from(std::process::id()))
}

fn interfaces() -> String {
    output(&["link", "show"])
}

fn routes() -> String {
    output(&["-6", "route", "show"])
}

fn output(args: &[&str]) -> String {
    String::from_utf8(Command::new("ip").args(args).output().unwrap().stdout).unwrap()
}
