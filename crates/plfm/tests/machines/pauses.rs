//! A real sandbox that is paused: what it is stays, whoever is killed meanwhile; nothing else of it does.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::sandboxes::{Sandbox, sandboxes, with_base};
use crate::world::{World, until};

#[test]
fn a_paused_sandbox_goes_on_where_it_was() {
    let Some(world) = World::new("a_paused_sandbox_goes_on_where_it_was") else { return };
    let dev = with_base(&world);
    let it = Sandbox::create(&world);
    it.sh("echo kept > ~/file; sync");
    let pid = it.starts_counting();
    let (boot, before) = (it.sh("cat /proc/sys/kernel/random/boot_id"), it.count(&pid));
    let monitor = world.monitor(&it.view());

    world.said(&["sandbox", "pause", &it.name]);
    assert_eq!((it.state(), &it.view()["ends_at"]), ("paused".to_owned(), &Value::Null));
    let is_gone = || !std::path::Path::new("/proc").join(&monitor).exists();
    assert!(is_gone(), "its monitor runs on");
    let exec = world.plfm(&["sandbox", "exec", &it.name, "--", "true"]);
    assert_ne!(exec.code, Some(0));
    assert!(exec.err.contains("paused"), "{}", exec.err);
    let again = world.plfm(&["sandbox", "pause", &it.name]);
    assert_eq!(again.code, Some(5), "{}", again.err);

    dev.kill();
    let dev = world.dev();
    assert_eq!(it.state(), "paused", "also for who comes later");
    world.said(&["sandbox", "resume", &it.name, "--timeout", "10m"]);
    assert_eq!(it.sh("cat /proc/sys/kernel/random/boot_id"), boot, "the same boot");
    assert_eq!(it.sh("cat ~/file"), "kept");
    let after = it.count(&pid);
    assert!(after >= before, "{before} before, {after} after: another process");
    let host = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let guest: u64 = it.sh("busybox date +%s").parse().unwrap();
    assert!(guest.abs_diff(host) <= 10, "its clock shows {guest}, the host's {host}");

    // Stopped in good order, what is paused stays too.
    world.said(&["sandbox", "pause", &it.name]);
    assert_eq!(dev.stop(), Some(0));
    let dev = world.dev();
    world.said(&["sandbox", "resume", &it.name, "--timeout", "10m"]);
    assert!(it.count(&pid) >= after);

    world.said(&["sandbox", "pause", &it.name]);
    world.said(&["sandbox", "kill", &it.name]);
    until("nothing of it is there", || sandboxes(&world).is_empty().then_some(()));
    let left = world.left();
    assert_eq!(dev.stop(), Some(0));
    assert_eq!(left.traces(), [""; 0], "something is left");
}

#[test]
fn whoever_is_killed_in_a_pause_loses_nothing() {
    let Some(world) = World::new("whoever_is_killed_in_a_pause_loses_nothing") else { return };
    let mut dev = with_base(&world);
    let it = Sandbox::create(&world);
    let pid = it.starts_counting();
    let mut count = it.count(&pid);
    for (word, after_ms) in [("pause", 30), ("resume", 60), ("pause", 90), ("resume", 150)] {
        let args: &[&str] = &["sandbox", word, &it.name];
        let asks = world.command().args(args).stdout(std::process::Stdio::null()).spawn().unwrap();
        let asks = crate::world::Process::of(asks);
        std::thread::sleep(std::time::Duration::from_millis(after_ms));
        dev.kill();
        asks.ended();
        dev = world.dev();
        // Asked for or not: it is one of the two, and it comes to rest.
        let settled = || {
            let view = it.view();
            assert_eq!(view["failure"], Value::Null, "{word}, killed after {after_ms} ms");
            let seen = (view["state"].as_str().unwrap(), view["phase"].as_str().unwrap());
            [("running", "ready"), ("paused", "paused")].contains(&seen).then(|| seen.0.to_owned())
        };
        if until("it is one or the other", settled) == "paused" {
            world.said(&["sandbox", "resume", &it.name, "--timeout", "10m"]);
        }
        let now = it.count(&pid);
        assert!(now >= count, "{word}, killed after {after_ms} ms: {count} before, {now} now");
        count = now;
        if word == "pause" {
            world.said(&["sandbox", "pause", &it.name]);
        }
    }
    world.said(&["sandbox", "kill", &it.name]);
    until("nothing of it is there", || sandboxes(&world).is_empty().then_some(()));
    let left = world.left();
    assert_eq!(dev.stop(), Some(0));
    assert_eq!(left.traces(), [""; 0], "something is left");
}

#[test]
fn at_the_end_of_its_time_it_is_paused_if_that_was_wanted() {
    let Some(world) = World::new("at_the_end_of_its_time_it_is_paused_if_that_was_wanted") else { return };
    let dev = with_base(&world);
    let created = world.said(&["sandbox", "create", "--timeout", "2s", "--pause-on-timeout"]);
    let it = Sandbox { world: &world, name: created.trim().to_owned() };
    until("it is paused", || (it.view()["phase"] == "paused").then_some(()));
    world.said(&["sandbox", "resume", &it.name]);
    let monitor = world.monitor(&it.view());
    Command::new("kill").args(["-KILL", &monitor]).status().unwrap();
    until("it is over", || sandboxes(&world).is_empty().then_some(()));
    assert_eq!(dev.stop(), Some(0));
}
