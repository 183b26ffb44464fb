//! The grammar of the command line: flags and what they mean. Nothing is done here.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use plfm_core::ids::{InstanceId, ReleaseId};

use crate::{Exit, time};

mod expose;
mod manifests;
mod orgs;
mod roles;
mod sandboxes;
mod volumes;

pub use expose::Expose;
pub use manifests::{ManifestArgs, ManifestCommand};
pub use roles::{
    DevArgs, DrainArgs, EdgeArgs, ImageArgs, MachineArgs, Mirror, MonitorArgs, NodeArgs, NodeCommand, NodeName,
    OrderCommand, ServerArgs, TokenArgs, TolerateArgs,
};

pub use orgs::{LabelArgs, LimitArgs, OrgCommand, PriorityArgs, RequireArgs, WeightArgs, distinct};

pub use sandboxes::{
    CreateArgs, KeyCommand, KeyId, SandboxCommand, SandboxExecArgs, SandboxForkArgs, SandboxName, SandboxResumeArgs,
    SandboxTimeoutArgs, SnapshotCommand, SnapshotCreateArgs, SnapshotName, TemplateAddArgs, TemplateCommand,
};

pub use volumes::{VolumeCommand, VolumeRmArgs};

/// A microVM cloud on your own machines.
#[derive(Debug, Parser)]
#[command(name = "plfm", version, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// For every command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Print one JSON document (or JSON lines) on standard output and nothing else
    #[arg(long, global = true)]
    pub json: bool,
    /// Profile of the configuration file [default: the current one]
    #[arg(long, global = true, value_name = "NAME", env = "PLFM_PROFILE", hide_env_values = true)]
    pub profile: Option<String>,
    /// URL of the API, https://host:port
    #[arg(long, global = true, value_name = "URL", env = "PLFM_API_URL", hide_env_values = true)]
    pub api_url: Option<String>,
    /// The cluster's CA certificate, PEM
    #[arg(long, global = true, value_name = "FILE", env = "PLFM_CA_FILE", hide_env_values = true)]
    pub ca_file: Option<PathBuf>,
    /// Organisation
    #[arg(long, global = true, value_name = "NAME", env = "PLFM_ORG", hide_env_values = true)]
    pub org: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Deploy an image by its manifest, and wait until it runs
    Deploy(DeployArgs),
    /// Deploy a release once more that has run before
    Rollback(RollbackArgs),
    /// List what was deployed, the newest first
    Releases(RoutesArgs),
    /// Show what should run and what does
    Status(StatusArgs),
    /// List instances
    Instances(InstancesArgs),
    /// Show where traffic enters, and where it leads
    Routes(RoutesArgs),
    /// Take an entry of the edge away; a managed host name comes back with the next deploy
    Unexpose(UnexposeArgs),
    /// List nodes
    Nodes,
    /// Show what instances have written
    Logs(LogsArgs),
    /// Show what an instance takes of its node
    Stats(StatsArgs),
    /// Run a command in an instance
    Exec(ExecArgs),
    /// Say why something is here, or not
    Explain(ExplainArgs),
    /// Show what has happened
    Events(EventsArgs),
    /// Machines of their own, for a while: for agents, for tests, for a look around
    #[command(subcommand)]
    Sandbox(SandboxCommand),
    /// What sandboxes are made of
    #[command(subcommand)]
    Template(TemplateCommand),
    /// Keep what sandboxes are, for others to go on from
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Disks of apps that outlive their instances
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Keys for programs that use sandboxes
    #[command(subcommand)]
    Key(KeyCommand),
    /// Give new instances of a deployed app to nodes with these labels only; without any, to all
    Require(RequireArgs),
    /// Serve a deployed app before or after others of its project, where there is not room for all
    Priority(PriorityArgs),
    /// What the org may have, its part, and its nodes
    #[command(subcommand)]
    Org(OrgCommand),
    /// Look at a manifest before it is deployed
    #[command(subcommand)]
    Manifest(ManifestCommand),
    /// Check whether this machine can run instances
    Doctor(DoctorArgs),
    /// Print what makes a shell complete commands of plfm; `source <(plfm completion bash)`
    Completion {
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Show the versions of this program and of the server
    Version,
    /// Run a whole cluster here: server, node and edge in one process
    Dev(DevArgs),
    /// Run a server
    Server(ServerArgs),
    /// Run a node, or add one
    Node(NodeArgs),
}

/// Which app, by name.
#[derive(Debug, Clone, Default, Args)]
pub struct AppArgs {
    /// App [default: `name` under `[app]` in plfm.toml here or above]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), env = "PLFM_APP", hide_env_values = true)]
    pub app: Option<String>,
}

/// Which environment, by name.
#[derive(Debug, Clone, Default, Args)]
pub struct EnvArgs {
    /// Environment [default: the profile's]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), env = "PLFM_ENV", hide_env_values = true)]
    pub env: Option<String>,
}

