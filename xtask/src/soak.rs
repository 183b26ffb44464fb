//! The tests that kill: at every point in every way, then at random for as long as one likes.

use xshell::{Shell, cmd};

use crate::{build, setup};

#[derive(clap::Args)]
pub struct Args {
    /// How often a machine is paused, resumed or kept while somebody may be killed
    #[arg(long, default_value_t = 1_000)]
    rounds: u64,
    /// Chooses what happens when, as far as processes keep time [default: another each time, printed]
    #[arg(long)]
    seed: Option<u64>,
}

pub fn run(shell: &Shell, args: &Args) -> anyhow::Result<()> {
    setup::run(shell)?;
    build::guest(shell)?;
    let _rounds = shell.push_env("PLFM_SOAK_ROUNDS", args.rounds.to_string());
    let _seed = args.seed.map(|seed| shell.push_env("PLFM_SOAK_SEED", seed.to_string()));
    let _points = shell.push_env("PLFM_SOAK_POINTS", "1");
    let tests = "test(at_every_point_somebody_may_be_killed) or test(what_was_answered_is_kept_whoever_is_killed)";
    Ok(cmd!(shell, "cargo nextest run --workspace --no-capture -E {tests}").run()?)
}
