//! Runs the simulated fleet.

use anyhow::Context;
use xshell::{Shell, cmd};

#[derive(clap::Args)]
pub struct Args {
    /// How many seeds to run, one after another
    #[arg(long)]
    pub seeds: u64,
    /// The first seed; a failure names the one to repeat
    #[arg(long)]
    pub seed: Option<u64>,
}

pub fn run(shell: &Shell, args: &Args) -> anyhow::Result<()> {
    let seeds = args.seeds.to_string();
    let first = args.seed.map(|seed| format!("--seed={seed}"));
    cmd!(shell, "cargo run --quiet --package plfm-sim -- --seeds {seeds} {first...}")
        .run()
        .context("the simulation failed")
}
