//! Sandboxes, from their template to their end; and the official SDKs of E2B against them.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::world::{Image, Layout, World, ran, skip, target, until};

/// In this order in `cargo xtask setup`, which installs them.
const SDKS: [&str; 2] = ["2.45.1", "2.63.0"];

/// A cluster with the template `base`.
pub fn with_base(world: &World) -> crate::world::Process {
    let dev = world.dev();
    add_base(world);
    dev
}

pub fn add_base(world: &World) {
    let image = Layout::new(world.path("layout")).add("base", Image::sandbox());
    world.said(&["template", "add", "base", "--image", &image, "--memory", "192Mi", "--disk", "1Gi"]);
}

pub fn sandboxes(world: &World) -> Vec<Value> {
    world.json(&["sandbox", "ls"])["items"].as_array().unwrap().clone()
}

/// Counts in its memory alone, and shows how far it is when it is asked.
const COUNTER: &str = "n=0; trap 'echo $n > ~/count' USR1; while :; do n=$((n+1)); sleep 0.05; done";

pub struct Sandbox<'w> {
    pub world: &'w World,
    pub name: String,
}

impl<'w> Sandbox<'w> {
    pub fn create(world: &'w World) -> Self {
        Self { world, name: world.said(&["sandbox", "create", "--timeout", "10m"]).trim().to_owned() }
    }

    pub fn sh(&self, line: &str) -> String {
        let ran = self.world.plfm(&["sandbox", "exec", &self.name, "--", "sh", "-c", line]);
        assert_eq!(ran.code, Some(0), "{line}: {}", ran.err);
        ran.out.trim().to_owned()
    }

    pub fn view(&self) -> Value {
        sandboxes(self.world).into_iter().find(|it| it["name"] == self.name.as_str()).expect("it is there")
    }

    pub fn state(&self) -> String {
        self.view()["state"].as_str().unwrap().to_owned()
    }

    pub fn starts_counting(&self) -> String {
        self.sh(&format!("busybox setsid sh -c \"{}\" > /dev/null 2>&1 & echo $!", COUNTER.replace('$', "\\$")))
    }

    pub fn count(&self, pid: &str) -> u64 {
        self.sh("busybox rm -f ~/count");
        self.sh(&format!("kill -USR1 {pid}"));
        let shown = || self.sh("cat ~/count 2>/dev/null || true").parse().ok();
        until("it shows how far it is", shown)
    }
}

#[test]
fn a_sandbox_runs_is_found_again_and_leaves_nothing() {
    let Some(world) = World::new("a_sandbox_runs_is_found_again_and_leaves_nothing") else { return };
    let image = Layout::new(world.path("layout")).add("base", Image::sandbox());
    let dev = world.dev();
    let early = world.plfm(&["sandbox", "create"]);
    assert_eq!(early.code, Some(4), "there is no template yet: {}", early.err);
    assert!(early.err.contains("plfm template"), "{}", early.err);
    world.said(&["template", "add", "base", "--image", &image, "--memory", "192Mi", "--disk", "1Gi"]);

    let created = ["sandbox", "create", "--timeout", "10m", "--var", "TOLD=hunter2", "--metadata", "who=ada"];
    let name = world.said(&created).trim().to_owned();
    let exec = |args: &[&str]| world.plfm(&[&["sandbox", "exec", &name, "--"], args].concat());
    assert_eq!(exec(&["sh", "-c", "echo $TOLD; id -un; pwd"]).out, "hunter2\nuser\n/home/user\n");
    assert_eq!(exec(&["sh", "-c", "exit 7"]).code, Some(7));
    let kernel = exec(&["uname", "-r"]).out;
    assert_ne!(kernel.trim(), fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim(), "its own kernel");
    let first = sandboxes(&world).remove(0);
    assert_eq!((first["state"].as_str(), first["metadata"]["who"].as_str()), (Some("running"), Some("ada")));

    let stats = world.json(&["stats", &name]);
    assert_eq!(stats["instance"], first["id"]);
    let took = |what: &str| stats[what].as_u64().unwrap_or_else(|| panic!("{what}: {stats}"));
    assert!(took("cpu_ms") > 0 && took("memory_bytes") > 10 << 20 && took("disk_bytes") > 0, "{stats}");

    let full = world.plfm(&["template", "add", "huge", "--image", &image, "--memory", "900Gi"]);
    assert_eq!(full.code, Some(2), "no machine is that large: {}", full.err);
    world.said(&["template", "add", "huge", "--image", &image, "--memory", "200Gi"]);
    let refused = world.plfm(&["sandbox", "create", "huge"]);
    assert_eq!(refused.code, Some(5), "over the quota is a denial: {}", refused.err);
    world.said(&["template", "add", "huge", "--image", &image, "--memory", "60Gi"]);
    let refused = world.plfm(&["sandbox", "create", "huge"]);
    assert_eq!(refused.code, Some(6), "no room now may be room later: {}", refused.err);
    assert!(refused.err.contains("no room"), "{}", refused.err);

    dev.kill();
    let dev = world.dev();
    let found = until("it is found again", || sandboxes(&world).pop().filter(|it| it["state"] == "running"));
    assert_eq!(found["boot"], first["boot"], "the same machine");
    until("it answers again", || (exec(&["cat", "/proc/sys/kernel/random/boot_id"]).code == Some(0)).then_some(()));

    let second = world.said(&["sandbox", "create", "--timeout", "10m"]).trim().to_owned();
    let other = sandboxes(&world).into_iter().find(|it| it["name"] == second.as_str()).unwrap();
    Command::new("kill").args(["-KILL", &world.monitor(&other)]).status().unwrap();
    let is_there = |name: &str| sandboxes(&world).iter().any(|it| it["name"] == name);
    until("what has lost its machine is over", || (!is_there(&second)).then_some(()));

    let brief = world.said(&["sandbox", "create", "--timeout", "2s"]).trim().to_owned();
    until("its time is up", || (!is_there(&brief)).then_some(()));
    world.said(&["sandbox", "timeout", &name, "1s"]);
    until("less time is less", || (!is_there(&name)).then_some(()));
    assert_eq!(world.plfm(&["sandbox", "kill", &name]).code, Some(4));

    let last = world.said(&["sandbox", "create"]).trim().to_owned();
    world.said(&["sandbox", "kill", &last]);
    let left = world.left();
    assert_eq!(dev.stop(), Some(0));
    let log = fs::read(world.path("data/server/log.db")).unwrap();
    assert!(!log.windows(7).any(|bytes| bytes == b"hunter2"), "a value of a variable is in the log");
    assert_eq!(left.traces(), [""; 0], "something is left");
}

