//! Where entries lead, while releases come and go.

use plfm_core::command::Expose;
use plfm_core::event::{Entry, Tls};
use plfm_core::manifest::Manifest;
use plfm_core::refusal::Refusal;

use crate::fleet::{Fleet, expose, exposing, image, manifest};

#[test]
fn one_entry_leads_to_one_place() {
    let twice = |port: u16| {
        let entries = [8080, port].map(|port| expose("web", port, Entry::TcpPort(80)));
        exposing("v1", two_ports(), entries.to_vec())
    };
    assert_eq!(Fleet::new().submit(twice(9090)), Err(Refusal::PortInUse(80)));
    let mut fleet = Fleet::new();
    fleet.submit(twice(8080)).expect("it says the same twice");
    assert_eq!(fleet.state().routes.len(), 2);
}

#[test]
fn who_asks_for_the_managed_name_says_where_it_leads() {
    let mut fleet = Fleet::new();
    let entry = Entry::Hostname("shop.example.com".to_owned());
    fleet.submit(exposing("v1", two_ports(), vec![expose("web", 9090, entry.clone())])).expect("it is free");
    let route = fleet.state().route_at(&entry).expect("it is made");
    let leads_to = |fleet: &Fleet| fleet.state().routes[&route].target().map(|target| target.port);
    assert_eq!((fleet.state().routes.len(), leads_to(&fleet)), (1, Some(9090)));
    fleet.submit(exposing("v1", two_ports(), Vec::new())).expect("it is one's own");
    assert_eq!((fleet.state().routes.len(), leads_to(&fleet)), (1, Some(8080)));
}

#[test]
fn names_below_the_domain_can_be_taken() {
    let mut fleet = Fleet::new();
    let named = |name: &str| Entry::Hostname(name.to_owned());
    let mut asks = |name: &str| fleet.submit(exposing("v1", two_ports(), vec![expose("web", 9090, named(name))]));
    assert!(asks("db.example.com").is_ok() && asks("a.b.example.com").is_ok());
    let long = format!("{}.example.com", "a".repeat(64));
    for name in ["-a.example.com", "a..example.com", ".example.com", "A.example.com", "a_b.example.com", &long] {
        assert_eq!(asks(name), Err(Refusal::InvalidHostname(name.to_owned())));
    }
    for name in ["example.org", "example.com", "shopexample.com"] {
        assert_eq!(asks(name), Err(Refusal::HostnameNotOurs { domain: "example.com".to_owned() }), "{name}");
    }
    let passed = Expose { tls: Tls::Passthrough, ..expose("web", 9090, Entry::TcpPort(80)) };
    let mut fleet = Fleet::new();
    assert_eq!(fleet.submit(exposing("v1", two_ports(), vec![passed])), Err(Refusal::NoTlsThere(80)));
}

#[test]
fn who_ends_tls_stays_as_it_was_said() {
    let mut fleet = Fleet::new();
    let entry = Entry::Hostname("shop.example.com".to_owned());
    let passed = Expose { tls: Tls::Passthrough, ..expose("web", 9090, entry.clone()) };
    let said = |fleet: &Fleet| {
        let route = &fleet.state().routes[&fleet.state().route_at(&entry).expect("it is made")];
        route.target().map(|it| (it.port, it.tls))
    };
    fleet.submit(exposing("v1", two_ports(), vec![passed])).expect("it is free");
    fleet.submit(exposing("v2", two_ports(), Vec::new())).expect("it is one's own");
    assert_eq!(said(&fleet), Some((9090, Tls::Passthrough)));
    fleet.submit(exposing("v3", two_ports(), vec![expose("web", 8080, entry.clone())])).expect("it is one's own");
    assert_eq!(said(&fleet), Some((8080, Tls::Terminated)));
}

#[test]
fn a_route_finds_each_instance_where_its_release_listens() {
    let mut fleet = Fleet::new();
    fleet.follow("node a");
    let entry = Entry::Hostname("shop.example.com".to_owned());
    let ports = |fleet: &Fleet| {
        let route = &fleet.state().routes[&fleet.state().route_at(&entry).expect("it is made")];
        let ready = fleet.state().instances.values().filter(|it| it.is_ready());
        let mut ports: Vec<_> = ready.map(|it| route.target_of(it).map(|target| target.port)).collect();
        ports.sort();
        ports
    };
    let mut deploys = |tag: &str, port: &str, lines: &[&str]| {
        let (text, other) = (manifest(1, 64, 1).to_toml(), format!("internal = {port}"));
        let moved = Manifest::parse(text.replace("internal = 8080", &other).as_bytes());
        fleet.submit(exposing(tag, moved.expect("it is sound"), Vec::new())).expect("it is one's own");
        fleet.settle();
        lines.iter().for_each(|line| fleet.follow(line));
        (ports(&fleet), fleet.state().routes.values().map(|route| route.targets.len()).sum::<usize>())
    };
    assert_eq!(deploys("v1", "8080", &["ready"]), (vec![Some(8080)], 1));
    assert_eq!(deploys("v2", "9090", &[]), (vec![Some(8080)], 2), "the old one still answers where it listens");
    assert_eq!(deploys("v3", "7070", &["ready", "leave"]), (vec![Some(7070)], 3));
    assert_eq!(deploys("v1", "8080", &["ready", "leave"]), (vec![Some(8080)], 2), "what does not run is forgotten");
}

#[test]
fn an_entry_of_an_earlier_deploy_leads_to_the_later() {
    let mut fleet = Fleet::new();
    let entry = Entry::TcpPort(5000);
    fleet.submit(exposing("v1", two_ports(), vec![expose("web", 9090, entry.clone())])).expect("it is free");
    fleet.submit(exposing("v2", two_ports(), Vec::new())).expect("it is one's own");
    let route = fleet.state().route_at(&entry).expect("it stays");
    let target = fleet.state().routes[&route].target().expect("it leads somewhere");
    assert_eq!((fleet.state().releases[&target.release].image.digest, target.port), (image("v2").digest, 9090));
}

fn two_ports() -> Manifest {
    let text = b"schema_version = \"v1\"\n[processes.web]\nresources.memory = \"64Mi\"\n\
        ports = [{ name = \"admin\", internal = 9090 }, { name = \"http\", internal = 8080 }]\n";
    let mut manifest = Manifest::parse(text).expect("it is a manifest");
    manifest.processes.values_mut().for_each(|process| process.ports.reverse());
    manifest
}
