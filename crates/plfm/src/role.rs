//! What the roles share: where things are, which machines can be made here, when to stop.

use std::env;
use std::error::Error;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plfm_api::client::ApiError;
use plfm_core::units::Mebibytes;
use plfm_image::Registries;
use plfm_node::{Claim, NodeError};
use plfm_runtime::microvm::{Config, MicroVmRuntime};
use plfm_server::{ServerError, StoreError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use crate::cli::{ImageArgs, MachineArgs, MonitorArgs};
use crate::{CliError, credentials};

/// The guest daemon, as `build.rs` found it.
pub const GUEST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/plfm-init"));

/// Below a data directory: all that machines are made of.
pub const MACHINES: &str = "machines";

/// What was asked for, or the user's data directory (XDG Base Directory Specification).
pub fn data_dir(asked: Option<&Path>) -> Result<PathBuf, CliError> {
    if let Some(asked) = asked {
        return std::path::absolute(asked).map_err(|source| CliError::Here { source });
    }
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")));
    home.map(|home| home.join("plfm")).ok_or(CliError::NoDataDir)
}

/// Of machines that are kept in `dir`.
pub fn runtime(args: &MonitorArgs, data: &Path, dir: PathBuf) -> Config {
    let (kernel_roots, firecracker) = (kernel_roots(&args.kernel, data), args.firecracker.clone());
    Config { dir, kernel_roots, guest: GUEST.into(), accel: None, firecracker }
}

/// Where a kernel is looked for: what was asked for, beside the data, where packages put it.
pub fn kernel_roots(asked: &[PathBuf], data: &Path) -> Vec<PathBuf> {
    let usual = [data.join("kernel"), "/usr/lib/plfm/kernel".into(), "/".into()];
    asked.iter().cloned().chain(usual).collect()
}

/// Machines of this host, those of an earlier run included; for who holds the claim to them.
pub async fn machines(args: &MachineArgs, data: &Path, _claim: &Claim) -> Result<Arc<MicroVmRuntime>, CliError> {
    if GUEST.is_empty() {
        return Err(CliError::NoGuest);
    }
    let config = runtime(&args.monitor, data, data.join(MACHINES));
    let runtime = MicroVmRuntime::open(config).await.map_err(|error| failed("the node")(error))?;
    Ok(Arc::new(runtime))
}

pub fn registries(args: &ImageArgs) -> Result<Registries, CliError> {
    let credentials = args.registry_config.as_deref().map(credentials::read).transpose()?.unwrap_or_default();
    let mut registries = Registries { credentials, ..Registries::default() };
    registries.insecure.extend(args.insecure_registry.iter().cloned());
    for mirror in &args.registry_mirror {
        registries.mirrors.entry(mirror.host.clone()).or_default().push(mirror.mirror.clone());
    }
    Ok(registries)
}

pub fn claim(data: &Path) -> Result<Claim, CliError> {
    Claim::take(data.join("node")).map_err(failed("the node"))
}

pub fn memory(args: &MachineArgs) -> Option<Mebibytes> {
    args.memory_mib.map(Mebibytes)
}

/// Names the role that cannot go on.
pub fn failed<E: Error + Send + Sync + 'static>(role: &'static str) -> impl FnOnce(E) -> CliError {
    move |error| CliError::Role { role, source: Box::new(error) }
}

/// What to type when a role cannot go on.
pub fn hint<'a>(error: &'a (dyn Error + Send + Sync + 'static)) -> &'a str {
    let server = error.downcast_ref::<ServerError>();
    let node = error.downcast_ref::<NodeError>();
    match (server, node) {
        (Some(ServerError::InUse(_)), _) | (_, Some(NodeError::InUse(_))) => {
            "stop the other one, or choose another --data"
        }
        (Some(ServerError::Log { source: StoreError::Damaged(_), .. }), _) => {
            "restore it from a backup; nothing was changed in it"
        }
        (Some(ServerError::Gone(_) | ServerError::OtherLog { .. }), _) => {
            "restore it from a backup, or choose another --data to begin a new cluster; nothing was changed"
        }
        (Some(ServerError::Key { .. }), _) => "restore it from a backup, with the other files of its directory",
        (Some(ServerError::Log { source: StoreError::TooNew { .. }, .. }), _) => "upgrade plfm on this machine",
        (Some(ServerError::Listen { .. }), _) | (_, Some(NodeError::Listen { .. })) => {
            "choose another address with --listen, --https or --tunnel"
        }
        (_, Some(NodeError::Refused { hint, .. })) => hint,
        (_, Some(NodeError::Join(ApiError::Untrusted { .. }))) => {
            "print a fresh command with `plfm node token`: this one is of another cluster"
        }
        (_, Some(NodeError::Join(error @ ApiError::WrongName { .. }))) => error.hint(),
        (_, Some(NodeError::Capacity(_))) => "count with more memory: --memory-mib",
        (_, Some(NodeError::Damaged { .. })) => "restore it from a backup, or begin as a new node with another --data",
        (Some(ServerError::File { .. }), _) | (_, Some(NodeError::File { .. })) => {
            "see that the directory is yours, or choose another with --data"
        }
        (_, Some(NodeError::Dismissed)) => "run the command that `plfm node token` prints, to make it a new node",
        (_, Some(NodeError::Join(_))) => "check that the server runs and that this host can reach it",
        (_, Some(NodeError::NoWay { .. })) => "name the address of this host with --tunnel",
        (_, Some(NodeError::NotJoined | NodeError::JoinText(_))) => {
            "print the command with `plfm node token` where the server runs"
        }
        _ => "run `plfm doctor`",
    }
}

type Running = JoinHandle<Result<(), NodeError>>;

/// Waits for the word to stop, or for a node that ends by itself; `halt` then ends it in order. What has become of it.
pub async fn attend(stop: &mut Stop, mut node: Running, halt: impl FnOnce()) -> Result<(), CliError> {
    let early = tokio::select! {
        () = stop.asked() => None,
        ended = &mut node => Some(ended),
    };
    halt();
    let ended = match early {
        Some(ended) => ended,
        None => node.await,
    };
    ended.map_err(failed("the node"))?.map_err(failed("the node"))
}

/// Ctrl-C, or what a supervisor sends.
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub fn listen() -> Result<Self, CliError> {
        let on = |kind| signal(kind).map_err(|source| CliError::Runtime { source });
        Ok(Self { interrupt: on(SignalKind::interrupt())?, terminate: on(SignalKind::terminate())? })
    }

    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What the roles write for operators, on standard error; `PLFM_LOG` chooses (`info`, `plfm_node=debug`, …).
pub fn trace() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("PLFM_LOG");
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let subscriber = subscriber.with_ansi(std::io::stderr().is_terminal());
    // A second role in one process keeps the first one's.
    let _ = subscriber.try_init();
}
