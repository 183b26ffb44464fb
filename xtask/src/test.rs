//! From a bare Debian machine to every test, run.

use xshell::Shell;

use crate::rust_tests::{self, Scope};
use crate::{build, check, setup, sim, tidy};

pub fn run(shell: &Shell) -> anyhow::Result<()> {
    setup::run(shell)?;
    // `plfm` itself is built with the tests.
    build::guest(shell)?;
    tidy::run(shell)?;
    sim::run(shell, &sim::Args { seeds: check::SEEDS, seed: None, broken: false })?;
    rust_tests::run(shell, Scope::All)
}
