//! Flags of what is about volumes.

use clap::{Args, Subcommand};

use super::{AppArgs, EnvArgs};

#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    /// List volumes
    Ls,
    /// Remove a volume, and for ever what is in it
    Rm(VolumeRmArgs),
}

#[derive(Debug, Args)]
pub struct VolumeRmArgs {
    /// Its id, as `plfm volume ls` shows it; or its name, with its app and environment
    #[arg(value_name = "VOLUME")]
    pub volume: String,
    #[command(flatten)]
    pub app: AppArgs,
    #[command(flatten)]
    pub env: EnvArgs,
    /// What is in it is not needed any more
    #[arg(long)]
    pub yes: bool,
}
