//! What CI, releases and people run: `cargo xtask COMMAND`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use xshell::Shell;

mod build;
mod check;
mod demo;
mod mutants;
mod rust_tests;
mod setup;
mod sim;
mod test;
mod tidy;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Everything that CI and releases run")]
enum Command {
    /// Install what is missing of the Debian packages, the guest's Rust target and the guest kernel
    Setup,
    /// Build the guest daemon, then `plfm`
    Build(build::Args),
    /// Check format, lints, house rules, tests and simulation seeds
    Check(check::Args),
    /// Show an image as a real microVM: deployed, served, healed, found again
    Demo,
    /// Set up, build and run every test
    Test,
    /// Run the simulated fleet from seeds
    Sim(sim::Args),
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

fn run(command: Command) -> anyhow::Result<()> {
    let shell = Shell::new()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in no workspace")?;
    shell.change_dir(root);
    match command {
        Command::Setup => setup::run(&shell),
        Command::Build(args) => build::run(&shell, &args),
        Command::Check(args) => check::run(&shell, &args),
        Command::Demo => demo::run(&shell),
        Command::Test => test::run(&shell),
        Command::Mutants(args) => mutants::run(&shell, &args),
        Command::Sim(args) => sim::run(&shell, &args),
        Command::Tidy => tidy::run(&shell),
    }
}
