//! `plfm-sim`: runs seeds until one fails, and says how to see that one again.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use clap::Parser;
use plfm_sim::{Coverage, Failed, KEPT, run};

/// Runs the fleet in virtual time, once for each seed
#[derive(Debug, Parser)]
#[command(name = "plfm-sim")]
struct Args {
    /// How many seeds to run, beginning at the first
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Run only this seed
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// How much to tell of what led to a failure
    #[arg(long, default_value_t = KEPT)]
    trace: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let (first, count) = args.seed.map_or((args.first, args.seeds), |seed| (seed, 1));
    let began = Instant::now();
    match all(first, count, args.trace) {
        Ok(coverage) => {
            print!("{coverage}");
            let never = coverage.never_seen();
            println!("never seen: {}", if never.is_empty() { "nothing".to_owned() } else { never.join(", ") });
            println!("{count} seeds, {:.1} a second", count as f64 / began.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(failed) => {
            eprintln!("{failed}");
            ExitCode::FAILURE
        }
    }
}

/// On every processor; of several that fail the smallest seed is told.
fn all(first: u64, count: u64, trace: usize) -> Result<Coverage, Box<Failed>> {
    let (next, covered) = (AtomicU64::new(first), Mutex::new((Coverage::default(), None::<Box<Failed>>)));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed - first >= count || covered.lock().is_ok_and(|covered| covered.1.is_some()) {
                return;
            }
            let outcome = run(seed, trace);
            let Ok(mut covered) = covered.lock() else { return };
            match outcome {
                Ok(coverage) => covered.0.add(&coverage),
                Err(failed) if covered.1.as_ref().is_none_or(|known| failed.seed < known.seed) => {
                    covered.1 = Some(failed)
                }
                Err(_) => {}
            }
        }
    };
    let processors = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..processors).for_each(|_| drop(scope.spawn(work))));
    let (coverage, failed) = covered.into_inner().expect("no run panics outside of its own net");
    failed.map_or(Ok(coverage), Err)
}