#[test]
fn programs_written_for_e2b_run() {
    let name = "programs_written_for_e2b_run";
    let Some(world) = World::new(name) else { return };
    let dev = with_base(&world);
    let env = world.json(&["sandbox", "env"]);
    let again = world.json(&["sandbox", "env"]);
    assert_eq!(env["E2B_API_KEY"], again["E2B_API_KEY"], "one key is enough");
    let variables = || env.as_object().unwrap().iter().filter_map(|(name, value)| Some((name, value.as_str()?)));
    for version in SDKS {
        let python = target().join("e2b").join(version).join("bin/python");
        if !python.exists() {
            skip(name, &format!("needs E2B's SDK {version}: `cargo xtask setup`"));
            continue;
        }
        let suite = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2b/suite.py");
        let run = ran(Command::new(python).arg(suite).envs(variables()));
        fs::write(target().join("e2b").join(version).join("suite.txt"), &run.out).unwrap();
        assert_eq!(run.code, Some(0), "e2b {version}:\n{}{}", run.out, run.err);
    }
    assert_eq!(dev.stop(), Some(0));
}

#[test]
fn whoever_lacks_the_token_stays_outside() {
    let Some(world) = World::new("whoever_lacks_the_token_stays_outside") else { return };
    let dev = with_base(&world);
    let sandbox = world.said(&["sandbox", "create"]).trim().to_owned();
    let base = format!("https://{}", world.api_address());
    let ca = world.path("data/server/ca.pem").display().to_string();
    let ask = |path: &str, headers: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--cacert", &ca, "-w", " %{http_code}", &format!("{base}{path}")]);
        headers.iter().for_each(|header| {
            curl.args(["-H", header]);
        });
        ran(&mut curl).out
    };
    let (id, envd) = (format!("E2b-Sandbox-Id: {sandbox}"), "E2b-Sandbox-Port: 49983");
    assert_eq!(ask("/health", &[&id, envd]), " 204");
    let refused = ask("/files?path=/etc/passwd", &[&id, envd]);
    assert!(refused.ends_with(" 401") && refused.contains("\"code\":401"), "{refused}");
    let wrong = format!("X-Access-Token: {}", "0".repeat(64));
    assert!(ask("/files?path=/etc/passwd", &[&id, envd, &wrong]).ends_with(" 401"));
    for internal in ["/init", "/freeze"] {
        assert!(ask(internal, &[&id, envd]).ends_with(" 404"), "{internal}");
    }
    assert!(ask("/health", &[&id]).ends_with(" 400"), "half of the headers");
    let unknown = ask("/health", &["E2b-Sandbox-Id: 01arz3ndektsv4rrffq69g5fav", envd]);
    assert!(unknown.ends_with(" 502") && unknown.contains("was not found"), "{unknown}");
    let closed = ask("/", &[&id, "E2b-Sandbox-Port: 8000"]);
    assert!(closed.ends_with(" 502") && closed.contains("port is not open"), "{closed}");
    let keyless = ask("/v2/sandboxes", &[]);
    assert!(keyless.ends_with(" 401") && keyless.contains("\"code\":401"), "{keyless}");
    let key = world.json(&["sandbox", "env"])["E2B_API_KEY"].as_str().unwrap().to_owned();
    let key = format!("X-API-Key: {key}");
    assert!(ask("/v2/sandboxes", &[&key]).ends_with(" 200"));
    assert!(ask("/v1/nodes", &[&key]).ends_with(" 403"), "a key is good for sandboxes only");
    let app = ask("/health", &["E2b-Sandbox-Id: inst_01ARZ3NDEKTSV4RRFFQ69G5FAV", envd]);
    assert!(app.ends_with(" 502"), "{app}");
    assert_eq!(dev.stop(), Some(0));
}
