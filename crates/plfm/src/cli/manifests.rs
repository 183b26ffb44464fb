//! `plfm manifest …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum ManifestCommand {
    /// Check it by the rules that the server has, and show what it asks for; nothing is sent
    Check(ManifestArgs),
}

#[derive(Debug, Args)]
pub struct ManifestArgs {
    /// Manifest [default: plfm.toml here or above]
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,
}
