//! E2B's official SDKs: installed from PyPI, and what of them works against a fresh `plfm dev`, as a page.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Context;
use xshell::{Shell, cmd};

use crate::{build, setup};

/// Both generations: the one that was studied, and the newest that was tried.
const SDKS: [(&str, &str); 2] = [("pinned", "2.45.1"), ("latest", "2.63.0")];
const PAGE: &str = "docs/e2b-conformance.md";

/// Each in an environment of its own, in the target directory.
pub fn sdks(shell: &Shell) -> anyhow::Result<()> {
    for (_, version) in SDKS {
        let dir = home(shell, version);
        if shell.path_exists(dir.join("installed")) {
            continue;
        }
        cmd!(shell, "python3 -m venv --clear {dir}").quiet().run()?;
        let pip = dir.join("bin/pip");
        cmd!(shell, "{pip} install --quiet --disable-pip-version-check e2b=={version}").quiet().run()?;
        shell.write_file(dir.join("installed"), version)?;
    }
    Ok(())
}

fn home(shell: &Shell, version: &str) -> PathBuf {
    crate::target_dir(shell).join("e2b").join(version)
}

/// Runs the suite with each and writes down what came of it.
pub fn run(shell: &Shell) -> anyhow::Result<()> {
    setup::run(shell)?;
    build::run(shell, &build::Args::default())?;
    let outcome = cmd!(shell, "cargo nextest run --package plfm --test machines programs_written_for_e2b_run").run();
    let results = SDKS.map(|(_, version)| shell.read_file(home(shell, version).join("suite.txt")).unwrap_or_default());
    shell.write_file(PAGE, page(&results))?;
    println!("{PAGE} is written");
    outcome.context("something that should work does not")
}

fn page(results: &[String; 2]) -> String {
    let mut page = "# E2B's SDKs on plfm\n\nWritten by `cargo xtask e2b`, which runs `crates/plfm/tests/e2b/suite.py` with the official \
         SDKs from PyPI\nagainst a fresh `plfm dev`. What is not in this table is not tested.\n\n"
        .to_owned();
    let titles = SDKS.map(|(name, version)| format!("Python {version} ({name})"));
    let _ = writeln!(page, "| check | {} |\n|---|---|---|", titles.join(" | "));
    let names = results[1].lines().filter_map(|line| line.split([' ', ':']).nth(1));
    for name in names {
        let verdict = |result: &String| {
            let is_ok = result.lines().any(|line| line == format!("ok {name}"));
            if is_ok { "ok" } else { "**fails**" }
        };
        let _ = writeln!(page, "| `{name}` | {} | {} |", verdict(&results[0]), verdict(&results[1]));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_ok_is_said_to_be() {
        let results = ["ok a\nfailed b: line 1: Error: no", "ok a\nok b"].map(str::to_owned);
        let page = page(&results);
        assert!(page.contains("| `a` | ok | ok |") && page.contains("| `b` | **fails** | ok |"), "{page}");
    }
}
