//! Runs the simulated fleet.

use anyhow::Context;
use xshell::{Shell, cmd};

#[derive(clap::Args)]
pub struct Args {
    /// How many seeds to run; each broken mind gets at most 1000
    #[arg(long, default_value_t = 200)]
    pub seeds: u64,
    /// The first seed; a failure names the one to repeat
    #[arg(long)]
    pub seed: Option<u64>,
    /// See whether minds that are broken by hand are found, and how small their scenarios get
    #[arg(long)]
    pub broken: bool,
}

/// A broken mind has to show within so many.
const BROKEN_SEEDS: u64 = 1_000;

pub fn run(shell: &Shell, args: &Args) -> anyhow::Result<()> {
    let seeds = if args.broken { BROKEN_SEEDS } else { args.seeds }.to_string();
    let first = args.seed.map(|seed| format!("--seed={seed}"));
    let (feature, broken) = if args.broken { (Some("--features=broken"), Some("--broken")) } else { (None, None) };
    cmd!(
        shell,
        "cargo run --quiet --profile sim --package plfm-sim {feature...} -- --seeds {seeds} {first...} {broken...}"
    )
    .run()
    .context("the simulation failed")
}
