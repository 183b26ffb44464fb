//! What a change must pass, the quick things first.

use anyhow::Context;
use xshell::{Shell, cmd};

use crate::rust_tests::{self, Scope};
use crate::{sim, tidy};

const SEEDS_QUICK: u64 = 50;
pub const SEEDS: u64 = 1_000;

#[derive(clap::Args)]
pub struct Args {
    /// Unit tests and a few seeds only
    #[arg(long)]
    quick: bool,
}

pub fn run(shell: &Shell, args: &Args) -> anyhow::Result<()> {
    let (scope, seeds) = if args.quick { (Scope::Units, SEEDS_QUICK) } else { (Scope::All, SEEDS) };
    cmd!(shell, "cargo fmt --all --check").run().context("`cargo fmt --all` has something to do")?;
    tidy::run(shell)?;
    cmd!(shell, "cargo clippy --quiet --workspace --all-targets --features plfm-sim/broken -- --deny warnings")
        .run()
        .context("clippy complains")?;
    sim::run(shell, &sim::Args { seeds, seed: None, broken: false })?;
    rust_tests::run(shell, scope)
}
