//! The whole way: deploy, exec, heal, adopt, refuse, stop.

use std::fs;
use std::process::Command;
use std::thread;

use crate::world::{Image, Layout, World, free_port, ran, until};

#[test]
fn an_image_runs_is_healed_found_again_and_leaves_nothing() {
    let Some(world) = World::new("an_image_runs_is_healed_found_again_and_leaves_nothing") else { return };
    let image = Layout::new(world.path("layout")).add("web", Image::web());
    let dev = world.dev();
    let port = free_port();
    let lines = "ports = [{ internal = 8080 }]\nvars = { TOLD = \"hunter2\" }";
    let deployed = world.deploy(
        "web",
        &image,
        lines,
        &["--expose", &format!("{port}=web:8080"), "--expose", "other.localhost=web:8080"],
    );
    assert_eq!(deployed.code, Some(0), "{}", deployed.err);

    until("the page is served", || (world.page("web", "/") == "it works\n").then_some(()));
    assert_eq!(ran(Command::new("curl").args(["-sS", &format!("http://127.0.0.1:{port}/")])).out, "it works\n");
    assert_eq!(world.page("other", "/"), "it works\n");
    let exec = |args: &[&str]| world.plfm(&[&["exec", "web", "--env", "dev", "--"], args].concat());
    let kernel = exec(&["busybox", "uname", "-r"]).out;
    assert_ne!(kernel.trim(), fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim(), "its own kernel");
    assert_eq!(exec(&["sh", "-c", "echo $TOLD"]).out, "hunter2\n");
    assert_eq!(exec(&["sh", "-c", "exit 7"]).code, Some(7));
    until("the log has its line", || world.said(&["logs", "web", "--env", "dev"]).contains("up").then_some(()));

    // Another release, and back, with the variables that it had.
    let told = |value: &str| {
        let is_told = || exec(&["sh", "-c", "echo $TOLD"]).out == format!("{value}\n");
        until("the newest release answers", || is_told().then_some(()));
    };
    assert_eq!(world.deploy("web", &image, &lines.replace("hunter2", "hunter3"), &[]).code, Some(0));
    told("hunter3");
    let back = world.plfm(&["rollback", "--app", "web", "--env", "dev"]);
    assert_eq!(back.code, Some(0), "{}", back.err);
    told("hunter2");
    let deploys = world.json(&["releases", "web", "--env", "dev"]);
    assert_eq!(deploys["items"].as_array().unwrap().len(), 3);
    assert_eq!(deploys["items"][0]["release"], deploys["items"][2]["release"]);
    let none = world.plfm(&["rollback", "rel_01KDVDNA000000000000000005", "--app", "web", "--env", "dev"]);
    assert!(none.code != Some(0) && none.err.contains("plfm releases"), "{}", none.err);

    // The same once more is no reason to replace what is healed.
    let passed = ["--expose", "other.localhost=web:8080/tls"];
    assert_eq!(world.deploy("web", &image, lines, &passed).code, Some(0));
    assert!(world.said(&["routes", "web", "--env", "dev"]).contains("tls://other.localhost:"));
    let first = world.instance("web");
    Command::new("kill").args(["-KILL", &world.monitor(&first)]).status().unwrap();
    let healed = until("it is healed", || {
        Some(world.instance("web")).filter(|it| it["phase"] == "ready" && it["boot"] != first["boot"])
    });
    assert_eq!(healed["id"], first["id"]);

    dev.kill();
    let dev = world.dev();
    let found = until("it is found again", || Some(world.instance("web")).filter(|it| it["phase"] == "ready"));
    assert_eq!(found["boot"], healed["boot"], "the same machine");
    until("the page is served again", || (world.page("web", "/") == "it works\n").then_some(()));

    let waits = world.deploy("web", &image, "resources.memory = \"60Gi\"", &["--wait-timeout", "2s"]);
    assert_eq!(waits.code, Some(6), "waiting for memory is not a failure yet");
    assert!(world.said(&["explain", "web", "--env", "dev"]).contains("memory"));
    assert_eq!(world.instance("web")["boot"], healed["boot"], "what ran still runs");

    let second = ran(world.command().args(world.dev_args()));
    assert!(second.code == Some(1) && second.err.contains("another plfm"), "{second:?}");

    let asked = || world.said(&["logs", "web", "--env", "dev"]).contains("asked").then_some(());
    let answered = thread::scope(|scope| {
        let slow = scope.spawn(|| world.page("web", "/cgi-bin/slow"));
        until("it is asked", asked);
        let none = world.deploy("web", &image, &format!("{lines}\nscaling.min = 0"), &[]);
        assert_eq!(none.code, Some(0), "{}", none.err);
        slow.join().unwrap()
    });
    assert_eq!(answered, "to the end\n", "what is being answered is answered to the end");
    let one = world.deploy("web", &image, lines, &[]);
    assert_eq!(one.code, Some(0), "{}", one.err);

    let left = world.left();
    assert_ne!(left.traces(), [""; 0], "one who looks sees it");
    assert_eq!(dev.stop(), Some(0));
    let log = fs::read(world.path("data/server/log.db")).unwrap();
    assert!(!log.windows(7).any(|bytes| bytes == b"hunter2"), "a value of a variable is in the log");
    assert_eq!(left.traces(), [""; 0], "something is left");
}

#[test]
fn what_must_not_be_restarted_is_not_and_leaves_nothing() {
    let Some(world) = World::new("what_must_not_be_restarted_is_not_and_leaves_nothing") else { return };
    let image = Layout::new(world.path("layout")).add("web", Image::web());
    let dev = world.dev();
    let lines = "ports = [{ internal = 8080 }]\nrestart.policy = \"never\"";
    for _ in 0..2 {
        let deployed = world.deploy("once", &image, lines, &[]);
        assert_eq!(deployed.code, Some(0), "{}", deployed.err);
    }
    let first = world.instance("once");
    Command::new("kill").args(["-KILL", &world.monitor(&first)]).status().unwrap();
    let failed = until("it has failed", || Some(world.instance("once")).filter(|it| it["phase"] == "failed"));
    assert_eq!(failed["id"], first["id"]);
    assert!(world.said(&["explain", "once", "--env", "dev"]).contains("failed"));
    // Its network goes too.
    let left = world.left();
    assert_eq!(dev.stop(), Some(0));
    assert_eq!(left.traces(), [""; 0]);
}
