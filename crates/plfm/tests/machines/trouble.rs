//! What goes wrong around a cluster: disks that are full, registries and servers that are killed, files that are damaged, tokens that
//! are not good any more.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use expect_test::{Expect, expect};
use plfm_core::digest::Digest;
use serde_json::Value;

use crate::world::{Disk, Gate, Image, Layer, Layout, Process, Ran, Registry, World, noise, ran, skip, text, until};

const PORT: &str = "ports = [{ internal = 8080 }]";

#[test]
fn a_full_disk_stops_what_needs_it_and_nothing_else() {
    const TEST: &str = "a_full_disk_stops_what_needs_it_and_nothing_else";
    let Some(world) = World::new(TEST) else { return };
    let mut disk = match Disk::mount(&world, "data", 4096) {
        Ok(disk) => disk,
        Err(reason) => return skip(TEST, &reason),
    };
    let (registry, layout) = (Registry::start(&world), Layout::new(world.path("layout")));
    layout.add("big", big());
    let (web, big) = (layout.add("web", Image::web()), registry.push(&layout, "big"));
    let dev = world.dev();
    let deployed = world.deploy("web", &web, PORT, &[]);
    assert_eq!(deployed.code, Some(0), "{}", deployed.err);

    disk.fill(40);
    let refused = world.deploy("big", &big, PORT, &[]);
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    let error = &refused.err[refused.err.find("error:").unwrap()..];
    expect![[r#"
        error: dep_… of big to dev has failed: disk_full: the disk is full

        hint: free disk space on the node or ask for a smaller disk; see `plfm explain big`
    "#]]
    .assert_eq(&world.masked(error));
    let failure = world.json(&["status", "big", "--env", "dev"])["deploy"]["failure"].clone();
    assert_eq!(failure["reason"], "disk_full");
    expect![[r#"
        big in dev is not as it should be: web 0 of 1 ready

        dep_… has failed: it tries one instance every few minutes
          why:  disk_full: the disk is full
          next: free disk space on the node or ask for a smaller disk; then `plfm deploy`
    "#]]
    .assert_eq(&world.masked(&world.said(&["explain", "big", "--env", "dev"])));
    assert_eq!(fs::read_dir(world.path("data/node/images/tmp")).unwrap().count(), 0, "half an image is left");

    disk.keep_full();
    let refused = world.deploy("web", &web, PORT, &[]);
    expect![[r#"
        deploying web to dev of default at https://API
        error: the server cannot write its log: the disk of the log is full

        hint: look at the disk of the server, then try again
        request: req_…
    "#]]
    .assert_eq(&world.masked(&refused.err));
    assert_eq!(world.page("web", "/"), "it works\n");
    let before = world.instance("web");
    Command::new("kill").args(["-KILL", &world.monitor(&before)]).status().unwrap();
    let said = || fs::read_to_string(world.path("dev.log")).unwrap();
    until("the node has tried to heal it", || said().contains("cannot write down").then_some(()));

    disk.clear();
    let healed = until("it is healed", || {
        Some(world.instance("web")).filter(|it| it["phase"] == "ready" && it["boot"] != before["boot"])
    });
    assert_eq!(healed["id"], before["id"]);
    assert_eq!(world.deploy("big", &big, PORT, &[]).code, Some(0), "there is room again");
    assert_eq!(world.page("web", "/"), "it works\n");
    drop(registry);
    let left = world.left();
    assert_eq!(dev.stop(), Some(0));
    assert_eq!(left.traces(), [""; 0]);
}

/// Small on its way, and large on the disk.
fn big() -> Image {
    let mut image = Image::web();
    image.layers.push(Layer::new().file("www/big", &noise(16 << 10).repeat(4096)));
    image
}

#[test]
fn a_registry_that_dies_in_the_middle_of_a_pull_is_waited_for() {
    let Some(world) = World::new("a_registry_that_dies_in_the_middle_of_a_pull_is_waited_for") else { return };
    let (mut registry, layout) = (Registry::start(&world), Layout::new(world.path("layout")));
    let mut image = Image::web();
    image.layers.push(Layer::new().file("www/noise", &noise(8 << 20)));
    layout.add("web", image);
    let image = registry.push(&layout, "web");
    let gate = Gate::before(&registry, 1 << 20);
    let dev = world.dev();
    let mut deploy = world.deploying("web", &image.replace(&registry.host(), &gate.host), PORT, &[]);
    let deploy = deploy.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();

    until("half the image is there", || gate.is_shut().then_some(()));
    registry.kill();
    gate.open();
    let explain = || world.plfm(&["explain", "web", "--env", "dev"]).out;
    let explained = until("it is said", || Some(explain()).filter(|it| it.contains("image_pull_failed")));
    expect![[r#"
        web in dev is not as it should be: web 0 of 1 ready

        inst_… has failed on dev
          why:  image_pull_failed: cannot fetch blob sha256:… from REGISTRY: … (tried 5 times)
          next: check the reference, and that the registry holds the image as it was pushed
    "#]]
    .assert_eq(&without_cause(&world.masked(&explained.replace(&gate.host, "REGISTRY"))));
    registry.resume();
    let deployed = deploy.wait_with_output().unwrap();
    assert!(deployed.status.success(), "{}", text(&deployed.stderr));
    assert_eq!(world.page("web", "/"), "it works\n");
    assert_eq!(fs::read_dir(world.path("data/node/images/tmp")).unwrap().count(), 0);
    assert_eq!(dev.stop(), Some(0));
}

/// How a connection ends whose peer died depends on the moment: closed, or reset.
fn without_cause(explained: &str) -> String {
    let (before, rest) = explained.split_once("REGISTRY: ").unwrap();
    let (_, after) = rest.split_once(" (tried").unwrap();
    format!("{before}REGISTRY: … (tried{after}")
}

/// What somebody was told has been written.
#[derive(Default)]
struct Told {
    deploys: BTreeSet<String>,
    /// Of join tokens.
    hashes: BTreeSet<String>,
}

#[test]
fn a_server_killed_under_load_has_all_that_it_said() {
    let Some(world) = World::new("a_server_killed_under_load_has_all_that_it_said") else { return };
    let (registry, layout) = (Registry::start(&world), Layout::new(world.path("layout")));
    layout.add("web", Image::web());
    let image = registry.push(&layout, "web");
    let told = Mutex::new(Told::default());
    let count = || {
        let told = told.lock().unwrap();
        told.deploys.len().min(told.hashes.len())
    };
    for round in 1..=3 {
        let server = world.server();
        thread::scope(|scope| {
            for writer in 0..3 {
                let (world, image, told) = (&world, &image, &told);
                scope.spawn(move || while deploys(world, &format!("app-{writer}"), image, told) {});
            }
            scope.spawn(|| while makes_token(&world, &told) {});
            until("enough is written", || (count() >= 10 * round).then_some(()));
            server.kill();
        });
    }
    let server = world.server();
    let events = world.said(&["events", "--json"]);
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let all = |kind: &str, field: &str| {
        let events = events.iter().filter(|event| event["kind"] == kind);
        events.map(|event| event["body"][field].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let told = told.into_inner().unwrap();
    assert!(told.deploys.is_subset(&all("deploy.created", "deploy")), "an acknowledged deploy is lost");
    assert!(told.hashes.is_subset(&all("join_token.created", "hash")), "an acknowledged token is lost");
    let seqs = events.iter().map(|event| event["seq"].as_u64().unwrap());
    assert!(seqs.eq(1..=events.len() as u64), "there is a gap");
    assert_eq!(server.stop(), Some(0));
}

/// Whether the server has answered.
fn deploys(world: &World, app: &str, image: &str, told: &Mutex<Told>) -> bool {
    let Ran { code, out, .. } = world.deploy(app, image, PORT, &["--no-wait", "--json"]);
    if code == Some(0) {
        let receipt: Value = serde_json::from_str(&out).unwrap();
        told.lock().unwrap().deploys.insert(receipt["ids"]["deploy"].as_str().unwrap().to_owned());
    }
    code == Some(0)
}

fn makes_token(world: &World, told: &Mutex<Told>) -> bool {
    let Ran { code, out, .. } = world.plfm(&["node", "token", "--json"]);
    if code == Some(0) {
        let made: Value = serde_json::from_str(&out).unwrap();
        let token = made["join"].as_str().unwrap().split('@').next().unwrap();
        told.lock().unwrap().hashes.insert(Digest::of(token.as_bytes()).to_string());
    }
    code == Some(0)
}

#[test]
fn a_damaged_log_is_refused_and_not_touched() {
    let Some(world) = World::new("a_damaged_log_is_refused_and_not_touched") else { return };
    let server = world.server();
    (0..40).for_each(|_| drop(world.said(&["node", "token"])));
    assert_eq!(server.stop(), Some(0));
    let (data, log) = (world.path("server"), world.path("server/server/log.db"));
    let whole = fs::read(&log).unwrap();
    let damaged = |damage: fn(&mut Vec<u8>), expected: Expect| {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        fs::write(&log, &bytes).unwrap();
        let before = listing(&data);
        let refused = ran(world.command().args(["dev", "--listen", "127.0.0.1:0", "--data"]).arg(&data));
        assert_eq!(refused.code, Some(1), "{}", refused.err);
        assert!(fs::read(&log).unwrap() == bytes && listing(&data) == before, "something was changed");
        expected.assert_eq(&world.masked(&refused.err));
    };
    damaged(
        Vec::clear,
        expect![[r#"
        error: the server cannot go on
          cause: DIR/server/server/log.db is gone: without it this would be another cluster, and its nodes and apps would be lost to it

        hint: restore it from a backup, or choose another --data to begin a new cluster; nothing was changed
    "#]],
    );
    damaged(
        |bytes| bytes[..100].fill(b'x'),
        expect![[r#"
            error: the server cannot go on
              cause: cannot open the log DIR/server/server/log.db
              cause: the log is damaged: file is not a database

            hint: restore it from a backup; nothing was changed in it
        "#]],
    );
    damaged(
        |bytes| bytes.truncate(bytes.len() / 2),
        expect![[r#"
            error: the server cannot go on
              cause: cannot open the log DIR/server/server/log.db
              cause: the log is damaged: database disk image is malformed

            hint: restore it from a backup; nothing was changed in it
        "#]],
    );
    damaged(
        |bytes| {
            let page = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
            bytes[page..2 * page].fill(0);
        },
        expect![[r#"
            error: the server cannot go on
              cause: cannot open the log DIR/server/server/log.db
              cause: the log is damaged: Tree 2 page 2: btreeInitPage() returns error code 11

            hint: restore it from a backup; nothing was changed in it
        "#]],
    );
    // The file is whole, but one event is not what was written.
    damaged(
        |bytes| spoil(bytes, b"\"term\":1"),
        expect![[r#"
            error: the server cannot go on
              cause: cannot open the log DIR/server/server/log.db
              cause: the log is damaged: event 6: expected value at line 1 column 9

            hint: restore it from a backup; nothing was changed in it
        "#]],
    );
    fs::write(&log, &whole).unwrap();
    // Without its keys it would be another cluster as well.
    for (name, expected) in
        [("log.db", "log.db is gone"), ("ca.key", "ca.key is gone"), ("cluster.key", "cluster.key is gone")]
    {
        let (file, away) = (data.join("server").join(name), world.path("away"));
        fs::rename(&file, &away).unwrap();
        let before = listing(&data);
        let refused = ran(world.command().args(["dev", "--listen", "127.0.0.1:0", "--data"]).arg(&data));
        assert!(refused.code == Some(1) && refused.err.contains(expected), "{}", refused.err);
        assert!(listing(&data) == before, "something was changed");
        fs::rename(&away, &file).unwrap();
    }
    assert_eq!(world.server().stop(), Some(0), "what was restored goes on");
}

/// Everywhere: a page may hold an old copy too.
fn spoil(bytes: &mut [u8], text: &[u8]) {
    while let Some(at) = bytes.windows(text.len()).position(|window| window == text) {
        bytes[at + text.len() - 1] = b'?';
    }
}

fn listing(data: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(data.join("server")).unwrap().flatten();
    names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_token_admits_one_node_once_and_not_for_ever() {
    let Some(world) = World::new("a_token_admits_one_node_once_and_not_for_ever") else { return };
    let server = world.server();
    let join =
        |expires: &str| world.json(&["node", "token", "--expires", expires])["join"].as_str().unwrap().to_owned();
    let (good, short) = (join("1h"), join("1s"));
    let made = Instant::now();
    let node = |join: &str, name: &str, data: &str| {
        let mut command = world.command();
        command.args(["node", "--join", join, "--name", name, "--data"]).arg(world.path(data));
        command
    };
    let nowhere = ran(world.command().args(["node", "--data"]).arg(world.path("one")));
    expect![[r#"
        error: the node cannot go on
          cause: this node belongs to no cluster yet

        hint: print the command with `plfm node token` where the server runs
    "#]]
    .assert_eq(&world.masked(&nowhere.err));
    drop(Process::start(node(&good, "first", "one"), &world.path("one.log"), "runs instances here"));
    until("the second has passed", || (made.elapsed() > Duration::from_secs(2)).then_some(()));

    let forged = good.replace("enroll_", "enroll_0");
    let elsewhere = format!("{}#{}", good.split('#').next().unwrap(), Digest::of(b"another CA").hex());
    let (again, nobody) = (join("1h"), good.replace(&world.api_address(), "127.0.0.1:1"));
    for (join, name, expected) in [
        (
            &good,
            "second",
            expect![[r#"
            error: the node cannot go on
              cause: the server refuses: the join token was already used by node_…

            hint: print a fresh command with `plfm node token`
        "#]],
        ),
        (
            &short,
            "second",
            expect![[r#"
            error: the node cannot go on
              cause: the server refuses: the join token expired at MOMENT

            hint: print a fresh command with `plfm node token`
        "#]],
        ),
        (
            &forged,
            "second",
            expect![[r#"
            error: the node cannot go on
              cause: the server refuses: the join token is not one of this cluster

            hint: print a fresh command with `plfm node token`
        "#]],
        ),
        (
            &elsewhere,
            "second",
            expect![[r#"
            error: the node cannot go on
              cause: cannot join
              cause: the API at https://API is not of the trusted cluster: invalid peer certificate: UnknownIssuer

            hint: print a fresh command with `plfm node token`: this one is of another cluster
        "#]],
        ),
        (
            &nobody,
            "second",
            expect![[r#"
            error: the node cannot go on
              cause: cannot join
              cause: cannot reach the API at https://127.0.0.1:1: Connection refused (os error 111)

            hint: check that the server runs and that this host can reach it
        "#]],
        ),
        (
            &again,
            "first",
            expect![[r#"
            error: the node cannot go on
              cause: the server refuses: a node named `first` has joined before

            hint: start the node with another `--name`, or on its old data directory
        "#]],
        ),
    ] {
        let refused = ran(&mut node(join, name, "two"));
        assert_eq!(refused.code, Some(1), "{}", refused.err);
        expected.assert_eq(&world.masked(&refused.err));
        assert!(!world.path("two/node/node.json").exists(), "half a node was made");
    }
    assert_eq!(world.json(&["nodes"])["items"].as_array().unwrap().len(), 1);
    assert_eq!(server.stop(), Some(0));
}
