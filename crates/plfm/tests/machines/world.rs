//! A directory with a cluster in it, and the program run in it as a person runs it.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};

pub use disk::Disk;
pub use host::OtherHost;
pub use image::{Image, Layer, Layout, noise};
pub use left::{Left, files};
pub use process::Process;
pub use registry::{Gate, Registry};

mod disk;
mod host;
mod image;
mod left;
mod process;
mod registry;

/// A busy machine emulates slowly.
const PATIENCE: Duration = Duration::from_secs(180);

pub struct World {
    dir: TempDir,
    /// Where a server listens.
    pub host: String,
    api: u16,
    https: u16,
    _turn: File,
}

/// How the program has ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl World {
    /// None where something is missing, said loudly.
    pub fn new(test: &str) -> Option<Self> {
        match missing() {
            None => Some(Self::empty()),
            Some(what) => {
                skip(test, &what);
                None
            }
        }
    }

    fn empty() -> Self {
        let (dir, host) = (tempfile::tempdir().unwrap(), "127.0.0.1".to_owned());
        Self { dir, host, api: free_port(), https: free_port(), _turn: turn() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The program, with no setting of ours but the kernel.
    pub fn command(&self) -> Command {
        self.through(env!("CARGO_BIN_EXE_plfm"))
    }

    /// Another program that runs ours: a shell, or one that takes rights away.
    pub fn through(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.dir.path()).env_clear().env("PATH", path()).stdin(Stdio::null());
        command.env("XDG_CONFIG_HOME", self.path("config")).env("PLFM_KERNEL", kernel());
        command
    }

    pub fn plfm(&self, args: &[&str]) -> Ran {
        ran(self.command().args(args))
    }

    /// What it says when all is well.
    pub fn said(&self, args: &[&str]) -> String {
        let ran = self.plfm(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.err);
        ran.out
    }

    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.said(&[args, &["--json"]].concat())).unwrap()
    }

    /// `plfm dev` on the directory `data`.
    pub fn dev(&self) -> Process {
        self.dev_by(self.command())
    }

    pub fn dev_by(&self, mut command: Command) -> Process {
        command.args(self.dev_args());
        self.start(command)
    }

    /// A `plfm dev`, with what else it is told.
    pub fn start(&self, command: Command) -> Process {
        Process::start(command, &self.path("dev.log"), "ready;")
    }

    pub fn dev_args(&self) -> Vec<String> {
        let listen = [("--listen", self.api), ("--https", self.https)];
        let listen = listen.into_iter().flat_map(|(flag, port)| [flag.to_owned(), format!("127.0.0.1:{port}")]);
        let data = ["--data".to_owned(), self.path("data").display().to_string()];
        ["dev".to_owned()].into_iter().chain(listen).chain(data).collect()
    }

    /// `plfm server` on the directory `server`; whoever types here is its admin.
    pub fn server(&self) -> Process {
        self.server_with(&[])
    }

    pub fn server_with(&self, args: &[&str]) -> Process {
        let mut command = self.command();
        command.args(["server", "--listen", &self.api_address(), "--https", &format!("127.0.0.1:{}", self.https)]);
        command.arg("--data").arg(self.path("server")).args(args);
        let server = Process::start(command, &self.path("server.log"), "serving at");
        self.befriend();
        server
    }

    pub fn api_address(&self) -> String {
        format!("{}:{}", self.host, self.api)
    }

    /// Writes the profile that names the server of [`World::server`].
    fn befriend(&self) {
        let data = self.path("server/server");
        let profile = serde_json::json!({
            "api_url": format!("https://{}", self.api_address()), "org": "default", "env": "dev",
            "ca_file": data.join("ca.pem"), "token_file": data.join("admin.token"),
        });
        let config = serde_json::json!({ "profiles": { "test": profile }, "current": "test" });
        fs::create_dir_all(self.path("config/plfm")).unwrap();
        fs::write(self.path("config/plfm/config.json"), config.to_string()).unwrap();
    }

    /// Deploys `image` as `app` with one process type `web`, of which `lines` say more.
    pub fn deploy(&self, app: &str, image: &str, lines: &str, args: &[&str]) -> Ran {
        ran(&mut self.deploying(app, image, lines, args))
    }

    pub fn deploying(&self, app: &str, image: &str, lines: &str, args: &[&str]) -> Command {
        let memory = if lines.contains("resources.memory") { "" } else { "resources.memory = \"128Mi\"\n" };
        let text = format!(
            "schema_version = \"v1\"\n[app]\nname = \"{app}\"\n[image]\nref = \"{image}\"\n\
             [processes.web]\nresources.disk = \"1Gi\"\n{memory}{lines}\n"
        );
        let manifest = self.path(&format!("{app}.toml"));
        fs::write(&manifest, text).unwrap();
        let mut command = self.command();
        command.args(["deploy", "--env", "dev", "--manifest"]).arg(manifest).args(args);
        command
    }

    pub fn instances(&self, app: &str) -> Vec<Value> {
        let all = self.json(&["instances", "--app", app]);
        all["items"].as_array().unwrap().iter().filter(|it| it["desired"] == "running").cloned().collect()
    }

    /// The only one that should run.
    pub fn instance(&self, app: &str) -> Value {
        self.instances(app).pop().unwrap_or_default()
    }

    /// Those that have a directory, instances or not.
    pub fn machines(&self) -> Vec<left::Machine> {
        left::machines(self.dir.path())
    }

    /// The process id of an instance's monitor.
    pub fn monitor(&self, instance: &Value) -> String {
        let id = instance["id"].as_str().unwrap();
        let left = left::machines(self.dir.path()).into_iter().find(|machine| machine.id == id);
        left.unwrap().pid.unwrap().to_string()
    }

    /// A page of an app over HTTPS, by its managed name.
    pub fn page(&self, app: &str, path: &str) -> String {
        let (host, https) = (format!("{app}.localhost"), self.https);
        let ca = fs::read_dir(self.dir.path()).unwrap().flatten().map(|it| it.path().join("server/ca.pem"));
        let ca = ca.into_iter().find(|path| path.exists()).unwrap();
        let output = Command::new("curl")
            .args(["-sS", "--fail-with-body", "--max-time", "20", "--cacert", &ca.to_string_lossy()])
            .args(["--resolve", &format!("{host}:{https}:127.0.0.1"), &format!("https://{host}:{https}{path}")])
            .output()
            .unwrap();
        text(&output.stdout) + &text(&output.stderr)
    }

    /// What is different each time becomes a word.
    pub fn masked(&self, text: &str) -> String {
        let text = text.replace(&self.dir.path().display().to_string(), "DIR");
        let text = text.replace(&self.api_address(), "API");
        mask(&text)
    }

    /// Every instance there ever was, to look for traces of.
    pub fn left(&self) -> Left {
        let events = self.said(&["events", "--json"]);
        let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let ids = events.filter(|event| event["kind"] == "instance.allocated");
        let ids = ids.map(|event| event["body"]["instance"].as_str().unwrap().to_owned());
        // What is kept ready is in no event.
        let here = left::machines(self.dir.path());
        let ids = ids.chain(here.iter().flat_map(left::Machine::names).cloned()).collect();
        Left { ids, dir: self.dir.path().display().to_string() }
    }
}

