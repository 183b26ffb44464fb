//! Real sandboxes that go on from what another is: with its files and processes, and as somebody of their own.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use crate::sandboxes::{Sandbox, sandboxes, with_base};
use crate::world::{Process, World, until};

/// What two machines must not have in common.
pub const WHO: [&str; 4] = [
    "cat /proc/sys/kernel/random/uuid",
    "head -c 16 /dev/urandom | busybox od -An -tx1",
    "busybox hostname",
    "echo $E2B_SANDBOX_ID",
];

/// What is on the disk.
fn snapshots(world: &World) -> Vec<PathBuf> {
    let dir = world.path("data/machines/snapshots");
    fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path()).collect()
}

#[test]
fn forks_go_on_where_it_is_and_are_somebody_else() {
    let Some(world) = World::new("forks_go_on_where_it_is_and_are_somebody_else") else { return };
    let dev = with_base(&world);
    let it = Sandbox::create(&world);
    it.sh("echo before > ~/file");
    let pid = it.starts_counting();
    let before = it.count(&pid);

    let forked = world.said(&["sandbox", "fork", &it.name, "-n", "3", "--timeout", "10m"]);
    let forks = forked.lines().map(|name| Sandbox { world: &world, name: name.to_owned() }).collect::<Vec<_>>();
    assert_eq!(forks.len(), 3, "{forked}");
    let all = || forks.iter().chain([&it]);
    for one in all() {
        assert_eq!(one.state(), "running");
        let after = one.count(&pid);
        assert!(after >= before, "{}: {before} before, {after} after: another process", one.name);
        assert_eq!(one.sh("cat ~/file"), "before");
        one.sh("echo $E2B_SANDBOX_ID > ~/file");
    }
    for what in WHO {
        let told = all().map(|one| one.sh(what)).collect::<BTreeSet<_>>();
        assert_eq!(told.len(), 4, "{what}: {told:?}");
    }
    all().for_each(|one| assert_eq!(one.sh("cat ~/file"), one.name, "its disk is its own"));
    let generations = all().map(|one| one.sh("cat /run/plfm/generation")).collect::<Vec<_>>();
    assert_eq!(generations, ["1", "1", "1", "0"]);

    let child = world.said(&["sandbox", "fork", &forks[0].name, "--timeout", "10m"]);
    let child = Sandbox { world: &world, name: child.trim().to_owned() };
    assert_eq!((child.sh("cat /run/plfm/generation"), child.sh("cat ~/file")), ("2".to_owned(), forks[0].name.clone()));
    world.said(&["sandbox", "pause", &child.name]);
    world.said(&["sandbox", "resume", &child.name, "--timeout", "10m"]);
    assert!(child.count(&pid) >= before, "what was forked can be paused");

    // The one that all come from is gone, and whoever ran the node.
    world.said(&["sandbox", "kill", &it.name]);
    dev.kill();
    let dev = world.dev();
    for one in forks.iter().chain([&child]) {
        until("it is found again", || (one.state() == "running").then_some(()));
        assert!(one.count(&pid) >= before);
        world.said(&["sandbox", "kill", &one.name]);
    }
    until("nothing of them is there", || sandboxes(&world).is_empty().then_some(()));
    // But for the seed of the template.
    until("no snapshot is there", || (snapshots(&world).len() <= 1).then_some(()));
    let left = world.left();
    assert_eq!(dev.stop(), Some(0));
    assert_eq!((left.traces(), snapshots(&world).len()), (Vec::new(), 0), "something is left");
}

#[test]
fn a_snapshot_outlives_what_it_is_of() {
    let Some(world) = World::new("a_snapshot_outlives_what_it_is_of") else { return };
    let dev = with_base(&world);
    let it = Sandbox::create(&world);
    it.sh("echo once > ~/file");
    let pid = it.starts_counting();
    let count = it.count(&pid);
    assert_eq!(world.said(&["snapshot", "create", &it.name, "ready"]).trim(), "ready");
    it.sh("echo later > ~/file");
    world.said(&["sandbox", "kill", &it.name]);
    until("it is gone", || sandboxes(&world).is_empty().then_some(()));
    let dev = {
        assert_eq!(dev.stop(), Some(0));
        world.dev()
    };

    let listed = world.json(&["snapshot", "ls"]);
    let one = &listed["items"][0];
    assert_eq!((one["name"].as_str(), one["state"].as_str(), &one["forks"]), (Some("ready"), Some("ready"), &0.into()));
    let create = || Sandbox { world: &world, name: world.said(&["sandbox", "create", "ready"]).trim().to_owned() };
    let (first, second) = (create(), create());
    for one in [&first, &second] {
        assert_eq!(one.sh("cat ~/file"), "once", "as it was then");
        assert!(one.count(&pid) >= count);
    }
    assert_ne!(first.sh(WHO[0]), second.sh(WHO[0]));
    let unknown = world.plfm(&["snapshot", "create", &first.name, "No Name"]);
    assert_ne!(unknown.code, Some(0));

    world.said(&["snapshot", "rm", "ready"]);
    assert_eq!(first.sh("cat ~/file"), "once", "who went on from it goes on");
    let gone = world.plfm(&["sandbox", "create", "ready"]);
    assert!(gone.code == Some(4) && gone.err.contains("ready"), "{gone:?}");
    [&first, &second].iter().for_each(|one| drop(world.said(&["sandbox", "kill", &one.name])));
    until("nothing of them is there", || sandboxes(&world).is_empty().then_some(()));
    let left = world.left();
    assert_eq!(dev.stop(), Some(0));
    assert_eq!((left.traces(), snapshots(&world).len()), (Vec::new(), 0), "something is left");
}

