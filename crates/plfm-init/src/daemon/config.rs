//! A configuration, read: what can't be done is refused before anything is done.

use std::time::Duration;

use nix::sys::signal::Signal;
use plfm_api::guest::{self, ConfigureRequest};

use super::Daemon;
use crate::net::{Net, NetInvalid};

/// As many images as a machine has places for.
pub const IMAGES_MAX: u32 = 4;
/// A hostname, as the kernel bounds it.
const HOSTNAME_MAX: usize = 64;
/// Less would not seed a generator.
pub const ENTROPY_MIN: usize = 32;
/// More is not mixed in: a page is plenty.
pub const ENTROPY_MAX: usize = 4096;

#[derive(Debug, Clone)]
pub struct Config {
    /// What was asked, to tell a repetition from a contradiction.
    asked: ConfigureRequest,
    pub instance_id: String,
    pub boot_id: String,
    pub hostname: String,
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: String,
    pub user: String,
    pub stop_signal: Signal,
    pub prestart: Vec<Prestart>,
    pub net: Net,
    pub images: u32,
    /// Serial of the writable disk.
    pub rw: Option<String>,
    pub volumes: Vec<Volume>,
    pub realtime_ns: u64,
    pub entropy: Vec<u8>,
    pub expects_secrets: bool,
    pub sandbox: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prestart {
    pub argv: Vec<String>,
    pub timeout: Duration,
}

/// A disk that outlives the machine, and where it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub serial: String,
    pub path: String,
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("{0} is empty")]
    Empty(&'static str),
    #[error("hostname \"{0}\" is not a name of up to {HOSTNAME_MAX} letters, digits, `-` and `.`")]
    Hostname(String),
    #[error("{0} image devices are asked for; a machine has up to {IMAGES_MAX}")]
    Images(u32),
    #[error("{0} bytes of entropy are too few; {ENTROPY_MIN} are needed")]
    Entropy(usize),
    #[error("stop signal \"{0}\" is unknown")]
    Signal(String),
    #[error("{0} holds a NUL byte or an empty key")]
    Text(&'static str),
    #[error("the working directory \"{0}\" is not absolute")]
    Directory(String),
    #[error("a volume cannot be mounted at \"{0}\"")]
    Mount(String),
    #[error(transparent)]
    Net(#[from] NetInvalid),
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        self.asked == other.asked
    }
}

impl Config {
    /// `is_machine`: only a machine has a generator and disks of its own.
    pub fn read(request: ConfigureRequest, is_machine: bool) -> Result<Self, Invalid> {
        let asked = Daemon::lasting(&request);
        let workload = request.workload.as_option().cloned().unwrap_or_default();
        let disks = request.disks.as_option().cloned().unwrap_or_default();
        check(&request, &workload, is_machine)?;
        if disks.images > IMAGES_MAX {
            return Err(Invalid::Images(disks.images));
        }
        Ok(Self {
            asked,
            argv: workload.argv,
            env: sorted(workload.env),
            cwd: if workload.cwd.is_empty() { "/".into() } else { workload.cwd },
            user: workload.user,
            stop_signal: signal(&workload.stop_signal)?,
            prestart: request.prestart.into_iter().map(Prestart::from).collect(),
            net: request.network.as_option().map(Net::read).transpose()?.unwrap_or_default(),
            images: disks.images,
            volumes: disks.volumes.into_iter().map(volume).collect::<Result<_, _>>()?,
            rw: Some(disks.rw_serial).filter(|serial| !serial.is_empty()),
            instance_id: request.instance_id,
            boot_id: request.boot_id,
            hostname: request.hostname,
            realtime_ns: request.realtime_ns,
            entropy: request.entropy,
            expects_secrets: request.expects_secrets,
            sandbox: request.sandbox,
        })
    }
}

fn check(request: &ConfigureRequest, workload: &guest::Workload, is_machine: bool) -> Result<(), Invalid> {
    let empty = [("instance id", &request.instance_id), ("boot id", &request.boot_id)]
        .into_iter()
        .find(|(_, id)| id.is_empty());
    let texts = workload.argv.iter().chain([&workload.cwd, &workload.user]);
    let commands = request.prestart.iter().flat_map(|prestart| &prestart.argv);
    match empty {
        Some((name, _)) => Err(Invalid::Empty(name)),
        None if !is_hostname(&request.hostname) => Err(Invalid::Hostname(request.hostname.chars().take(80).collect())),
        None if is_machine && request.entropy.len() < ENTROPY_MIN => Err(Invalid::Entropy(request.entropy.len())),
        None if texts.chain(commands).any(|text| text.contains('\0')) => {
            Err(Invalid::Text("a command, value, user or directory"))
        }
        None if !is_environment(&workload.env) => Err(Invalid::Text("the environment")),
        None if request.prestart.iter().any(|prestart| prestart.argv.is_empty()) => {
            Err(Invalid::Empty("a prestart command"))
        }
        None if !workload.cwd.is_empty() && !workload.cwd.starts_with('/') => {
            Err(Invalid::Directory(workload.cwd.clone()))
        }
        None => Ok(()),
    }
}

pub fn is_environment<'a>(env: impl IntoIterator<Item = (&'a String, &'a String)>) -> bool {
    env.into_iter()
        .all(|(key, value): (&String, &String)| !key.is_empty() && !key.contains(['=', '\0']) && !value.contains('\0'))
}

