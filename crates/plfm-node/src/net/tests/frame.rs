//! Ethernet frames with UDP inside, as a guest would send and see them.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, poll};

use super::super::plan::guest;

/// The header of a virtio network card, empty: nothing is left to the other side.
const CARD_HEADER: usize = 10;
const GUEST: [u8; 6] = [0x02, 0x70, 0x6c, 0x66, 0x6d, 0x01];
const GATEWAY: [u8; 6] = [0x02, 0x70, 0x6c, 0x66, 0x6d, 0x02];
const UDP: u8 = 17;

#[derive(Debug, PartialEq, Eq)]
pub struct Datagram {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub body: Vec<u8>,
}

/// A guest's card, driven by hand.
pub struct Card {
    tap: File,
}

impl Card {
    pub fn new(tap: OwnedFd) -> Self {
        Self { tap: tap.into() }
    }

    /// Sends from the guest's own address of the right family.
    pub fn send(&mut self, to: SocketAddr, body: &[u8]) {
        let from = match to {
            SocketAddr::V4(_) => SocketAddr::new(guest::IPV4.into(), 4000),
            SocketAddr::V6(_) => SocketAddr::new(guest::IPV6.into(), 4000),
        };
        self.send_as(from, to, body);
    }

    pub fn send_as(&mut self, from: SocketAddr, to: SocketAddr, body: &[u8]) {
        let frame = frame(from, to, body);
        self.tap.write_all(&frame).unwrap();
    }

    /// The next datagram to the guest; what else the host sends is passed over.
    pub fn receive(&mut self) -> Datagram {
        self.receive_within(5_000).expect("a frame for the guest within 5 s")
    }

    /// The same, of what is sent again each second: the first datagram into a network that was just made may be dropped while the
    /// neighbours look for each other, as any datagram may.
    pub fn receive_sent_again(&mut self, send: impl Fn()) -> Datagram {
        let mut tries = (0..30).filter_map(|_| {
            send();
            self.receive_within(1_000)
        });
        let received = tries.next().expect("a frame for the guest within 30 s");
        drop(tries);
        while self.receive_now().is_some() {}
        received
    }

    /// What is there already.
    pub fn receive_now(&mut self) -> Option<Datagram> {
        self.receive_within(0)
    }

    fn receive_within(&mut self, wait_ms: u16) -> Option<Datagram> {
        while poll(&mut [PollFd::new(self.tap.as_fd(), PollFlags::POLLIN)], wait_ms).unwrap() == 1 {
            let mut bytes = [0; 4096];
            let size = self.tap.read(&mut bytes).unwrap();
            if let Some(datagram) = parse(&bytes[CARD_HEADER..size]) {
                return Some(datagram);
            }
        }
        None
    }
}

fn frame(from: SocketAddr, to: SocketAddr, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; CARD_HEADER];
    frame.extend(GATEWAY);
    frame.extend(GUEST);
    let size = (8 + body.len()) as u16;
    let (source, target, kind) = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (from.octets().to_vec(), to.octets().to_vec(), 0x0800_u16),
        (IpAddr::V6(from), IpAddr::V6(to)) => (from.octets().to_vec(), to.octets().to_vec(), 0x86dd),
        _ => panic!("one family"),
    };
    frame.extend(kind.to_be_bytes());
    if from.is_ipv4() {
        let mut header = vec![0x45, 0];
        header.extend((20 + size).to_be_bytes());
        header.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
        header.extend([source.as_slice(), &target].concat());
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        frame.extend(header);
    } else {
        frame.extend([0x60, 0, 0, 0]);
        frame.extend(size.to_be_bytes());
        frame.extend([UDP, 64]);
        frame.extend([source.as_slice(), &target].concat());
    }
    let mut datagram =
        [from.port(), to.port(), size, 0].iter().flat_map(|field| field.to_be_bytes()).collect::<Vec<u8>>();
    datagram.extend(body);
    let pseudo = [source, target, vec![0, UDP], size.to_be_bytes().to_vec(), datagram.clone()].concat();
    datagram[6..8].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    frame.extend(datagram);
    frame
}

fn parse(frame: &[u8]) -> Option<Datagram> {
    let kind = u16::from_be_bytes([frame[12], frame[13]]);
    let (source, target, udp): (IpAddr, IpAddr, &[u8]) = match kind {
        0x0800 if frame[23] == UDP => (v4(&frame[26..30]), v4(&frame[30..34]), &frame[34..]),
        0x86dd if frame[20] == UDP => (v6(&frame[22..38]), v6(&frame[38..54]), &frame[54..]),
        _ => return None,
    };
    let port = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
    let body = udp[8..usize::from(port(4))].to_vec();
    Some(Datagram { from: SocketAddr::new(source, port(0)), to: SocketAddr::new(target, port(2)), body })
}

fn v4(bytes: &[u8]) -> IpAddr {
    Ipv4Addr::from(<[u8; 4]>::try_from(bytes).unwrap()).into()
}

fn v6(bytes: &[u8]) -> IpAddr {
    Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap()).into()
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}
