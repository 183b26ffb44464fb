//! What a manifest says, as types. The serde form is the TOML of `docs/manifest.md` with every default written out;
//! reading it back does not check the rules, so it is for what [`Manifest::parse`] once accepted.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::notation;
use crate::units::{Mebibytes, MilliCpu};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub schema_version: SchemaVersion,
    #[serde(default, skip_serializing_if = "is_default")]
    pub app: App,
    pub image: Image,
    pub env: Settings,
    pub processes: BTreeMap<String, Process>,
    /// Sorted by name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub volumes: Vec<Volume>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SchemaVersion {
    #[default]
    #[serde(rename = "v1")]
    V1,
}

/// Labels for people; identity comes from the app that is deployed to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    #[serde(default, skip_serializing_if = "is_default")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub description: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// As [`image_reference`](super::image_reference) accepts it; none when the deploy brings it.
    #[serde(default, rename = "ref", skip_serializing_if = "is_default")]
    pub reference: Option<String>,
    pub pull_policy: PullPolicy,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    #[default]
    IfNotPresent,
    Always,
}

/// What `env` says for every process and a process may say for itself; [`Manifest::merged`] joins the two.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    #[serde(default, skip_serializing_if = "is_default")]
    pub vars: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub workdir: Option<String>,
    /// A name, a uid, or `uid:gid`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub user: Option<String>,
    /// Run to its end before the entrypoint; empty when there is none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prestart: Vec<String>,
    pub prestart_timeout_seconds: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// None: the image's entrypoint and command.
    #[serde(default, skip_serializing_if = "is_default")]
    pub command: Option<Vec<String>>,
    /// From SIGTERM to SIGKILL. Only another than the default is written, for it came later than the hashes of manifests.
    #[serde(default = "termination_grace", skip_serializing_if = "is_termination_grace")]
    pub termination_grace_seconds: u32,
    #[serde(flatten)]
    pub settings: Settings,
    pub resources: Resources,
    pub scaling: Scaling,
    pub restart: Restart,
    /// Sorted by name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ports: Vec<Port>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub health: Option<Health>,
    /// Sorted by path.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mounts: Vec<Mount>,
    pub secrets: Secrets,
}

/// Unless the manifest says otherwise (P-SCH-34).
pub const TERMINATION_GRACE_SECONDS: u32 = 10;

const fn termination_grace() -> u32 {
    TERMINATION_GRACE_SECONDS
}

const fn is_termination_grace(seconds: &u32) -> bool {
    *seconds == TERMINATION_GRACE_SECONDS
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    #[serde(with = "notation::size")]
    pub memory: Mebibytes,
    #[serde(with = "notation::cores")]
    pub cpu: MilliCpu,
    #[serde(with = "notation::size")]
    pub disk: Mebibytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaling {
    pub min: u32,
    pub max: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    pub policy: RestartPolicy,
    /// Present exactly with [`RestartPolicy::OnFailure`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_retries: Option<u32>,
    pub backoff_seconds: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
    Never,
}

/// A TCP port that the process listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    pub name: String,
    pub internal: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    #[serde(rename = "type")]
    pub check: HealthCheck,
    /// The number of a declared port.
    pub port: u16,
    /// Present whenever the check is HTTP.
    #[serde(default, skip_serializing_if = "is_default")]
    pub path: Option<String>,
    pub interval_seconds: u32,
    pub timeout_seconds: u32,
    pub grace_period_seconds: u32,
    pub success_threshold: u32,
    pub failure_threshold: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthCheck {
    #[default]
    Tcp,
    Http,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub volume: String,
    pub path: String,
    pub read_only: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// No start without a version of the environment's secrets.
    pub required: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub name: String,
    #[serde(with = "notation::size")]
    pub size: Mebibytes,
    pub backup_enabled: bool,
}

impl fmt::Debug for Settings {
    /// Without the values of the variables: they count as secrets, and debug output ends up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("vars", &self.vars.keys())
            .field("workdir", &self.workdir)
            .field("user", &self.user)
            .field("prestart", &self.prestart)
            .field("prestart_timeout_seconds", &self.prestart_timeout_seconds)
            .finish()
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
