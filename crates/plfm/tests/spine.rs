//! The whole way, with the real program and a real machine: deploy, exec, heal, adopt, refuse, stop.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A busy machine emulates slowly.
const PATIENCE: Duration = Duration::from_secs(180);

struct World {
    dir: tempfile::TempDir,
    kernel: PathBuf,
    api: u16,
    https: u16,
}

/// Ends with the test, whatever happens.
struct Dev(Child);

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status();
        let begun = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn missing() -> Option<String> {
    let has =
        |program: &str| Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let program = ["qemu-system-x86_64", "umoci"].into_iter().find(|program| has(program).is_err());
    let root = fs::read_to_string("/proc/self/status").unwrap().contains("Uid:\t0\t");
    let busybox = Path::new("/bin/busybox").exists();
    match (program, kernel().join("boot").exists(), root && busybox) {
        (Some(program), ..) => Some(format!("needs {program}")),
        (_, false, _) => Some("needs the guest kernel, which `cargo xtask setup` fetches".to_owned()),
        (_, _, false) => Some("needs root and busybox".to_owned()),
        _ => None,
    }
}

fn kernel() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/kernel")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl World {
    fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap(), kernel: kernel(), api: free_port(), https: free_port() };
        world.image();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plfm"));
        command.current_dir(self.dir.path()).env("XDG_CONFIG_HOME", self.path("config"));
        command
    }

    fn plfm(&self, args: &[&str]) -> Output {
        self.command().args(args).output().unwrap()
    }

    fn said(&self, args: &[&str]) -> String {
        let output = self.plfm(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn dev(&self) -> Dev {
        let log = self.path("dev.log");
        let file = fs::File::create(&log).unwrap();
        let mut command = self.command();
        command.args(["dev", "--listen", &format!("127.0.0.1:{}", self.api)]);
        command.args(["--https", &format!("127.0.0.1:{}", self.https)]);
        command.arg("--data").arg(self.path("data")).arg("--kernel").arg(&self.kernel);
        let dev = Dev(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn().unwrap());
        until("plfm dev is ready", || fs::read_to_string(&log).unwrap().contains("ready;").then_some(()));
        dev
    }

    /// A layout with busybox in one layer, run by nobody in particular.
    fn image(&self) {
        let (image, bundle) = (format!("{}:v1", self.path("layout").display()), self.path("bundle"));
        let run = |args: &[&str]| {
            let output = Command::new("umoci").args(args).output().unwrap();
            assert!(output.status.success(), "umoci {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        let bundle_text = bundle.to_string_lossy();
        run(&["init", "--layout", &self.path("layout").to_string_lossy()]);
        run(&["new", "--image", &image]);
        run(&["unpack", "--image", &image, &bundle_text]);
        let root = bundle.join("rootfs");
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::create_dir_all(root.join("www")).unwrap();
        std::os::unix::fs::symlink("usr/bin", root.join("bin")).unwrap();
        fs::copy("/bin/busybox", root.join("usr/bin/busybox")).unwrap();
        std::os::unix::fs::symlink("busybox", root.join("usr/bin/sh")).unwrap();
        fs::write(root.join("www/index.html"), "it works\n").unwrap();
        run(&["repack", "--image", &image, &bundle_text]);
        run(&["config", "--image", &image, "--config.user", "1000:1000"]);
    }

    fn manifest(&self, command: &str, memory: &str) {
        let text = format!(
            "schema_version = \"v1\"\n[app]\nname = \"web\"\n[image]\nref = \"oci:{}:v1\"\n[env.vars]\nTOLD = \"hunter2\"\n\
             [processes.web]\ncommand = {command}\nresources.memory = \"{memory}\"\nresources.disk = \"1Gi\"\n\
             ports = [{{ internal = 8080 }}]\n",
            self.path("layout").display()
        );
        fs::write(self.path("plfm.toml"), text).unwrap();
    }

    fn instance(&self) -> Value {
        let all: Value = serde_json::from_str(&self.said(&["instances", "--json"])).unwrap();
        all.pointer("/items/0").cloned().unwrap_or_default()
    }

    fn vmm(&self, instance: &Value) -> String {
        let id = instance["id"].as_str().unwrap();
        let record =
            find(&self.path("data"), "machine.json").into_iter().find(|path| path.to_string_lossy().contains(id));
        let record: Value = serde_json::from_slice(&fs::read(record.unwrap()).unwrap()).unwrap();
        record.pointer("/run/process/pid").unwrap().to_string()
    }
}

fn find(dir: &Path, name: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    paths
        .flat_map(|path| if path.is_dir() { find(&path, name) } else { vec![path] })
        .filter(|it| it.ends_with(name))
        .collect()
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

const SERVE: &str = r#"["/bin/sh", "-c", "echo up; exec busybox httpd -f -p [::]:8080 -h /www"]"#;

#[test]
fn an_image_runs_is_healed_found_again_and_leaves_nothing() {
    if let Some(reason) = missing() {
        eprintln!("skipped: an_image_runs_is_healed_found_again_and_leaves_nothing: {reason}");
        return;
    }
    let world = World::new();
    let mut dev = world.dev();
    world.manifest(SERVE, "128Mi");
    let port = free_port();
    world.said(&["deploy", "--env", "dev", "--expose", &format!("{port}=web:8080")]);

    let page = || {
        Command::new("curl").args(["-sS", "--max-time", "20", &format!("http://127.0.0.1:{port}/")]).output().unwrap()
    };
    until("the page is served", || (page().stdout == b"it works\n").then_some(()));
    let kernel = world.said(&["exec", "--env", "dev", "--", "busybox", "uname", "-r"]);
    assert_ne!(kernel.trim(), fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim(), "its own kernel");
    assert_eq!(world.said(&["exec", "--env", "dev", "--", "sh", "-c", "echo $TOLD"]), "hunter2\n");
    assert_eq!(world.plfm(&["exec", "--env", "dev", "--", "sh", "-c", "exit 7"]).status.code(), Some(7));
    until("the log has its line", || world.said(&["logs", "--env", "dev"]).contains("up").then_some(()));

    let first = world.instance();
    Command::new("kill").args(["-KILL", &world.vmm(&first)]).status().unwrap();
    let healed = until("it is healed", || {
        Some(world.instance()).filter(|it| it["phase"] == "ready" && it["boot"] != first["boot"])
    });
    assert_eq!(healed["id"], first["id"]);

    dev.0.kill().unwrap();
    dev.0.wait().unwrap();
    dev = world.dev();
    let found = until("it is found again", || Some(world.instance()).filter(|it| it["phase"] == "ready"));
    assert_eq!(found["boot"], healed["boot"], "the same machine");
    until("the page is served again", || (page().stdout == b"it works\n").then_some(()));

    refusals(&world);

    let second = world.command().args(["dev", "--data"]).arg(world.path("data")).output().unwrap();
    let complaint = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && complaint.contains("another plfm"), "{complaint}");

    drop(dev);
    let log = fs::read(world.path("data/server/log.db")).unwrap();
    assert!(!log.windows(7).any(|bytes| bytes == b"hunter2"), "a value of a variable is in the log");
    let name = world.dir.path().to_string_lossy().into_owned();
    assert_eq!(processes_naming(&name), Vec::<String>::new(), "something still runs");
}

/// What cannot run says why, and leaves what runs alone.
fn refusals(world: &World) {
    world.manifest(r#"["/bin/nope"]"#, "128Mi");
    let refused = world.plfm(&["deploy", "--env", "dev"]);
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(complaint.contains("workload_start_failed") && complaint.contains("hint:"), "{complaint}");
    assert!(world.said(&["explain", "web", "--env", "dev"]).contains("workload_start_failed"));

    world.manifest(SERVE, "200Gi");
    let waits = world.plfm(&["deploy", "--env", "dev", "--wait-timeout", "2s"]);
    assert_eq!(waits.status.code(), Some(6), "waiting for memory is not a failure yet");
    assert!(world.said(&["explain", "web", "--env", "dev"]).contains("memory"));

    fs::write(world.path("plfm.toml"), "schema_version = \"v1\"\nsurprise = 1\n").unwrap();
    let refused = world.plfm(&["deploy", "--env", "dev"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("E_UNKNOWN_FIELD"));
    assert_eq!(world.instance()["phase"], "ready", "what ran still runs");
}

fn processes_naming(name: &str) -> Vec<String> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let line =
        |pid: String| Some(String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).ok()?).into_owned());
    pids.filter_map(line).filter(|line| line.contains(name)).collect()
}
