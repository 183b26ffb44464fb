//! A server and two nodes, each a process of its own, as on three machines.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, iter, thread};

use serde_json::Value;

use crate::world::{Image, Layout, OtherHost, Process, Registry, World, ran, skip, until};

/// A node that joins by the very line that is printed; on one machine, two nodes need names and directories of their own.
fn join(world: &World, name: &str) -> Process {
    join_again(world, name, name)
}

/// Where there was a node before, under another name.
fn join_again(world: &World, data: &str, name: &str) -> Process {
    let line = world.said(&["node", "token"]);
    let line = format!("exec {} --name {name} --data {}", line.trim(), world.path(data).display());
    let mut command = world.through("sh");
    command.args(["-c", &line]);
    Process::start(command, &world.path(&format!("{name}.log")), "runs instances here")
}

/// The second time a node knows where it belongs.
fn start(world: &World, name: &str) -> Process {
    let mut command = world.command();
    command.arg("node").arg("--data").arg(world.path(name));
    Process::start(command, &world.path(&format!("{name}.log")), "runs instances here")
}

fn on<'a>(instances: &'a [Value], node: &str) -> Vec<&'a Value> {
    instances.iter().filter(|it| it["node"] == node && it["phase"] == "ready").collect()
}

fn host_name(world: &World, instance: &Value) -> String {
    world.said(&["exec", "--instance", instance["id"].as_str().unwrap(), "--", "busybox", "hostname"])
}

#[test]
fn two_nodes_share_an_app_and_one_dies_and_finds_its_machine_again() {
    let Some(world) = World::new("two_nodes_share_an_app_and_one_dies_and_finds_its_machine_again") else { return };
    let (registry, layout) = (Registry::start(&world), Layout::new(world.path("layout")));
    layout.add("web", Image::web());
    let image = registry.push(&layout, "web");
    let server = world.server();
    let (a, b) = (join(&world, "a"), join(&world, "b"));
    let lines = |count| format!("ports = [{{ internal = 8080 }}]\nscaling.min = {count}");
    let deployed = world.deploy("web", &image, &lines(2), &[]);
    assert_eq!(deployed.code, Some(0), "{}", deployed.err);
    let first = world.instances("web");
    assert_eq!((on(&first, "a").len(), on(&first, "b").len()), (1, 1), "they spread: {first:?}");
    assert_ne!(host_name(&world, &first[0]), host_name(&world, &first[1]), "each is reached through its node");
    let served = || assert_eq!(world.page("web", "/"), "it works\n");
    (0..4).for_each(|_| served());

    let second = ran(world.command().arg("node").arg("--data").arg(world.path("a")));
    assert!(second.code == Some(1) && second.err.contains("another plfm node"), "{}", second.err);
    let of_a = on(&first, "a")[0];
    assert!(!host_name(&world, of_a).is_empty(), "the first is not disturbed");
    a.kill();
    (0..4).for_each(|_| served());
    let a = start(&world, "a");
    until("it is adopted", || {
        let all = world.instances("web");
        on(&all, "a").iter().any(|it| it["boot"] == of_a["boot"]).then_some(())
    });
    assert!(!host_name(&world, of_a).is_empty(), "it is reached again");

    let left = world.left();
    assert_eq!(world.deploy("web", &image, &lines(0), &[]).code, Some(0));
    until("no machine is left", || left.machines().is_empty().then_some(()));
    assert_eq!((a.stop(), b.stop(), server.stop()), (Some(0), Some(0), Some(0)));
    drop(registry);
    assert_eq!(left.traces(), [""; 0]);
}

/// Somebody reads a page over and over while something happens; what came when it was not there.
fn misses(world: &World, happens: impl FnOnce()) -> Vec<String> {
    let over = AtomicBool::new(false);
    let read = || {
        let pages = iter::from_fn(|| (!over.load(Ordering::Relaxed)).then(|| world.page("web", "/")));
        pages.filter(|page| page != "it works\n").collect()
    };
    thread::scope(|scope| {
        let reader = scope.spawn(read);
        happens();
        over.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    })
}

fn phase(world: &World, node: &str) -> String {
    let nodes = world.json(&["nodes"])["items"].as_array().unwrap().clone();
    nodes.iter().find(|it| it["name"] == node).unwrap()["phase"].as_str().unwrap().to_owned()
}

