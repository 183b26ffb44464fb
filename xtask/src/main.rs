//! What CI, releases and people run: `cargo xtask COMMAND`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use xshell::Shell;

mod bench;
mod build;
mod check;
mod demo;
mod e2b;
mod fuzz;
mod mutants;
mod rust_tests;
mod setup;
mod sim;
mod soak;
mod test;
mod tidy;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Everything that CI and releases run")]
enum Command {
    /// Install what is missing of the Debian packages, the guest's Rust target and the guest kernel
    Setup,
    /// Measure ours beside its peers
    Bench(bench::Args),
    /// Build the guest daemon, then `plfm`
    Build(build::Args),
    /// Check format, lints, house rules, tests and simulation seeds
    Check(check::Args),
    /// Show an image as a real microVM: deployed, served, healed, found again
    Demo,
    /// Set up, build and run every test
    Test,
    /// Run the suite for E2B's SDKs and write the conformance matrix
    E2b,
    /// Feed the parsers of untrusted bytes with what a fuzzer thinks of
    Fuzz(fuzz::Args),
    /// Run the simulated fleet from seeds
    Sim(sim::Args),
    /// Pause, resume and keep real machines while whoever does it is killed
    Soak(soak::Args),
    /// Change the code in small ways and see whether a test notices
    Mutants(mutants::Args),
    /// Check the house rules that no other tool knows
    Tidy,
}

fn main() -> ExitCode {
    match run(Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where cargo builds, and what is fetched and made for it lies beside.
fn target_dir(shell: &Shell) -> PathBuf {
    let given = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    shell.current_dir().join(given)
}

fn run(command: Command) -> anyhow::Result<()> {
    let shell = Shell::new()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in no workspace")?;
    shell.change_dir(root);
    match command {
        Command::Setup => setup::run(&shell),
        Command::Bench(args) => bench::run(&shell, &args),
        Command::Build(args) => build::run(&shell, &args),
        Command::Check(args) => check::run(&shell, &args),
        Command::Demo => demo::run(&shell),
        Command::E2b => e2b::run(&shell),
        Command::Test => test::run(&shell),
        Command::Fuzz(args) => fuzz::run(&shell, &args),
        Command::Mutants(args) => mutants::run(&shell, &args),
        Command::Sim(args) => sim::run(&shell, &args),
        Command::Soak(args) => soak::run(&shell, &args),
        Command::Tidy => tidy::run(&shell),
    }
}
