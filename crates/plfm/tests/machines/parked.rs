//! Sandboxes that find a machine ready: they are nobody's twin, and nothing is left of those that nobody took.

use std::collections::BTreeSet;

use crate::forks::WHO;
use crate::sandboxes::{Sandbox, sandboxes, with_base};
use crate::world::{World, until};

fn create<'w>(world: &'w World, var: &str) -> Sandbox<'w> {
    let words = ["sandbox", "create", "--timeout", "10m", "--var", var];
    Sandbox { world, name: world.said(&words).trim().to_owned() }
}

/// Until one has found a machine ready; those that did not are ended.
fn parked<'w>(world: &'w World, var: &str) -> Sandbox<'w> {
    until("one is ready", || {
        let one = create(world, var);
        let is_parked = one.view()["start"]["way"] == "parked";
        if !is_parked {
            world.said(&["sandbox", "kill", &one.name]);
        }
        is_parked.then_some(one)
    })
}

#[test]
fn who_finds_a_machine_ready_is_somebody_of_its_own() {
    let Some(world) = World::new("who_finds_a_machine_ready_is_somebody_of_its_own") else { return };
    let dev = with_base(&world);
    let first = create(&world, "TOLD=one");
    let how = |one: &Sandbox| one.view()["start"].clone();
    assert_eq!(how(&first)["way"], "boot");
    let all = [first, parked(&world, "TOLD=two"), parked(&world, "TOLD=three")];
    let part = |part: &str| how(&all[1])[part].as_u64().unwrap();
    assert!(part("identity_ms") > 0 && part("machine_ms") < 60_000, "{}", how(&all[1]));

    assert_eq!(all.each_ref().map(|one| one.sh("echo $TOLD")), ["one", "two", "three"]);
    for what in WHO.iter().chain(&["cat /proc/sys/kernel/random/boot_id", "echo $E2B_SANDBOX_ID"]) {
        let told = all.iter().map(|one| one.sh(what)).collect::<BTreeSet<_>>();
        assert_eq!(told.len(), all.len(), "{what}: {told:?}");
    }
    let [_, one, other] = &all;
    assert_eq!(one.sh("echo $E2B_SANDBOX_ID"), one.name);
    assert_eq!(one.sh("cat /run/plfm/generation; busybox ls ~"), "0", "nobody was here before");

    // What it does from here on it does as any other: it is paused, found again, forked, ended by its monitor's end.
    let pid = one.starts_counting();
    let count = one.count(&pid);
    world.said(&["sandbox", "pause", &one.name]);
    world.said(&["sandbox", "resume", &one.name, "--timeout", "10m"]);
    assert!(one.count(&pid) >= count);
    let fork = world.said(&["sandbox", "fork", &other.name]).trim().to_owned();
    let fork = Sandbox { world: &world, name: fork };
    assert_eq!(how(&fork)["way"], "snapshot");
    assert_eq!(fork.sh("echo $TOLD"), "three");

    // Killed, it finds again what is somebody's, and takes down what is not.
    dev.kill();
    let dev = world.dev();
    for one in all.iter().chain([&fork]) {
        until("it is found again", || (one.state() == "running").then_some(()));
        one.sh("true");
    }
    let known = || sandboxes(&world).iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>();
    let strangers = || world.machines().iter().filter(|it| !known().contains(&it.id)).count();
    until("what was kept ready is gone", || (strangers() == 0).then_some(()));
    let monitor = world.monitor(&other.view());
    std::process::Command::new("kill").args(["-KILL", &monitor]).status().unwrap();
    until("it is over", || (sandboxes(&world).len() == all.len()).then_some(()));
    let (_more, left) = (parked(&world, "TOLD=four"), world.left());
    assert_eq!(dev.stop(), Some(0));
    assert_eq!(left.traces(), [""; 0], "something is left");
    assert!(world.machines().iter().all(|it| left.ids.contains(&it.id)), "what is kept ready goes with its node");
}

#[test]
fn what_is_kept_ready_makes_way() {
    let Some(world) = World::new("what_is_kept_ready_makes_way") else { return };
    let mut command = world.command();
    command.args(world.dev_args()).args(["--memory-mib", "4096"]);
    let dev = world.start(command);
    crate::sandboxes::add_base(&world);
    let mut all = vec![create(&world, "TOLD=one"), parked(&world, "TOLD=two")];
    // As many as there is room for: nobody is refused for the sake of what is kept ready.
    let refused = loop {
        let more = world.plfm(&["sandbox", "create", "--timeout", "10m"]);
        if more.code != Some(0) {
            break more;
        }
        all.push(Sandbox { world: &world, name: more.out.trim().to_owned() });
    };
    assert_eq!(refused.code, Some(6), "{}", refused.err);
    assert!(all.len() > 3 && all.iter().all(|one| one.state() == "running"));
    until("what was kept ready is gone", || (world.machines().len() == all.len()).then_some(()));
    assert_eq!(dev.stop(), Some(0));
}