#[test]
fn whoever_is_killed_in_a_fork_loses_nothing() {
    let Some(world) = World::new("whoever_is_killed_in_a_fork_loses_nothing") else { return };
    let mut dev = with_base(&world);
    let it = Sandbox::create(&world);
    let pid = it.starts_counting();
    let forks =
        || [1, 2].map(|_| world.command().args(["sandbox", "fork", &it.name]).stdout(Stdio::null()).spawn().unwrap());

    // Two who ask at once are served one after the other.
    for mut asks in forks() {
        assert_eq!(asks.wait().unwrap().code(), Some(0));
    }
    world.said(&["sandbox", "pause", &it.name]);
    world.said(&["sandbox", "resume", &it.name, "--timeout", "10m"]);
    let mut count = it.count(&pid);
    let others = || sandboxes(&world).into_iter().filter(|one| one["name"] != it.name.as_str()).collect::<Vec<_>>();
    assert_eq!(others().len(), 2);

    for after_ms in [40, 120, 300] {
        let asks = forks().map(Process::of);
        std::thread::sleep(Duration::from_millis(after_ms));
        dev.kill();
        asks.into_iter().for_each(|asks| _ = asks.ended());
        dev = world.dev();
        let settled =
            || (it.state() == "running" && others().iter().all(|one| one["state"] != "creating")).then_some(());
        until("all have come to rest", settled);
        let now = it.count(&pid);
        assert!(now >= count, "killed after {after_ms} ms: {count} before, {now} now");
        count = now;
        others().iter().for_each(|one| assert_eq!(one["state"], "running", "killed after {after_ms} ms: {one}"));
    }
    sandboxes(&world).iter().for_each(|one| drop(world.said(&["sandbox", "kill", one["name"].as_str().unwrap()])));
    until("nothing of them is there", || sandboxes(&world).is_empty().then_some(()));
    // But for the seed of the template.
    until("no snapshot is there", || (snapshots(&world).len() <= 1).then_some(()));
    let left = world.left();
    assert_eq!(dev.stop(), Some(0));
    assert_eq!((left.traces(), snapshots(&world).len()), (Vec::new(), 0), "something is left");
}

/// They begin with what the first of them was when it was nobody yet.
#[test]
fn sandboxes_of_one_template_are_strangers() {
    let Some(world) = World::new("sandboxes_of_one_template_are_strangers") else { return };
    let dev = with_base(&world);
    let create = |vars: &[&str]| {
        let words = [&["sandbox", "create", "--timeout", "10m"], vars].concat();
        Sandbox { world: &world, name: world.said(&words).trim().to_owned() }
    };
    let all = [create(&["--var", "TOLD=hunter2-of-one"]), create(&["--var", "TOLD=two"]), create(&[])];
    let told = all.iter().map(|one| one.sh("echo $TOLD")).collect::<Vec<_>>();
    assert_eq!(told, ["hunter2-of-one", "two", ""]);
    for what in WHO.iter().chain(&["cat /proc/sys/kernel/random/boot_id"]) {
        let told = all.iter().map(|one| one.sh(what)).collect::<BTreeSet<_>>();
        assert_eq!(told.len(), 3, "{what}: {told:?}");
    }
    all.iter().for_each(|one| assert_eq!(one.sh("cat /run/plfm/generation"), "0", "none of them has a twin"));
    let seeds = snapshots(&world);
    let [seed] = &seeds[..] else { panic!("there is one seed: {seeds:?}") };
    let memory = fs::read(seed.join("memory")).unwrap();
    let holds = |text: &[u8]| memory.windows(text.len()).any(|bytes| bytes == text);
    assert!(holds(b"E2B_SANDBOX_ID") && !holds(b"hunter2"), "a seed has nobody's variables");
    assert_eq!(dev.stop(), Some(0));
    assert_eq!(snapshots(&world).len(), 0, "it goes with its node");
}

/// What ran in it then would run in all that begin with what it was.
#[test]
fn nobody_comes_into_a_sandbox_that_is_being_made() {
    let Some(world) = World::new("nobody_comes_into_a_sandbox_that_is_being_made") else { return };
    let dev = with_base(&world);
    let mut create = world.command();
    create.args(["sandbox", "create", "--timeout", "10m"]);
    let creating = Process::of(create.stdout(Stdio::null()).spawn().unwrap());
    let first = || sandboxes(&world).into_iter().next();
    let name = until("it is accepted", first)["name"].as_str().unwrap().to_owned();
    let refusals = std::iter::from_fn(|| {
        let ran = world.plfm(&["sandbox", "exec", &name, "--", "sh", "-c", "echo early > ~/early"]);
        (ran.code != Some(0)).then_some(ran.err)
    });
    let refusals: Vec<_> = refusals.collect();
    assert!(
        !refusals.is_empty() && refusals.iter().all(|why| why.contains("nothing can be run in it")),
        "{refusals:?}"
    );
    assert_eq!(creating.ended(), Some(0));
    let next = Sandbox::create(&world);
    assert_eq!(snapshots(&world).len(), 1, "it began with what the first was");
    assert_eq!(next.sh("cat ~/early 2>/dev/null || echo nothing"), "nothing");
    assert_eq!(dev.stop(), Some(0));
}