impl Drop for World {
    /// A test that failed leaves no machine behind either.
    fn drop(&mut self) {
        left::machines(self.dir.path()).iter().for_each(left::Machine::kill);
    }
}

/// Emulated machines take a whole processor each: two tests with several of them would run into each other's limits. Held until the
/// file is closed, whichever process or thread runs the other test.
fn turn() -> File {
    let file = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("machines.lock")).unwrap();
    file.lock().unwrap();
    file
}

/// Runs it to its end, which has to come.
pub fn ran(command: &mut Command) -> Ran {
    let (out, err) = (NamedTempFile::new().unwrap(), NamedTempFile::new().unwrap());
    let child = command.stdin(Stdio::null()).stdout(out.reopen().unwrap()).stderr(err.reopen().unwrap()).spawn();
    let code = Process::of(child.unwrap()).ended();
    let text = |file: NamedTempFile| text(&fs::read(file.path()).unwrap());
    Ran { code, out: text(out), err: text(err) }
}

pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn skip(test: &str, reason: &str) {
    eprintln!("skipped: {test}: {reason}");
}

/// Where a program is, if it is anywhere.
pub fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&path()).map(|dir| dir.join(program)).find(|path| path.exists())
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// System programs are not in every user's; ours is in everyone's.
fn path() -> String {
    let ours = Path::new(env!("CARGO_BIN_EXE_plfm")).parent().unwrap().display();
    format!("{ours}:{}:/usr/local/sbin:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Where `cargo xtask` builds to.
pub fn target() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_plfm")).ancestors().nth(2).unwrap()
}

fn kernel() -> PathBuf {
    target().join("kernel")
}

fn missing() -> Option<String> {
    let programs = ["qemu-system-x86_64", "mke2fs", "busybox", "bash-static", "docker-registry", "skopeo", "curl"];
    let program = programs.into_iter().find(|program| find(program).is_none());
    let root = fs::read_to_string("/proc/self/status").unwrap().contains("Uid:\t0\t");
    let guest = target().join("plfm-init");
    match program {
        Some(program) => Some(format!("needs {program}")),
        None if !root => Some("needs root".to_owned()),
        None if !kernel().join("boot").exists() => Some("needs the guest kernel: `cargo xtask setup`".to_owned()),
        None if !guest.exists() => Some("needs the guest daemon: `cargo xtask build`".to_owned()),
        None => None,
    }
}

/// Ids, digests and moments.
fn mask(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut masked = String::new();
    for piece in without_moments(text).split_inclusive(|c| !is_word(c)) {
        let word = piece.trim_end_matches(|c| !is_word(c));
        masked += &match word.split_once('_') {
            Some((kind, rest)) if rest.len() == 26 => format!("{kind}_…"),
            _ if word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) => "…".to_owned(),
            _ => word.to_owned(),
        };
        masked += &piece[word.len()..];
    }
    masked
}

fn without_moments(text: &str) -> String {
    const FORM: &[u8] = b"0000-00-00T00:00:00.000Z";
    let fits = |(byte, form): (&u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
    let at = text.as_bytes().windows(FORM.len()).position(|window| window.iter().zip(FORM).all(fits));
    at.map_or_else(|| text.to_owned(), |at| without_moments(&text.replace(&text[at..at + FORM.len()], "MOMENT")))
}