/// Experiment E17 of the spec: what has no volumes moves without downtime; and what is lost returns late, and makes nothing double.
#[test]
fn of_three_nodes_one_is_drained_one_is_lost_and_one_is_dismissed() {
    let Some(world) = World::new("of_three_nodes_one_is_drained_one_is_lost_and_one_is_dismissed") else { return };
    let (registry, layout) = (Registry::start(&world), Layout::new(world.path("layout")));
    layout.add("web", Image::web());
    let image = registry.push(&layout, "web");
    let server = world.server();
    let (a, b, c) = (join(&world, "a"), join(&world, "b"), join(&world, "c"));
    let lines = |count| format!("ports = [{{ internal = 8080 }}]\nscaling.min = {count}");
    assert_eq!(world.deploy("web", &image, &lines(2), &[]).code, Some(0));
    let ready = |nodes: [&str; 2]| {
        let all = world.instances("web");
        nodes.iter().all(|node| on(&all, node).len() == 1).then_some(all)
    };
    assert!(ready(["a", "b"]).is_some(), "{:?}", world.instances("web"));

    assert_eq!(misses(&world, || drop(world.said(&["node", "drain", "a"]))), [""; 0], "it moves without downtime");
    assert!(ready(["b", "c"]).is_some(), "{:?}", world.instances("web"));
    world.said(&["node", "activate", "a"]);

    let on_b = on(&world.instances("web"), "b")[0]["id"].as_str().unwrap().to_owned();
    let placed = world.said(&["explain", &on_b]);
    assert_eq!(placed.matches("has room").count(), 3, "each node says what it thinks of one more: {placed}");
    world.said(&["priority", "high", "--app", "web", "--env", "dev"]);
    assert!(world.said(&["status", "web", "--env", "dev"]).contains("priority: high"));
    b.kill();
    let explain = || world.said(&["explain", "web", "--env", "dev"]);
    until("the silence is seen", || explain().contains("b has been silent").then_some(()));
    until("another takes its place", || ready(["a", "c"]));
    assert_eq!(phase(&world, "b"), "offline");
    let b = start(&world, "b");
    let left = world.left();
    until("what came back late is gone", || left.machines().iter().all(|it| !it.contains(&on_b)).then_some(()));
    until("it is one of them again", || (phase(&world, "b") == "active").then_some(()));

    let before = ready(["a", "c"]).unwrap();
    server.kill();
    let server = world.server();
    until("the new writer has heard all", || (world.json(&["nodes"])["items"].as_array()?.len() == 3).then_some(()));
    let boots = |all: &[Value]| all.iter().map(|it| it["boot"].to_string()).collect::<BTreeSet<_>>();
    assert_eq!(boots(&ready(["a", "c"]).unwrap()), boots(&before));

    let missed = misses(&world, || {
        world.said(&["node", "drain", "c"]);
        world.said(&["node", "decommission", "c"]);
    });
    assert_eq!((missed, c.ended()), (Vec::new(), Some(1)));
    let said = fs::read_to_string(world.path("c.log")).unwrap();
    assert!(said.contains("has been decommissioned") && said.contains("plfm node token"), "{said}");
    assert!(ready(["a", "b"]).is_some(), "{:?}", world.instances("web"));
    let c = join_again(&world, "c", "d");
    assert_eq!(phase(&world, "d"), "active");

    let events = world.said(&["events", "--json"]);
    let lost = events.lines().filter(|it| it.contains("node.phase_changed") && it.contains("offline")).count();
    assert_eq!(lost, 1, "the new writer lost nobody by mistake");
    let left = world.left();
    assert_eq!(world.deploy("web", &image, &lines(0), &[]).code, Some(0));
    until("no machine is left", || left.machines().is_empty().then_some(()));
    assert_eq!((a.stop(), b.stop(), c.stop(), server.stop()), (Some(0), Some(0), Some(0), Some(0)));
    drop(registry);
    assert_eq!(left.traces(), [""; 0]);
}

#[test]
fn a_node_on_another_host_needs_no_more_than_the_line() {
    const TEST: &str = "a_node_on_another_host_needs_no_more_than_the_line";
    let Some(mut world) = World::new(TEST) else { return };
    let host = match OtherHost::plug() {
        Ok(host) => host,
        Err(reason) => return skip(TEST, &reason),
    };
    world.host = host.here.clone();
    let (registry, layout) = (Registry::start(&world), Layout::new(world.path("layout")));
    layout.add("web", Image::web());
    let image = registry.push(&layout, "web");
    let server = world.server_with(&["--host", &host.here, "--insecure-registry", &registry.host()]);
    // What the server has printed is all that is needed here, and what that prints there.
    let printed = fs::read_to_string(world.path("server.log")).unwrap();
    let export = printed.lines().find(|line| line.contains("export")).unwrap();
    let mut token = world.through("sh");
    token.args(["-c", &format!("{export}; plfm node token")]).env("XDG_CONFIG_HOME", world.path("nothing"));
    let line = ran(&mut token).out;
    let (line, data) = (line.trim(), world.path("far"));
    let line = format!("exec {line} --name far --data {} --insecure-registry {}", data.display(), registry.host());
    let far = Process::start(host.shell(&world, &line), &world.path("far.log"), "runs instances here");

    let deployed = world.deploy("web", &image, "ports = [{ internal = 8080 }]", &[]);
    assert_eq!(deployed.code, Some(0), "{}", deployed.err);
    let tunnel = world.json(&["nodes"])["items"][0]["capacity"]["tunnel"].as_str().unwrap().to_owned();
    assert!(tunnel.starts_with(&host.there), "{tunnel}");
    assert_eq!(world.page("web", "/"), "it works\n");
    assert!(!host_name(&world, &world.instance("web")).is_empty());
    let left = world.left();
    let none = "ports = [{ internal = 8080 }]\nscaling.min = 0";
    assert_eq!(world.deploy("web", &image, none, &[]).code, Some(0));
    until("no machine is left", || left.machines().is_empty().then_some(()));
    assert_eq!((far.stop(), server.stop()), (Some(0), Some(0)));
}
