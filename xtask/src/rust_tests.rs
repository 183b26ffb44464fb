//! Runs the workspace's tests, and then says what they had to skip: a runner hides the output of tests that pass.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, ensure};
use xshell::{Cmd, Shell, cmd};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Inside the crates' own sources.
    Units,
    All,
}

/// In the target directory; `.config/nextest.toml` asks for it.
const REPORT: &str = "nextest/default/junit.xml";

/// The last line is the runner's count.
pub fn run(shell: &Shell, scope: Scope) -> anyhow::Result<()> {
    let built = crate::target_dir(shell);
    let _guest = shell.push_env("PLFM_GUEST", built.join("plfm-init"));
    let _kernel = shell.push_env("PLFM_KERNEL", built.join("kernel"));
    let targets: &[&str] = if scope == Scope::All { &["--tests"] } else { &["--lib", "--bins"] };
    if cmd!(shell, "cargo nextest --version").quiet().ignore_stdout().ignore_stderr().run().is_err() {
        return cmd!(shell, "cargo test --workspace {targets...}").run().context("tests fail");
    }
    let summary = summary_of(cmd!(shell, "cargo nextest run --workspace --no-fail-fast {targets...}"))?;
    skipped(&shell.read_file(built.join(REPORT))?).for_each(|line| eprintln!("{line}"));
    eprintln!("{summary}");
    Ok(())
}

/// Passes the runner's words on and keeps the line with the counts.
fn summary_of(runner: Cmd) -> anyhow::Result<String> {
    eprintln!("$ {runner}");
    let mut child = std::process::Command::from(runner).stderr(Stdio::piped()).spawn()?;
    let words = BufReader::new(child.stderr.take().context("the runner has no output")?);
    let mut summary = None;
    for line in words.lines() {
        let line = line?;
        eprintln!("{line}");
        summary = Some(line).filter(|line| line.trim_start().starts_with("Summary")).or(summary);
    }
    ensure!(child.wait()?.success(), "tests fail");
    summary.context("the runner gave no count")
}

/// The lines by which tests say that they skip a part: `skipped: TEST: REASON`.
fn skipped(report: &str) -> impl Iterator<Item = String> {
    let said = report.lines().filter_map(|line| line.find("skipped: ").map(|at| &line[at..]));
    said.map(|line| line.split('<').next().unwrap_or(line)).map(unescaped)
}

fn unescaped(xml: &str) -> String {
    xml.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tests_skip_is_found_in_the_report() {
        let report =
            "<system-out>running 1 test</system-out>\n<system-err>skipped: boots: needs root &amp; qemu</system-err>\n";
        assert_eq!(skipped(report).collect::<Vec<_>>(), ["skipped: boots: needs root & qemu"]);
    }
}
