//! `plfm-sim`: runs seeds until one fails, shrinks that one, and says how to see it again.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use plfm_sim::{Coverage, KEPT, Minds, Scenario, run, shrink};

/// Runs of fewer seeds may leave out what is rare.
const COVERED_BY: u64 = 1_000;

/// Runs the fleet in virtual time, once for each seed
#[derive(Debug, Parser)]
#[command(name = "plfm-sim")]
struct Args {
    /// How many seeds to run, beginning at the first
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many threads run seeds
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// How much to tell of what led to a failure
    #[arg(long, default_value_t = KEPT)]
    trace: usize,
    /// Say how often everything was seen
    #[arg(long)]
    coverage: bool,
    /// See whether each of the broken minds is found
    #[cfg(feature = "broken")]
    #[arg(long)]
    broken: bool,
}

#[derive(Default)]
struct Sum {
    coverage: Coverage,
    lasted: Duration,
    failed: Option<u64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    std::panic::set_hook(Box::new(|_| {}));
    #[cfg(feature = "broken")]
    if args.broken {
        return broken(&args);
    }
    let began = Instant::now();
    let sum = all(&args);
    match sum.failed {
        Some(seed) => tell(seed, args.trace),
        None => summary(&args, &sum, began.elapsed()),
    }
}

/// Of several that fail the smallest seed is told.
fn all(args: &Args) -> Sum {
    let (next, sum) = (AtomicU64::new(args.seed), Mutex::new(Sum::default()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed - args.seed >= args.seeds || sum.lock().is_ok_and(|sum| sum.failed.is_some()) {
                return;
            }
            let outcome = run(&Scenario::from_seed(seed), Minds::default(), args.trace);
            let Ok(mut sum) = sum.lock() else { return };
            match outcome {
                Ok(passed) => {
                    sum.coverage.add(&passed.coverage);
                    sum.lasted += passed.lasted;
                }
                Err(_) => sum.failed = Some(sum.failed.map_or(seed, |known| known.min(seed))),
            }
        }
    };
    thread::scope(|scope| (0..args.threads.max(1)).for_each(|_| drop(scope.spawn(work))));
    sum.into_inner().expect("no run panics outside of its own net")
}

fn summary(args: &Args, sum: &Sum, took: Duration) -> ExitCode {
    if args.coverage {
        print!("{}", sum.coverage);
    }
    let never = sum.coverage.never_seen();
    println!("never seen: {}", if never.is_empty() { "nothing".to_owned() } else { never.join(", ") });
    let (seconds, hours) = (took.as_secs_f64(), sum.lasted.as_secs_f64() / 3_600.0);
    println!(
        "{} seeds, {:.1} a second; {:.1} simulated hours a minute",
        args.seeds,
        args.seeds as f64 / seconds,
        hours * 60.0 / seconds
    );
    if never.is_empty() || args.seeds < COVERED_BY { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(seed: u64, trace: usize) -> ExitCode {
    let scenario = Scenario::from_seed(seed);
    let Err(failed) = run(&scenario, Minds::default(), trace) else {
        eprintln!("seed {seed} failed, and does not again: something in it is not from the seed");
        return ExitCode::FAILURE;
    };
    eprintln!("seed {seed}, {failed}");
    let (small, failed) = shrink(&scenario, failed, Minds::default());
    eprintln!("shrunk from {} steps to {}:\n{small}", scenario.steps.len(), small.steps.len());
    eprintln!("{failed}");
    eprintln!("again: cargo xtask sim --seeds 1 --seed {seed}");
    eprintln!("to keep it, add to crates/plfm-sim/regressions.jsonl:");
    eprintln!("{{\"found\":\"…\",\"scenario\":{}}}", serde_json::to_string(&small).unwrap_or_default());
    ExitCode::FAILURE
}

#[cfg(feature = "broken")]
fn broken(args: &Args) -> ExitCode {
    use plfm_sim::broken::{BROKEN, find};
    let next = AtomicU64::new(0);
    let found = Mutex::new(Vec::new());
    let work = || {
        while let Some(broken) = BROKEN.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            let line = find(broken, args.seed, args.seeds);
            println!("{line}");
            found.lock().expect("nobody panics with it").push(line.is_good());
        }
    };
    thread::scope(|scope| (0..args.threads.max(1)).for_each(|_| drop(scope.spawn(work))));
    let found = found.into_inner().expect("nobody panics with it");
    let good = found.iter().filter(|good| **good).count();
    println!("{good} of {} broken minds are found and shrunk", found.len());
    if good == BROKEN.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
