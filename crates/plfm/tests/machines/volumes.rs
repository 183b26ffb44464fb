//! What an app keeps: in whichever instance, after whichever end.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::world::{Image, Layout, World, until};

const LINES: &str = "ports = [{ internal = 8080 }]\nmounts = [{ volume = \"data\", path = \"/srv/data\" }]\n\
                     [[volumes]]\nname = \"data\"\nsize = \"1Gi\"";

fn volume(world: &World) -> Value {
    world.json(&["volume", "ls"])["items"][0].clone()
}

#[test]
fn what_is_on_a_volume_outlives_its_instances() {
    let Some(world) = World::new("what_is_on_a_volume_outlives_its_instances") else { return };
    let image = Layout::new(world.path("layout")).add("web", Image::web());
    let dev = world.dev();
    let exec = |line: &str| world.plfm(&["exec", "web", "--env", "dev", "--", "sh", "-c", line]);

    let missing = world.deploy("web", &image, LINES, &[]);
    assert!(missing.code != Some(0) && missing.err.contains("--create-volumes"), "{}", missing.err);
    let deployed = world.deploy("web", &image, LINES, &["--create-volumes"]);
    assert_eq!(deployed.code, Some(0), "{}", deployed.err);
    assert_eq!(
        exec("busybox ls -A /srv/data; busybox stat -c %u:%g /srv/data").out,
        "1000:1000\n",
        "empty, and its own"
    );
    let mounts = exec("busybox grep /srv/data /proc/mounts").out;
    assert!(["ext4 rw", "nosuid", "nodev", "noatime"].iter().all(|it| mounts.contains(it)), "{mounts}");
    assert_eq!(exec("echo kept >/srv/data/file && busybox sync").code, Some(0));
    let first = world.instance("web");

    // A release after it: the one before leaves, then the next has the volume.
    let other = format!("vars = {{ TOLD = \"more\" }}\n{LINES}");
    let deployed = world.deploy("web", &image, &other, &[]);
    assert_eq!(deployed.code, Some(0), "{}", deployed.err);
    let second = world.instance("web");
    assert_ne!(second["id"], first["id"]);
    assert_eq!(exec("busybox cat /srv/data/file").out, "kept\n");
    let log = world.said(&["events", "--json"]);
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let at = |is: &dyn Fn(&Value) -> bool| events.iter().position(is).unwrap();
    let left = at(&|it| it["body"]["instance"] == first["id"] && it["body"]["status"]["phase"] == "stopped");
    let came = at(&|it| it["kind"] == "instance.allocated" && it["body"]["instance"] == second["id"]);
    assert!(left < came, "two never have it");

    // Its machine is killed: what was written before a sync is there.
    assert_eq!(exec("echo killed >>/srv/data/file && busybox sync").code, Some(0));
    Command::new("kill").args(["-KILL", &world.monitor(&second)]).status().unwrap();
    until("it is healed", || {
        Some(world.instance("web")).filter(|it| it["phase"] == "ready" && it["boot"] != second["boot"])
    });
    assert_eq!(exec("busybox cat /srv/data/file").out, "kept\nkilled\n");

    // The disk is away for a while: nobody takes an empty one for it.
    assert_eq!(dev.stop(), Some(0));
    let id = volume_file(&world);
    let (file, away) = (world.path("data/node/volumes").join(&id), world.path("away"));
    fs::rename(&file, &away).unwrap();
    let dev = world.dev();
    until("it is missed", || (volume(&world)["phase"] == "missing").then_some(()));
    let explained = until("that is why it does not run", || {
        Some(world.said(&["explain", "web", "--env", "dev"])).filter(|it| it.contains("volume_attach_failed"))
    });
    assert!(explained.contains("is not on this node any more"), "{explained}");
    assert!(!file.exists());
    fs::rename(&away, &file).unwrap();
    until("it is back", || Some(world.instance("web")).filter(|it| it["phase"] == "ready"));
    assert_eq!(exec("busybox cat /srv/data/file").out, "kept\nkilled\n");
    until("that is known", || (volume(&world)["phase"] == "available").then_some(()));

    let remove = ["volume", "rm", "data", "--app", "web", "--env", "dev"];
    let unsure = world.plfm(&remove);
    assert!(unsure.code == Some(2) && unsure.err.contains("--yes"), "{}", unsure.err);
    let sure = || world.plfm(&[&remove[..], &["--yes"]].concat());
    let used = sure();
    assert!(used.code == Some(5) && used.err.contains("in use"), "{:?} {}", used.code, used.err);
    assert_eq!(world.deploy("web", &image, "ports = [{ internal = 8080 }]", &[]).code, Some(0));
    assert!(file.exists(), "what nobody mounts is kept");
    let gone = sure();
    assert_eq!(gone.code, Some(0), "{}", gone.err);
    until("nothing of it is left", || (!file.exists() && volume(&world).is_null()).then_some(()));
    assert_eq!(dev.stop(), Some(0));
}

/// The only one that there is.
fn volume_file(world: &World) -> String {
    let names = fs::read_dir(world.path("data/node/volumes")).unwrap();
    let names: Vec<_> = names.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    names[0].clone()
}
