//! What can be asked of Firecracker: a type for each object of its API that is used here, under the API's own names.
//!
//! <https://github.com/firecracker-microvm/firecracker/blob/main/src/firecracker/swagger/firecracker.yaml>; the tests hold every request
//! against that description.

use std::borrow::Cow;

use hyper::Method;
use serde::Serialize;

/// One call. All of them change something and are answered without a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Request {
    MachineConfig(MachineConfig),
    BootSource(BootSource),
    Drive(Drive),
    NetworkInterface(NetworkInterface),
    Vsock(Vsock),
    Balloon(Balloon),
    Entropy(Entropy),
    Logger(Logger),
    Metrics(Metrics),
    Action(Action),
    Vm(Vm),
    CreateSnapshot(CreateSnapshot),
    LoadSnapshot(LoadSnapshot),
}

impl Request {
    pub fn method(&self) -> Method {
        match self {
            Self::Vm(_) => Method::PATCH,
            _ => Method::PUT,
        }
    }

    pub fn path(&self) -> Cow<'static, str> {
        match self {
            Self::MachineConfig(_) => "/machine-config".into(),
            Self::BootSource(_) => "/boot-source".into(),
            Self::Drive(drive) => format!("/drives/{}", drive.drive_id).into(),
            Self::NetworkInterface(card) => format!("/network-interfaces/{}", card.iface_id).into(),
            Self::Vsock(_) => "/vsock".into(),
            Self::Balloon(_) => "/balloon".into(),
            Self::Entropy(_) => "/entropy".into(),
            Self::Logger(_) => "/logger".into(),
            Self::Metrics(_) => "/metrics".into(),
            Self::Action(_) => "/actions".into(),
            Self::Vm(_) => "/vm".into(),
            Self::CreateSnapshot(_) => "/snapshot/create".into(),
            Self::LoadSnapshot(_) => "/snapshot/load".into(),
        }
    }
}

/// Before the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachineConfig {
    pub vcpu_count: u32,
    pub mem_size_mib: u64,
    /// Makes writes slower, and differences small.
    pub track_dirty_pages: bool,
}

/// Before the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootSource {
    pub kernel_image_path: String,
    pub initrd_path: String,
    pub boot_args: String,
}

/// Before the start. Guests see drives in the order of these calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drive {
    pub drive_id: String,
    pub path_on_host: String,
    pub is_root_device: bool,
    pub is_read_only: bool,
    pub cache_type: CacheType,
    pub rate_limiter: RateLimiter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum CacheType {
    /// The guest's flushes do not reach the disk.
    Unsafe,
    Writeback,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RateLimiter {
    pub bandwidth: TokenBucket,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ops: Option<TokenBucket>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TokenBucket {
    pub size: u64,
    /// In milliseconds.
    pub refill_time: u64,
}

impl TokenBucket {
    pub const fn per_second(size: u64) -> Self {
        Self { size, refill_time: 1000 }
    }
}

/// Before the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkInterface {
    pub iface_id: String,
    pub host_dev_name: String,
    pub guest_mac: String,
    pub mtu: u16,
}

/// Before the start. Whoever says `CONNECT port` on the socket is led to that port of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vsock {
    pub guest_cid: u32,
    pub uds_path: String,
}

/// Before the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Balloon {
    pub amount_mib: u64,
    pub deflate_on_oom: bool,
    /// What the guest frees, the host has back.
    pub free_page_reporting: bool,
}

/// Before the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Entropy {}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Logger {
    pub log_path: String,
    pub level: Level,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Level {
    Error,
    Warning,
    Info,
}

/// Written once a minute, and when asked for by [`Action::FlushMetrics`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metrics {
    pub metrics_path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "action_type")]
pub enum Action {
    InstanceStart,
    FlushMetrics,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state")]
pub enum Vm {
    Paused,
    Resumed,
}

/// Of a paused machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CreateSnapshot {
    pub snapshot_type: SnapshotType,
    pub snapshot_path: String,
    pub mem_file_path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum SnapshotType {
    Full,
    /// What was written since the machine was loaded, if it was loaded with `track_dirty_pages`; the rest of the file is a hole.
    Diff,
}

/// Instead of a configuration and a start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoadSnapshot {
    pub snapshot_path: String,
    pub mem_backend: MemoryBackend,
    pub track_dirty_pages: bool,
    pub resume_vm: bool,
    pub network_overrides: Vec<NetworkOverride>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vsock_override: Option<VsockOverride>,
}

/// A file that is mapped privately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "backend_type")]
pub enum MemoryBackend {
    File { backend_path: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkOverride {
    pub iface_id: String,
    pub host_dev_name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VsockOverride {
    pub uds_path: String,
}
