//! How much of a fleet's life one machine simulates: the same seeds, by turns of a few, on two threads.

use std::thread;
use std::time::{Duration, Instant};

use plfm_sim::{KEPT, Minds, Scenario, run};

const ROUNDS: u64 = 8;
const SEEDS_EACH: u64 = 20;
const THREADS: u64 = 2;

fn main() {
    let (mut seeds, mut hours) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let begun = Instant::now();
        let lasted = simulated(round * SEEDS_EACH);
        let took = begun.elapsed().as_secs_f64();
        seeds.push(SEEDS_EACH as f64 / took);
        hours.push(lasted.as_secs_f64() / 3_600.0 * 60.0 / took);
    }
    for (name, unit, samples) in [("sim.seeds", "/s", seeds), ("sim.hours", "h/min", hours)] {
        println!("{{\"name\":\"{name}\",\"unit\":\"{unit}\",\"better\":\"higher\",\"samples\":{samples:?}}}");
    }
}

/// The virtual time in which so many seeds came to their ends.
fn simulated(first: u64) -> Duration {
    let all = |thread| {
        let seeds = (first + thread..first + SEEDS_EACH).step_by(THREADS as usize);
        seeds
            .map(|seed| run(&Scenario::from_seed(seed), Minds::default(), KEPT).map_or(Duration::ZERO, |it| it.lasted))
            .sum()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || -> Duration { all(thread) })).collect();
        threads.into_iter().map(|thread| thread.join().expect("a run has a net of its own")).sum()
    })
}
