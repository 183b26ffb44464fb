//! Why a command did not do what was asked: what happened, to what, and what to type next.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use plfm_api::client::{ApiError, ExecError};
use plfm_api::term::close;
use plfm_core::ids::{DeployId, InstanceId};
use plfm_core::manifest::{ManifestError, render};
use plfm_core::phase::NodePhase;
use plfm_core::reason::Failure;
use serde_json::{Value, json};

use crate::exit::{ExecExit, Exit};
use crate::printer::Printer;
use crate::profile::ProfileError;
use crate::role;

#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error("there is no cluster to talk to")]
    NoCluster,
    #[error("the cluster's CA certificate is not known")]
    NoCa,
    #[error("cannot read the {what} {path}", path = path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot write {path}", path = path.display())]
    FileWrite { path: PathBuf, source: io::Error },
    #[error("the app is not named")]
    NoApp,
    #[error("the environment is not named")]
    NoEnv,
    #[error("there is no plfm.toml in {here} or above", here = here.display())]
    NoManifest { here: PathBuf },
    #[error("cannot read the manifest {path}", path = path.display())]
    ManifestRead { path: PathBuf, source: io::Error },
    #[error("the manifest {path} is wrong in {count}", count = places(errors.len()))]
    Manifest { path: String, errors: Vec<ManifestError> },
    #[error("neither the manifest nor --image names an image")]
    NoImage,
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("{deploy} of {app} to {env} has failed: {failure}")]
    DeployFailed { deploy: DeployId, app: String, env: String, failure: Failure },
    #[error("{deploy} was superseded by {by}")]
    Superseded { deploy: DeployId, by: String },
    #[error("{deploy} is not done yet; that need not mean that it has failed")]
    WaitTimeout { deploy: DeployId, app: String },
    #[error("{node} is not empty yet; what has begun goes on")]
    DrainTimeout { node: String },
    #[error("{node} is {phase} before it was empty: {left} of its instances have not moved")]
    DrainEnded { node: String, phase: NodePhase, left: u32 },
    #[error("there is no instance of {app} in {env}")]
    NoInstance { app: String, env: String },
    #[error("there is no volume `{name}` of {app} in {env}")]
    NoVolume { name: String, app: String, env: String },
    #[error("what is in `{name}` would be gone for ever")]
    NotSure { name: String },
    #[error("no instance of {app} in {env} is ready")]
    NoReadyInstance { app: String, env: String },
    #[error("cannot run a command in {instance}")]
    Exec { instance: InstanceId, source: ExecError },
    #[error("{instance} does not start the command: {message}")]
    ExecRefused { instance: InstanceId, code: String, message: String },
    #[error("the command in {instance} was cut off before its end: {why}")]
    ExecCut { instance: InstanceId, why: String },
    #[error("cannot use this terminal")]
    Terminal { source: io::Error },
    #[error("standard input is no terminal")]
    NoTerminal,
    #[error("cannot read credentials of registries from {path}: {why}")]
    RegistryConfig { path: PathBuf, why: String },
    /// What a role says that could not start or go on.
    #[error("{role} cannot go on")]
    Role { role: &'static str, source: Box<dyn Error + Send + Sync> },
    #[error("neither --data, XDG_DATA_HOME nor HOME says where to keep data")]
    NoDataDir,
    #[error("a label is named twice")]
    LabelTwice,
    #[error("this plfm was built without its guest daemon")]
    NoGuest,
    #[error("the current directory is not there")]
    Here { source: io::Error },
    #[error("cannot start the runtime")]
    Runtime { source: io::Error },
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}

impl CliError {
    pub fn exit(&self) -> Exit {
        match self {
            Self::NoCluster | Self::NoCa | Self::NoApp | Self::NoEnv | Self::NoImage | Self::NoDataDir => Exit::Usage,
            Self::LabelTwice => Exit::Usage,
            Self::NoManifest { .. } | Self::ManifestRead { .. } | Self::Manifest { .. } => Exit::Usage,
            Self::File { .. } | Self::FileWrite { .. } | Self::Profile(_) | Self::Here { .. } => Exit::Usage,
            Self::Api(error) => api_exit(error),
            Self::Superseded { .. } | Self::DrainEnded { .. } => Exit::Conflict,
            Self::WaitTimeout { .. } | Self::DrainTimeout { .. } => Exit::Transient,
            Self::NoInstance { .. } | Self::NoVolume { .. } => Exit::NotFound,
            Self::NotSure { .. } => Exit::Usage,
            Self::NoReadyInstance { .. } => Exit::Exec(ExecExit::NotRunning),
            Self::Exec { source, .. } => Exit::Exec(exec_exit(source)),
            Self::ExecRefused { code, .. } => Exit::Exec(refused_exit(code)),
            Self::ExecCut { .. } => Exit::Exec(ExecExit::Server),
            Self::DeployFailed { .. }
            | Self::Role { .. }
            | Self::Output(_)
            | Self::Terminal { .. }
            | Self::RegistryConfig { .. }
            | Self::NoGuest => Exit::Failure,
            Self::NoTerminal => Exit::Usage,
            Self::Runtime { .. } => Exit::Internal,
        }
    }

