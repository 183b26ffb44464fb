//! House rules that no other tool knows, over every file of the tree, committed or not.
//!
//! A rule is here because it holds; it is tightened when the tree has come to hold more.

use std::fmt;

use anyhow::{Context, ensure};
use xshell::{Shell, cmd};

mod layers;
mod rules;

/// A place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// From 1; 0 is the file as such.
    line: usize,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

pub fn run(shell: &Shell) -> anyhow::Result<()> {
    let mut findings = layers::check(&cmd!(shell, "cargo metadata --no-deps --format-version 1").quiet().read()?)?;
    for path in files(shell)? {
        let bytes = shell.read_binary_file(&path).with_context(|| format!("cannot read {path}"))?;
        let text = String::from_utf8_lossy(&bytes);
        findings.extend(rules::check(&path, &text));
    }
    findings.iter().for_each(|finding| eprintln!("{finding}"));
    ensure!(findings.is_empty(), "{} places break the house rules", findings.len());
    Ok(())
}

/// What git has or would take, less what is deleted.
fn files(shell: &Shell) -> anyhow::Result<Vec<String>> {
    let listed = cmd!(shell, "git ls-files --cached --others --exclude-standard").quiet().read()?;
    Ok(listed.lines().filter(|path| shell.path_exists(path)).map(str::to_owned).collect())
}
