//! Flags of what is about sandboxes and templates.

use std::time::Duration;

use clap::{Args, Subcommand};
use plfm_api::views::sandbox_id;
use plfm_core::fair::Class;
use plfm_core::ids::{InstanceId, TokenId};
use plfm_core::manifest::{mebibytes, millis};
use plfm_core::units::{Mebibytes, MilliCpu};

use super::RunArgs;
use crate::time;

#[derive(Debug, Subcommand)]
pub enum TemplateCommand {
    /// Make an image the one that sandboxes of this name start from
    Add(TemplateAddArgs),
    /// List templates
    Ls,
}

#[derive(Debug, Args)]
pub struct TemplateAddArgs {
    /// What sandboxes ask for; E2B's SDKs ask for `base` if nothing else is said
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Image, as for an app
    #[arg(long, value_name = "REF")]
    pub image: String,
    /// Memory of each sandbox
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "512Mi")]
    pub memory: Mebibytes,
    /// Processors of each sandbox
    #[arg(long, value_name = "CORES", value_parser = cores, default_value = "1")]
    pub cpu: MilliCpu,
    /// What each sandbox can write
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "4Gi")]
    pub disk: Mebibytes,
    /// Started in each before it is anybody's, and kept running
    #[arg(long, value_name = "CMD")]
    pub start: Option<String>,
    /// Tried until it ends well; a sandbox does not begin before
    #[arg(long, value_name = "CMD")]
    pub ready: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum SandboxCommand {
    /// Start a sandbox, and wait until it runs
    Create(CreateArgs),
    /// List sandboxes
    Ls,
    /// Run a command in a sandbox
    Exec(SandboxExecArgs),
    /// Give a sandbox so much time from now on
    Timeout(SandboxTimeoutArgs),
    /// Keep a sandbox on disk as it is, processes included; it needs no memory until it goes on
    Pause(SandboxName),
    /// Let a paused sandbox go on where it left off
    Resume(SandboxResumeArgs),
    /// Let others go on from what a sandbox is at this moment, processes included; it goes on too
    Fork(SandboxForkArgs),
    /// End a sandbox now; nothing of it is kept
    Kill(SandboxName),
    /// Print what E2B's SDKs need to use this cluster: eval "$(plfm sandbox env)"
    Env,
}

#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Keep what a sandbox is at this moment, processes included; it goes on
    Create(SnapshotCreateArgs),
    /// List snapshots; `plfm sandbox create SNAPSHOT` goes on from one
    Ls,
    /// Remove a snapshot; sandboxes that went on from it go on
    Rm(SnapshotName),
}

#[derive(Debug, Args)]
pub struct SnapshotCreateArgs {
    #[command(flatten)]
    pub sandbox: SandboxName,
    /// What to call it; a newer one of a name takes it
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

#[derive(Debug, Args)]
pub struct SnapshotName {
    /// As `plfm snapshot ls` lists it
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: String,
}

#[derive(Debug, Args)]
pub struct SandboxForkArgs {
    #[command(flatten)]
    pub name: SandboxName,
    /// How many
    #[arg(short = 'n', long, value_name = "COUNT", default_value = "1")]
    pub count: u32,
    /// How long each runs, once it is ready
    #[arg(long, value_name = "TIME", value_parser = time::parse, default_value = "5m")]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Template, as `plfm template ls` lists them, or snapshot, as `plfm snapshot ls` does
    #[arg(value_name = "TEMPLATE", default_value = "base")]
    pub template: String,
    /// How long it runs, once it is ready
    #[arg(long, value_name = "TIME", value_parser = time::parse, default_value = "5m")]
    pub timeout: Duration,
    /// Pause it when its time is over, and do not end it
    #[arg(long)]
    pub pause_on_timeout: bool,
    /// A variable of everything that runs in it; repeat for more
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub var: Vec<(String, String)>,
    /// What you want to know it by; repeat for more
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub metadata: Vec<(String, String)>,
    /// As which it is served, in its project: critical, high, normal or low
    #[arg(long, value_name = "CLASS", value_parser = super::orgs::class, default_value = "normal")]
    pub class: Class,
}

#[derive(Debug, Args)]
pub struct SandboxName {
    /// As `plfm sandbox ls` lists it
    #[arg(value_name = "SANDBOX", value_parser = sandbox)]
    pub sandbox: InstanceId,
}

#[derive(Debug, Args)]
pub struct SandboxTimeoutArgs {
    #[command(flatten)]
    pub name: SandboxName,
    /// From now on; 0s ends it
    #[arg(value_name = "TIME", value_parser = time::parse)]
    pub time: Duration,
}

#[derive(Debug, Args)]
pub struct SandboxResumeArgs {
    #[command(flatten)]
    pub name: SandboxName,
    /// How long it runs from then on
    #[arg(long, value_name = "TIME", value_parser = time::parse, default_value = "5m")]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub struct SandboxExecArgs {
    #[command(flatten)]
    pub name: SandboxName,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key, and print it this once
    Create,
    /// List keys
    Ls,
    /// Let nobody in with a key any more
    Revoke(KeyId),
}

#[derive(Debug, Args)]
pub struct KeyId {
    /// As `plfm key ls` lists it
    #[arg(value_name = "KEY")]
    pub key: TokenId,
}

fn sandbox(text: &str) -> Result<InstanceId, String> {
    sandbox_id(text).ok_or_else(|| "not the name of a sandbox: see `plfm sandbox ls`".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    pair.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| "write NAME=VALUE".to_owned())
}

fn size(text: &str) -> Result<Mebibytes, String> {
    mebibytes(text).ok_or_else(|| "write a size with Mi or Gi, for example 512Mi".to_owned())
}

fn cores(text: &str) -> Result<MilliCpu, String> {
    let cores = text.parse::<f64>().ok().filter(|cores| (0.1..=128.0).contains(cores));
    cores.map(millis).ok_or_else(|| "processors are 0.1 to 128".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert_eq!(pair("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert!(pair("=x").is_err() && pair("A").is_err());
        assert_eq!((size("2Gi"), cores("0.5")), (Ok(Mebibytes(2_048)), Ok(MilliCpu(500))));
        assert!(size("2GB").is_err() && cores("0").is_err() && cores("many").is_err());
        assert!(sandbox("01arz3ndektsv4rrffq69g5fav").is_ok() && sandbox("web").is_err());
    }
}
