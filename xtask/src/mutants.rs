//! Whether the tests would notice: a sample of small changes to what decides, each tried alone.
//!
//! `cargo mutants` makes the changes and runs the tests of the crate that is changed, until one fails. What those do not notice is
//! tried once more with seeds of the simulation, which take longer.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::Deserialize;
use xshell::{Shell, cmd};

/// What decides, what follows from it, and what acts on it.
const FILES: &[&str] = &[
    "crates/plfm-core/src/decide.rs",
    "crates/plfm-core/src/decide/*.rs",
    "crates/plfm-core/src/evolve.rs",
    "crates/plfm-core/src/place.rs",
    "crates/plfm-core/src/place/*.rs",
    "crates/plfm-node/src/mind.rs",
    "crates/plfm-node/src/mind/*.rs",
];
/// Tests of other parts of the crates, which take long.
const UNCONCERNED: &str = "not (kind(lib) and test(/^(fair|manifest)::/))";
/// Longer than any of these tests takes; a change that makes them loop is noticed by that.
const TIMEOUT_SECONDS: &str = "60";
/// Beside the tree, not in it: it is no part of what is checked.
const OUTPUT: &str = "target/mutants";

#[derive(clap::Args)]
pub struct Args {
    /// How many changes to try
    #[arg(long, default_value_t = 200)]
    sample: usize,
    /// Which ones
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many to try at the same time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

#[derive(Deserialize)]
struct Mutant {
    name: String,
}

pub fn run(shell: &Shell, args: &Args) -> anyhow::Result<()> {
    ensure!(
        cmd!(shell, "cargo mutants --version").quiet().ignore_stderr().read().is_ok(),
        "cargo-mutants is not installed: run `cargo install cargo-mutants --locked`"
    );
    ensure!(
        cmd!(shell, "cargo nextest --version").quiet().ignore_stdout().ignore_stderr().run().is_ok(),
        "cargo-nextest is not installed: run `cargo install cargo-nextest --locked`"
    );
    let all = list(shell)?;
    let sample = sample(&all, args.sample, args.seed);
    println!("{} of {} changes, seed {}", sample.len(), all.len(), args.seed);
    let first = attempt(shell, &sample, args.jobs, None, "tests")?;
    let second = if first.missed.is_empty() {
        Outcome::default()
    } else {
        attempt(shell, &first.missed, args.jobs, Some("plfm-sim"), "seeds")?
    };
    report(&first, &second)
}

fn files() -> Vec<String> {
    FILES.iter().map(|file| format!("--file={file}")).collect()
}

fn list(shell: &Shell) -> anyhow::Result<BTreeSet<String>> {
    let files = files();
    let json = cmd!(shell, "cargo mutants --list --json {files...}").quiet().read().context("cannot list changes")?;
    let mutants: Vec<Mutant> = serde_json::from_str(&json).context("cannot read the list of changes")?;
    Ok(mutants.into_iter().map(|mutant| mutant.name).collect())
}

/// So many, the same ones for the same seed.
fn sample(all: &BTreeSet<String>, count: usize, seed: u64) -> BTreeSet<String> {
    let mut ranked: Vec<_> = all.iter().map(|name| (rank(name, seed), name)).collect();
    ranked.sort();
    ranked.into_iter().take(count).map(|(_, name)| name.clone()).collect()
}

/// FNV-1a: spreads well enough to draw by, and stays the same for ever.
fn rank(name: &str, seed: u64) -> u64 {
    let bytes = seed.to_le_bytes().into_iter().chain(name.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[derive(Debug, Default)]
struct Outcome {
    caught: BTreeSet<String>,
    missed: BTreeSet<String>,
    unviable: BTreeSet<String>,
}

/// Each change alone, with the tests of this package; of its own, if none is named.
fn attempt(
    shell: &Shell,
    mutants: &BTreeSet<String>,
    jobs: usize,
    package: Option<&str>,
    what: &str,
) -> anyhow::Result<Outcome> {
    let output = format!("{OUTPUT}/{what}");
    shell.create_dir(&output)?;
    let (files, jobs) = (files(), jobs.max(1).to_string());
    let only: Vec<_> = mutants.iter().map(|name| format!("--re=^{}$", escaped(name))).collect();
    let package: Vec<_> = package.iter().map(|package| format!("--test-package={package}")).collect();
    // Its exit code says whether something was missed; the lists say what.
    cmd!(
        shell,
        "cargo mutants {files...} {only...} {package...} --no-default-features --profile mutants --jobs {jobs}
         --test-tool nextest --timeout {TIMEOUT_SECONDS} --output {output} --no-times --colors never -- --lib --tests
         -E {UNCONCERNED}"
    )
    // That something fails is enough: how little of it would do is not asked.
    .env("PROPTEST_MAX_SHRINK_ITERS", "0")
    // Each job builds beside its own copy of the tree: in one directory for all they would wait for each other.
    .env_remove("CARGO_TARGET_DIR")
    .quiet()
    .ignore_status()
    .run()?;
    let lists = Path::new(&output).join("mutants.out");
    let read = |name: &str| -> anyhow::Result<BTreeSet<String>> {
        let text = shell.read_file(lists.join(name)).with_context(|| format!("cargo mutants left no {name}"))?;
        // A change is picked by its words, and may have a twin in another line.
        Ok(text.lines().map(str::to_owned).filter(|name| mutants.contains(name)).collect())
    };
    let caught = read("caught.txt")?.into_iter().chain(read("timeout.txt")?).collect();
    let outcome = Outcome { caught, missed: read("missed.txt")?, unviable: read("unviable.txt")? };
    let tried: BTreeSet<_> = [&outcome.caught, &outcome.missed, &outcome.unviable].into_iter().flatten().collect();
    let untried = mutants.iter().filter(|name| !tried.contains(name)).count();
    ensure!(untried == 0, "{untried} of {} changes were not tried; see {}", mutants.len(), lists.display());
    Ok(outcome)
}

fn escaped(name: &str) -> String {
    let escape = |c: char| r"\.+*?()|[]{}^$".contains(c).then_some('\\').into_iter().chain([c]);
    name.chars().flat_map(escape).collect()
}

fn report(first: &Outcome, second: &Outcome) -> anyhow::Result<()> {
    println!("caught by tests   {:>4}", first.caught.len());
    println!("caught by seeds   {:>4}", second.caught.len());
    println!("missed            {:>4}", second.missed.len());
    println!("unviable          {:>4}", first.unviable.len() + second.unviable.len());
    second.missed.iter().for_each(|name| println!("  survives: {name}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_repeats_with_its_seed() {
        let all: BTreeSet<_> = (0..1_000).map(|number| format!("src/a.rs:{number}: replace a with b")).collect();
        assert_eq!(sample(&all, 10, 1), sample(&all, 10, 1));
        assert_ne!(sample(&all, 10, 1), sample(&all, 10, 2));
        assert_eq!(sample(&all, 2_000, 1), all);
    }

    #[test]
    fn a_name_matches_only_itself() {
        assert_eq!(escaped("a.rs:1:2: replace + with -"), r"a\.rs:1:2: replace \+ with -");
    }
}