#[derive(Debug, Args)]
pub struct DeployArgs {
    /// Manifest [default: plfm.toml here or above]
    #[arg(long, value_name = "PATH")]
    pub manifest: Option<PathBuf>,
    #[command(flatten)]
    pub app: AppArgs,
    #[command(flatten)]
    pub env: EnvArgs,
    /// Image, instead of the manifest's
    #[arg(long, value_name = "REF")]
    pub image: Option<String>,
    /// Lead a TCP port of the edge, or a host name below its domain, to a port of a process type; with `/tls` after it, TLS ends there
    #[arg(long, value_name = "LISTEN=PROCESS:PORT")]
    pub expose: Vec<Expose>,
    /// Make the volumes that the manifest names and that are not there yet, empty
    #[arg(long)]
    pub create_volumes: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// For what is rolled out.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Wait until the deploy has succeeded or failed; this is the default
    #[arg(long, overrides_with = "no_wait")]
    pub wait: bool,
    /// Return as soon as the deploy is accepted
    #[arg(long, overrides_with = "wait")]
    pub no_wait: bool,
    /// Stop waiting after this long; the deploy itself is given up after 10 minutes
    #[arg(long, value_name = "TIME", value_parser = time::parse, default_value = "15m")]
    pub wait_timeout: Duration,
}

#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// Release, as `plfm releases` lists them [default: the newest other one that has run]
    #[arg(value_name = "RELEASE")]
    pub release: Option<ReleaseId>,
    #[command(flatten)]
    pub app: AppArgs,
    #[command(flatten)]
    pub env: EnvArgs,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// App [default: that of plfm.toml here or above; else all]
    #[arg(value_parser = NonEmptyStringValueParser::new(), env = "PLFM_APP", hide_env_values = true)]
    pub app: Option<String>,
    #[command(flatten)]
    pub env: EnvArgs,
}

#[derive(Debug, Args)]
pub struct InstancesArgs {
    /// Only of this app
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    /// Only of this environment
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
    /// Those too that have ended: `plfm logs --instance` still knows what they said
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct RoutesArgs {
    /// App [default: that of plfm.toml here or above]
    #[arg(value_parser = NonEmptyStringValueParser::new(), env = "PLFM_APP", hide_env_values = true)]
    pub app: Option<String>,
    #[command(flatten)]
    pub env: EnvArgs,
}

#[derive(Debug, Args)]
pub struct UnexposeArgs {
    /// The port, or the host name
    #[arg(value_name = "PORT|HOST")]
    pub entry: String,
    #[command(flatten)]
    pub app: AppArgs,
    #[command(flatten)]
    pub env: EnvArgs,
}

#[derive(Debug, Args)]
pub struct StatsArgs {
    /// An instance's id, or a sandbox's name
    #[arg(value_parser = instance)]
    pub instance: InstanceId,
}

/// By either name.
fn instance(text: &str) -> Result<InstanceId, String> {
    let named = text.parse().ok().or_else(|| plfm_api::views::sandbox_id(text));
    named.ok_or_else(|| "no instance is called so: see `plfm instances` and `plfm sandbox ls`".to_owned())
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// App [default: that of plfm.toml here or above]
    #[arg(value_parser = NonEmptyStringValueParser::new(), env = "PLFM_APP", hide_env_values = true)]
    pub app: Option<String>,
    #[command(flatten)]
    pub env: EnvArgs,
    /// Go on with what is written from now on
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last lines
    #[arg(short = 'n', long, value_name = "LINES", conflicts_with = "follow")]
    pub tail: Option<usize>,
    /// Only of this instance
    #[arg(long, value_name = "ID", value_parser = instance)]
    pub instance: Option<InstanceId>,
    /// What the machine's kernel and guest daemon have said, too
    #[arg(long)]
    pub console: bool,
}

#[derive(Debug, Args)]
pub struct ExecArgs {
    /// App whose first ready instance is used [default: that of plfm.toml here or above]
    #[arg(value_parser = NonEmptyStringValueParser::new(), env = "PLFM_APP", hide_env_values = true)]
    pub app: Option<String>,
    #[command(flatten)]
    pub env: EnvArgs,
    /// In this instance
    #[arg(long, value_name = "ID", value_parser = instance)]
    pub instance: Option<InstanceId>,
    #[command(flatten)]
    pub run: RunArgs,
}

/// What to run, and how.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Give the command a terminal, and pass input on
    #[arg(short, long)]
    pub tty: bool,
    /// Pass standard input on
    #[arg(short, long)]
    pub interactive: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// App, instance or sandbox [default: the app of plfm.toml here or above]
    #[arg(value_name = "APP|INSTANCE|SANDBOX", env = "PLFM_APP", hide_env_values = true)]
    pub subject: Option<String>,
    #[command(flatten)]
    pub env: EnvArgs,
}

#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Go on with what happens from now on
    #[arg(short, long)]
    pub follow: bool,
    /// Only what came after this number
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub after: u64,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Where machines would be kept [default: plfm in the user's data directory]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub monitor: roles::MonitorArgs,
}

/// What was typed is not in the grammar; or it asks for help or the version, which is none of the errors.
pub fn refuse(error: &clap::Error, args: &[OsString]) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            Exit::Success
        }
        _ if wants_json(args) => {
            println!("{}", usage_document(error));
            Exit::Usage
        }
        _ => {
            let _ = error.print();
            Exit::Usage
        }
    }
}

fn wants_json(args: &[OsString]) -> bool {
    args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json")
}

fn usage_document(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    serde_json::json!({
        "schema": "plfm.error.v1",
        "error": {
            "category": Exit::Usage.category(),
            "code": "invalid_usage",
            "message": message,
            "hint": "see `plfm --help`",
            "retryable": false,
        },
    })
    .to_string()
}

#[cfg(test)]
mod tests;