/// Not over the image itself, and nowhere that the path does not say.
fn volume(guest::Volume { serial, path, read_only, .. }: guest::Volume) -> Result<Volume, Invalid> {
    let mut parts = path.strip_prefix('/').unwrap_or_default().split('/');
    let is_sound = parts.all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'));
    if is_sound { Ok(Volume { serial, path, read_only }) } else { Err(Invalid::Mount(path.chars().take(80).collect())) }
}

/// Empty leaves the name alone.
pub fn is_hostname(name: &str) -> bool {
    name.len() <= HOSTNAME_MAX && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

/// The map has no order of its own; processes get one all the same.
pub fn sorted(env: impl IntoIterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut env: Vec<_> = env.into_iter().collect();
    env.sort();
    env
}

/// `SIGTERM`, `TERM` or `15`, as image configs have it.
fn signal(text: &str) -> Result<Signal, Invalid> {
    let unknown = || Invalid::Signal(text.chars().take(80).collect());
    if text.is_empty() {
        return Ok(Signal::SIGTERM);
    }
    if let Ok(number) = text.parse::<i32>() {
        return Signal::try_from(number).map_err(|_| unknown());
    }
    let name = text.to_ascii_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    name.parse().map_err(|_| unknown())
}

impl From<guest::Prestart> for Prestart {
    fn from(prestart: guest::Prestart) -> Self {
        Self { argv: prestart.argv, timeout: Duration::from_millis(prestart.timeout_ms.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> ConfigureRequest {
        ConfigureRequest {
            instance_id: "inst_1".into(),
            boot_id: "boot_1".into(),
            entropy: vec![1; 32],
            ..Default::default()
        }
    }

    fn workload(workload: guest::Workload) -> ConfigureRequest {
        ConfigureRequest { workload: workload.into(), ..request() }
    }

    #[test]
    fn clock_and_entropy_do_not_make_another_configuration() {
        let first = Config::read(request(), true).unwrap();
        let again = ConfigureRequest { realtime_ns: 7, entropy: vec![2; 64], ..request() };
        assert_eq!(first, Config::read(again, true).unwrap());
        assert_ne!(first, Config::read(ConfigureRequest { hostname: "other".into(), ..request() }, true).unwrap());
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        let refused = |request| Config::read(request, true).unwrap_err().to_string();
        assert_eq!(refused(ConfigureRequest { boot_id: String::new(), ..request() }), "boot id is empty");
        assert_eq!(
            refused(ConfigureRequest { entropy: vec![1; 31], ..request() }),
            "31 bytes of entropy are too few; 32 are needed"
        );
        let disks = guest::Disks { images: 5, ..Default::default() };
        let five = ConfigureRequest { disks: disks.into(), ..request() };
        assert_eq!(refused(five), "5 image devices are asked for; a machine has up to 4");
        for path in ["", "/", "data", "/data/../etc", "/data/", "//data", "/./data", "/data\0"] {
            let volumes = vec![guest::Volume { path: path.to_owned(), ..Default::default() }];
            let disks = guest::Disks { volumes, ..Default::default() };
            let refusal = refused(ConfigureRequest { disks: disks.into(), ..request() });
            assert_eq!(refusal, format!("a volume cannot be mounted at \"{path}\""));
        }
        let signal = workload(guest::Workload { stop_signal: "SIGWHAT".into(), ..Default::default() });
        assert_eq!(refused(signal), "stop signal \"SIGWHAT\" is unknown");
        let cwd = workload(guest::Workload { cwd: "srv".into(), ..Default::default() });
        assert_eq!(refused(cwd), "the working directory \"srv\" is not absolute");
    }

    #[test]
    fn signals_are_read_as_images_write_them() {
        let read = ["", "SIGQUIT", "int", "9"].map(|text| signal(text).unwrap());
        assert_eq!(read, [Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGINT, Signal::SIGKILL]);
    }
}
