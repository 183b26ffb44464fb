//! A guest that takes all it can get harms only itself.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::sandboxes::{Sandbox, sandboxes, with_base};
use crate::world::{Image, Layout, World, files, until};

/// What the naughty one gets.
const DISK_MIB: u64 = 1024;
/// Of what a machine's disk takes on the host besides the guest's blocks.
const SLACK_MIB: u64 = 16;
/// Monitors have one process with a few threads.
const TASKS_MAX: u64 = 1024;

/// Its group in a hierarchy of version 1, or in the one of version 2.
fn cgroup(id: &str, hierarchy: &str, file: &str) -> Option<u64> {
    let dirs = [hierarchy, ""].map(|hierarchy| Path::new("/sys/fs/cgroup").join(hierarchy).join("plfm").join(id));
    dirs.iter().find_map(|dir| fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok())
}

#[test]
fn a_greedy_guest_harms_only_itself() {
    let Some(world) = World::new("a_greedy_guest_harms_only_itself") else { return };
    let dev = with_base(&world);
    let neighbour = Sandbox::create(&world);
    let image = Layout::new(world.path("small")).add("small", Image::sandbox());
    world.said(&[
        "template",
        "add",
        "small",
        "--image",
        &image,
        "--memory",
        "192Mi",
        "--disk",
        &format!("{DISK_MIB}Mi"),
    ]);
    let name = world.said(&["sandbox", "create", "small", "--timeout", "10m"]).trim().to_owned();
    let greedy = Sandbox { world: &world, name };
    let id = greedy.view()["id"].as_str().unwrap().to_owned();
    let is_well = |one: &Sandbox<'_>| assert_eq!(one.sh("echo well"), "well");

    let share = cgroup(&id, "cpu", "cpu.shares").or_else(|| cgroup(&id, "cpu", "cpu.weight"));
    assert!(share.is_none_or(|share| [1024, 100].contains(&share)), "one processor's share: {share:?}");

    // Its disk.
    let filled = greedy.sh("busybox dd if=/dev/zero of=big bs=1M 2>&1 || true");
    assert!(filled.contains("No space left"), "{filled}");
    let disk = fs::metadata(world.path("data/machines/machines").join(&id).join("rw.ext4")).unwrap();
    assert!(disk.blocks() * 512 <= (DISK_MIB + SLACK_MIB) << 20, "{} bytes", disk.blocks() * 512);
    greedy.sh("busybox rm big");
    is_well(&greedy);
    is_well(&neighbour);

    // Its memory: the guest's kernel ends what takes too much.
    let ran = world.plfm(&["sandbox", "exec", &greedy.name, "--", "busybox", "tail", "/dev/zero"]);
    assert_eq!(ran.code, Some(137), "{} {}", ran.out, ran.err);
    is_well(&greedy);
    is_well(&neighbour);
    let (limit, peak) = ("memory.limit_in_bytes", "memory.max_usage_in_bytes");
    if let (Some(limit), Some(peak)) = (cgroup(&id, "memory", limit), cgroup(&id, "memory", peak)) {
        assert!(peak <= limit, "{peak} of {limit}");
        assert_eq!(cgroup(&id, "memory", "memory.failcnt").map(|_| ()), Some(()), "the group is there");
    }

    // Its processes: a bomb in the background, which takes the guest's processor and its numbers.
    let bomb = "bomb() { bomb | bomb & }; bomb; sleep 600";
    let mut exec = world.command();
    exec.args(["sandbox", "exec", &greedy.name, "--", "sh", "-c", bomb]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut bomb = exec.spawn().unwrap();
    for _ in 0..5 {
        is_well(&neighbour);
    }
    bomb.kill().and_then(|()| bomb.wait()).unwrap();
    assert!(cgroup(&id, "pids", "pids.current").is_none_or(|tasks| tasks <= TASKS_MAX));
    world.said(&["sandbox", "kill", &greedy.name]);
    until("it is gone", || (sandboxes(&world).len() == 1).then_some(()));
    is_well(&neighbour);

    let left = world.left();
    assert_eq!(dev.stop(), Some(0));
    assert_eq!(left.traces(), Vec::<String>::new());
}

#[test]
fn a_flood_of_log_lines_is_bounded() {
    let Some(world) = World::new("a_flood_of_log_lines_is_bounded") else { return };
    let image = Layout::new(world.path("layout")).add("web", Image::web());
    let dev = world.dev();
    let flood = "command = [\"/bin/sh\", \"-c\", \"busybox yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"]";
    world.deploy("flood", &image, flood, &[]);
    assert_eq!(world.deploy("calm", &image, "ports = [{ internal = 8080 }]", &["--wait"]).code, Some(0));
    let files = |name| files(&world.path("data/node/logs"), name);
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |file| file.len());
    until("the older half was put aside", || files("log.1").pop());
    let all = [files("log"), files("log.1")].concat();
    assert!(all.iter().map(size).sum::<u64>() < 20 << 20);
    assert_eq!(world.page("calm", "/"), "it works\n");
    assert_eq!(dev.stop(), Some(0));
}