    /// Stable, for programs.
    pub fn code(&self) -> &str {
        match self {
            Self::NoCluster => "no_cluster",
            Self::NoCa => "no_ca",
            Self::File { .. } => "file_unreadable",
            Self::FileWrite { .. } => "file_unwritable",
            Self::NoApp => "no_app",
            Self::NoEnv => "no_env",
            Self::NoManifest { .. } | Self::ManifestRead { .. } => "no_manifest",
            Self::Manifest { .. } => "invalid_manifest",
            Self::NoImage => "no_image",
            Self::Profile(_) => "invalid_profile",
            Self::Api(error) => error.code(),
            Self::DeployFailed { failure, .. } => failure.reason.code(),
            Self::Superseded { .. } => "superseded",
            Self::DrainEnded { .. } => "drain_ended",
            Self::WaitTimeout { .. } | Self::DrainTimeout { .. } => "wait_timeout",
            Self::NoInstance { .. } => "instance_not_found",
            Self::NoVolume { .. } => "volume_not_found",
            Self::NotSure { .. } => "not_confirmed",
            Self::NoReadyInstance { .. } => "instance_not_running",
            Self::Exec { .. } | Self::ExecCut { .. } => "exec_failed",
            Self::ExecRefused { code, .. } => code,
            Self::Terminal { .. } | Self::NoTerminal => "terminal",
            Self::RegistryConfig { .. } => "registry_config",
            Self::Role { .. } => "role_failed",
            Self::NoDataDir => "no_data_directory",
            Self::LabelTwice => "invalid_argument",
            Self::NoGuest => "no_guest_daemon",
            Self::Here { .. } => "no_directory",
            Self::Runtime { .. } => "internal",
            Self::Output(_) => "output",
        }
    }

    /// The next thing to type.
    pub fn hint(&self) -> String {
        match self {
            Self::NoCluster => {
                "start one here with `plfm dev`, or set PLFM_API_URL, PLFM_CA_FILE and PLFM_TOKEN".to_owned()
            }
            Self::NoCa => "name it with --ca-file or PLFM_CA_FILE".to_owned(),
            Self::File { .. } => {
                "start the cluster with `plfm dev`, which writes it, or choose another --profile".to_owned()
            }
            Self::NoApp => "name it in the command, or write `name` under `[app]` in plfm.toml".to_owned(),
            Self::NoEnv => "name it, for example with `--env dev`".to_owned(),
            Self::NoManifest { .. } => {
                "change to the directory of the app, or name the file with --manifest".to_owned()
            }
            Self::ManifestRead { .. } => "check the path and its permissions".to_owned(),
            Self::Manifest { .. } => String::new(),
            Self::FileWrite { .. } => "see that there is room, and that the directory is yours".to_owned(),
            Self::NoImage => "write `ref` under `[image]` in plfm.toml, or give --image".to_owned(),
            Self::Profile(ProfileError::NoSuchProfile(_)) => {
                "leave --profile out, or write the profile with `plfm dev`".to_owned()
            }
            Self::Profile(_) => "repair or remove the file; `plfm dev` writes a new one".to_owned(),
            Self::Api(error) => error.hint().to_owned(),
            Self::DeployFailed { app, failure, .. } => format!("{}; see `plfm explain {app}`", failure.reason.hint()),
            Self::DrainEnded { node, .. } => format!("see `plfm nodes`, then `plfm node drain {node}` again"),
            Self::Superseded { .. } => "see the newer deploy with `plfm status`".to_owned(),
            Self::WaitTimeout { app, .. } => format!("see `plfm explain {app}`, and watch with `plfm status {app}`"),
            Self::DrainTimeout { node } => format!("see what is left, and why, with `plfm node explain {node}`"),
            Self::NoVolume { .. } => "list them with `plfm volume ls`".to_owned(),
            Self::NotSure { name } => format!("if that is meant: `plfm volume rm {name} --yes`"),
            Self::NoInstance { app, .. } | Self::NoReadyInstance { app, .. } => format!("see `plfm explain {app}`"),
            Self::Exec { source, .. } => exec_hint(source).to_owned(),
            Self::ExecRefused { instance, code, .. } if code == "guest_unavailable" => {
                format!("see whether it and its node are there: `plfm explain {instance}`")
            }
            Self::ExecRefused { .. } => {
                "check the command: it has to be a program that the image holds, and small images hold no shell"
                    .to_owned()
            }
            Self::ExecCut { instance, .. } => format!(
                "it may run on: who watches is cut off when a sandbox is paused or forked; see `plfm explain {instance}`"
            ),
            Self::Terminal { .. } | Self::NoTerminal => "leave -t out; -i passes input on".to_owned(),
            Self::RegistryConfig { .. } => "name a file as `docker login` writes it, with its `auths`".to_owned(),
            Self::Role { source, .. } => role::hint(&**source).to_owned(),
            Self::LabelTwice => "name each label once".to_owned(),
            Self::NoDataDir => "name a directory with --data".to_owned(),
            Self::NoGuest => "build with `cargo xtask build`, which makes the guest daemon first".to_owned(),
            Self::Here { .. } => "change to a directory that exists".to_owned(),
            Self::Runtime { .. } => "try again when the machine has threads and memory to spare".to_owned(),
            Self::Output(_) => String::new(),
        }
    }

