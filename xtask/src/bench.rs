//! `cargo xtask bench`: measures ours and its peer in one run and prints a row for each; nothing here passes or fails by a time.
//!
//! The benches in `crates/*/benches` are dumb: each prints its raw samples, one JSON object a line ([`Samples`]), and says on standard
//! error what it had to skip. What samples mean is worked out here, once ([`Row`]).

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, ensure};
use clap::builder::PossibleValuesParser;
use xshell::{Shell, cmd};

use crate::{build, setup, target_dir};

mod calibration;
mod machine;
mod row;
mod table;

use row::{Row, Samples};

/// Rows that begin with the name, and what prints them.
struct Bench {
    name: &'static str,
    package: &'static str,
    /// Of the package. One that prints rows of several names is told which.
    target: &'static str,
    /// It starts machines.
    needs_guest: bool,
}

const BENCHES: &[Bench] = &[
    Bench { name: "boot", package: "plfm-runtime", target: "machines", needs_guest: true },
    Bench { name: "restore", package: "plfm-runtime", target: "machines", needs_guest: true },
    Bench { name: "density", package: "plfm-runtime", target: "machines", needs_guest: true },
    Bench { name: "fork", package: "plfm-runtime", target: "machines", needs_guest: true },
    Bench { name: "pause", package: "plfm-runtime", target: "machines", needs_guest: true },
    Bench { name: "resume", package: "plfm-runtime", target: "machines", needs_guest: true },
    Bench { name: "log", package: "plfm-server", target: "log", needs_guest: false },
    Bench { name: "image", package: "plfm-image", target: "image", needs_guest: false },
    Bench { name: "idle", package: "plfm", target: "idle", needs_guest: true },
    Bench { name: "placement", package: "plfm-core", target: "mind", needs_guest: false },
    Bench { name: "decide", package: "plfm-core", target: "mind", needs_guest: false },
    Bench { name: "reconcile", package: "plfm-core", target: "mind", needs_guest: false },
    Bench { name: "sim", package: "plfm-sim", target: "sim", needs_guest: false },
];

#[derive(clap::Args)]
pub struct Args {
    /// Only the rows that begin with this [default: all]
    #[arg(value_parser = PossibleValuesParser::new(BENCHES.iter().map(|bench| bench.name)))]
    name: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub fn run(shell: &Shell, args: &Args) -> anyhow::Result<()> {
    let chosen: Vec<_> =
        BENCHES.iter().filter(|bench| args.name.as_deref().is_none_or(|it| it == bench.name)).collect();
    // All of it before anything is measured: a compiler beside it would be measured too.
    chosen.iter().try_for_each(|bench| bench.build(shell))?;
    let machine = machine::describe()?;
    let mut rows = Vec::new();
    let mut take = |samples: Samples| {
        let row = Row::of(&samples, &machine)?;
        if args.json {
            println!("{}", serde_json::to_string(&row)?);
        }
        rows.push(row);
        anyhow::Ok(())
    };
    calibration::measure(&target_dir(shell))?.into_iter().try_for_each(&mut take)?;
    // One that fails does not take what the others have measured with it.
    let ran = chosen.iter().map(|bench| bench.run(shell, &mut take)).collect::<Vec<_>>();
    if !args.json {
        print!("{machine}\n\n{}", table::of(&rows));
    }
    ran.into_iter().collect()
}

impl Bench {
    fn build(&self, shell: &Shell) -> anyhow::Result<()> {
        if self.needs_guest {
            build::guest(shell).context("cannot build the guest daemon")?;
        }
        let Self { package, target, .. } = self;
        cmd!(shell, "cargo bench --quiet --package {package} --bench {target} --no-run").run()?;
        Ok(())
    }

    fn run(&self, shell: &Shell, take: &mut impl FnMut(Samples) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let (Self { name, package, target, .. }, built) = (self, target_dir(shell));
        let run = cmd!(shell, "cargo bench --quiet --package {package} --bench {target} -- {name}");
        let run = run.env("PLFM_GUEST", built.join("plfm-init")).env("PLFM_KERNEL", setup::kernel_dir(shell));
        eprintln!("$ {run}");
        let mut child = std::process::Command::from(run).stdout(Stdio::piped()).spawn()?;
        for line in BufReader::new(child.stdout.take().context("the bench has no output")?).lines() {
            let line = line?;
            take(serde_json::from_str(&line).with_context(|| format!("the bench said {line:?}"))?)?;
        }
        ensure!(child.wait()?.success(), "the bench `{name}` failed");
        Ok(())
    }
}
