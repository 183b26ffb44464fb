//! A server and two nodes, each a process of its own, as on three machines.

use std::fs;

use serde_json::Value;

use crate::world::{Image, Layout, OtherHost, Process, Registry, World, ran, skip, until};

/// A node that joins by the very line that is printed; on one machine, two nodes need names and directories of their own.
fn join(world: &World, name: &str) -> Process {
    let line = world.said(&["node", "token"]);
    let line = format!("exec {} --name {name} --data {}", line.trim(), world.path(name).display());
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
fn two_nodes_share_an_app_and_one_may_be_lost() {
    let Some(world) = World::new("two_nodes_share_an_app_and_one_may_be_lost") else { return };
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

    let of_b = on(&first, "b")[0].clone();
    b.kill();
    let explain = || world.said(&["explain", "web", "--env", "dev"]);
    until("the silence is seen", || explain().contains("b has been silent").then_some(()));
    until("another takes its place", || {
        served();
        (on(&world.instances("web"), "a").len() == 2).then_some(())
    });
    let nodes = world.json(&["nodes"]);
    assert_eq!(nodes["items"][1]["phase"], "offline", "{nodes}");

    let b = start(&world, "b");
    let left = world.left();
    let id = of_b["id"].as_str().unwrap();
    until("what came back late is gone", || left.machines().iter().all(|it| !it.contains(id)).then_some(()));
    assert_eq!(world.deploy("web", &image, &lines(0), &[]).code, Some(0));
    until("no machine is left", || left.machines().is_empty().then_some(()));
    assert_eq!((a.stop(), b.stop(), server.stop()), (Some(0), Some(0), Some(0)));
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