    pub fn request_id(&self) -> Option<String> {
        match self {
            Self::Api(error) => error.request_id(),
            Self::Exec { source: ExecError::Problem(problem), .. } => Some(problem.request_id.to_string()),
            _ => None,
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            Self::Api(error) => error.is_retryable(),
            _ => self.exit().category() == Exit::Transient.category(),
        }
    }

    /// Says it in the form that was asked for; gives the number to exit with.
    pub fn report(&self, out: &mut Printer) -> Exit {
        // The reader has seen enough and gone: `plfm logs | head`.
        if matches!(self, Self::Output(source) if source.kind() == io::ErrorKind::BrokenPipe) {
            return Exit::Success;
        }
        if out.is_json() {
            // If this cannot be written, nothing can.
            let _ = out.document("error", &json!({ "error": self.document() }));
        } else if let Self::Manifest { path, errors } = self {
            out.note(render(errors, path).trim_end());
        } else {
            out.error(self, &self.hint(), self.request_id().as_deref());
        }
        self.exit()
    }

    fn document(&self) -> Value {
        json!({
            "category": self.exit().category(),
            "code": self.code(),
            "message": self.to_string(),
            "hint": self.hint(),
            "retryable": self.is_retryable(),
            "request_id": self.request_id(),
            "details": self.details(),
        })
    }

    fn details(&self) -> Value {
        match self {
            Self::Manifest { errors, .. } => json!({ "fields": errors }),
            Self::Api(ApiError::Problem(problem)) => json!({ "fields": problem.details }),
            Self::DeployFailed { deploy, app, env, failure } => {
                json!({ "resource": { "type": "deploy", "id": deploy }, "app": app, "env": env, "failure": failure })
            }
            _ => json!({}),
        }
    }
}

fn places(count: usize) -> String {
    if count == 1 { "one place".to_owned() } else { format!("{count} places") }
}

fn api_exit(error: &ApiError) -> Exit {
    match (error, error.status()) {
        (ApiError::Url(_) | ApiError::Tls(_), _) => Exit::Usage,
        (ApiError::Untrusted { .. } | ApiError::WrongName { .. }, _) => Exit::Auth,
        (_, Some(status)) => Exit::of_status(status),
        (ApiError::Setup { .. } | ApiError::Unexpected { .. }, None) => Exit::Internal,
        (_, None) => Exit::Transient,
    }
}

fn exec_exit(error: &ExecError) -> ExecExit {
    match error {
        ExecError::Unreachable { .. } | ExecError::Silent { .. } => ExecExit::Connect,
        ExecError::Problem(problem) => ExecExit::of_status(problem.status),
        ExecError::Foreign { status } => ExecExit::of_status(*status),
        ExecError::Closed { code, .. } => match *code {
            close::UNAUTHORIZED | close::FORBIDDEN | close::REVOKED => ExecExit::Auth,
            close::UNKNOWN_SESSION | close::NOT_RUNNING => ExecExit::NotRunning,
            close::HELLO_TIMEOUT => ExecExit::Connect,
            close::LIMIT => ExecExit::Limited,
            _ => ExecExit::Server,
        },
        ExecError::Broken(_) | ExecError::Frame(_) => ExecExit::Server,
    }
}

fn refused_exit(code: &str) -> ExecExit {
    match code {
        "unauthorized" | "forbidden" | "token_expired" | "token_revoked" | "insufficient_scope" => ExecExit::Auth,
        "instance_not_running" | "instance_not_found" => ExecExit::NotRunning,
        "hello_timeout" => ExecExit::Connect,
        "exec_rate_limited" | "rate_limited" => ExecExit::Limited,
        _ => ExecExit::Server,
    }
}

fn exec_hint(error: &ExecError) -> &str {
    match error {
        ExecError::Unreachable { .. } => {
            "start a cluster here with `plfm dev`, or name another with --api-url or PLFM_API_URL"
        }
        ExecError::Problem(problem) if problem.hint.is_empty() => "see `plfm instances`",
        ExecError::Problem(problem) => &problem.hint,
        _ => "try again; see `plfm instances`",
    }
}

#[cfg(test)]
mod tests;
