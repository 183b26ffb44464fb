//! How much of the edge one client may have (P-EDGE §11.4). A client is an IPv4 address or a /64 of IPv6: whoever has one has all of it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Clients that are remembered; beyond it, those that have nothing open and come seldom are forgotten.
const KNOWN_MAX: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// By all clients together.
    pub open: u32,
    pub open_by_one: u32,
    /// By one client, who may make twice as many at once.
    pub new_per_second: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    #[error("the edge has {0} connections open")]
    Open(u32),
    #[error("this client has {0} connections open")]
    OpenByOne(u32),
    #[error("this client makes more than {0} connections a second")]
    New(u32),
}

#[derive(Debug)]
pub struct Limits(Arc<Mutex<Clients>>);

#[derive(Debug)]
struct Clients {
    bounds: Bounds,
    open: u32,
    known: HashMap<IpAddr, Client>,
}

/// A bucket that fills again by itself.
#[derive(Debug)]
struct Client {
    open: u32,
    left: f64,
    at: Instant,
}

/// One connection, until it is dropped.
#[derive(Debug)]
pub struct Pass {
    clients: Arc<Mutex<Clients>>,
    client: IpAddr,
}

impl Limits {
    pub fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Mutex::new(Clients { bounds, open: 0, known: HashMap::new() })))
    }

    pub fn admit(&self, address: IpAddr, now: Instant) -> Result<Pass, Limit> {
        let client = client(address);
        self.0.lock().expect("no panic while it is held").admit(client, now)?;
        Ok(Pass { clients: self.0.clone(), client })
    }
}

impl Clients {
    fn admit(&mut self, client: IpAddr, now: Instant) -> Result<(), Limit> {
        let Bounds { open, open_by_one, new_per_second } = self.bounds;
        if self.open >= open {
            return Err(Limit::Open(open));
        }
        if self.known.len() >= KNOWN_MAX {
            self.known.retain(|_, it| it.open > 0 || it.refilled(new_per_second, now) < at_once(new_per_second));
        }
        let fresh = Client { open: 0, left: at_once(new_per_second), at: now };
        let it = self.known.entry(client).or_insert(fresh);
        (it.left, it.at) = (it.refilled(new_per_second, now), now);
        if it.open >= open_by_one {
            return Err(Limit::OpenByOne(open_by_one));
        }
        if it.left < 1.0 {
            return Err(Limit::New(new_per_second));
        }
        it.left -= 1.0;
        it.open += 1;
        self.open += 1;
        Ok(())
    }
}

impl Client {
    fn refilled(&self, per_second: u32, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left + passed * f64::from(per_second)).min(at_once(per_second))
    }
}

fn at_once(per_second: u32) -> f64 {
    2.0 * f64::from(per_second)
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut clients = self.clients.lock().expect("no panic while it is held");
        clients.open -= 1;
        if let Some(it) = clients.known.get_mut(&self.client) {
            it.open -= 1;
        }
    }
}

fn client(address: IpAddr) -> IpAddr {
    const HOST_BITS: u32 = 64;
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> HOST_BITS << HOST_BITS).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limits() -> Limits {
        Limits::new(Bounds { open: 1_000, open_by_one: 512, new_per_second: 100 })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_has_so_many_open_and_another_has_its_own() {
        let (limits, mut now) = (limits(), Instant::now());
        let mut open = Vec::new();
        for _ in 0..512 {
            now += Duration::from_millis(10);
            open.push(limits.admit(ip("2001:db8::1"), now).unwrap());
        }
        assert_eq!(limits.admit(ip("2001:db8::2"), now).unwrap_err(), Limit::OpenByOne(512), "it is one network");
        drop(limits.admit(ip("2001:db8:0:1::1"), now).unwrap());
        open.pop();
        drop(limits.admit(ip("2001:db8::2"), now).unwrap());
    }

    #[test]
    fn a_client_comes_so_often() {
        let (limits, now) = (limits(), Instant::now());
        let comes = |at: Instant| (0..1_000).take_while(|_| limits.admit(ip("192.0.2.1"), at).is_ok()).count();
        assert_eq!((comes(now), comes(now)), (200, 0));
        assert_eq!(limits.admit(ip("::ffff:192.0.2.1"), now).unwrap_err(), Limit::New(100), "it is the same address");
        assert_eq!(comes(now + Duration::from_millis(500)), 50);
        assert_eq!(comes(now + Duration::from_secs(60)), 200);
    }

    #[test]
    fn all_together_have_so_many_open() {
        let (limits, now) = (limits(), Instant::now());
        let address = |number: usize| IpAddr::from(Ipv6Addr::from_bits((number as u128) << 64));
        let mut open: Vec<_> = (0..1_000).map(|number| limits.admit(address(number), now).unwrap()).collect();
        assert_eq!(limits.admit(ip("192.0.2.1"), now).unwrap_err(), Limit::Open(1_000));
        open.clear();
        drop(limits.admit(ip("192.0.2.1"), now).unwrap());
    }

    #[test]
    fn who_came_once_is_forgotten() {
        let (limits, mut now) = (limits(), Instant::now());
        for number in 0..KNOWN_MAX + 10 {
            drop(limits.admit(IpAddr::from(Ipv6Addr::from_bits((number as u128) << 64)), now).unwrap());
            now += Duration::from_millis(11);
        }
        assert!(limits.0.lock().unwrap().known.len() < 1_000);
    }
}
