//! Feeds the parsers of untrusted bytes with what a fuzzer thinks of (`fuzz/`).

use anyhow::Context;
use xshell::{Shell, cmd};

const SECONDS: u32 = 60;
/// What a parser takes at once, with room: its own limits must hold before the fuzzer's.
const RSS_MIB_MAX: u32 = 2048;

#[derive(clap::Args)]
pub struct Args {
    /// One of those in `fuzz/fuzz_targets`; all if none is named
    target: Option<String>,
    /// How long each is fed
    #[arg(long, default_value_t = SECONDS)]
    seconds: u32,
}

pub fn run(shell: &Shell, args: &Args) -> anyhow::Result<()> {
    if cmd!(shell, "cargo fuzz --version").quiet().ignore_stdout().ignore_stderr().run().is_err() {
        cmd!(shell, "cargo install --locked cargo-fuzz").run().context("cannot install cargo-fuzz")?;
    }
    // The sanitizers are flags of an unstable compiler, and this is the compiler there is.
    let _unstable = shell.push_env("RUSTC_BOOTSTRAP", "1");
    let all = cmd!(shell, "cargo fuzz list").quiet().read()?;
    let targets: Vec<&str> = args.target.as_deref().map_or_else(|| all.lines().collect(), |one| vec![one]);
    for target in targets {
        let (seconds, rss) = (args.seconds.to_string(), RSS_MIB_MAX.to_string());
        cmd!(shell, "cargo fuzz run {target} -- -max_total_time={seconds} -rss_limit_mb={rss} -print_final_stats=1")
            .run()
            .with_context(|| format!("`{target}` does not hold; the input is below fuzz/artifacts/{target}"))?;
    }
    Ok(())
}
