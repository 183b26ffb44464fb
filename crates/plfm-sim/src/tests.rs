use super::{KEPT, run};

/// Seeds that once found something. What a seed does changes with the simulation; what it found is told beside it.
const FOUND: &[(u64, &str)] = &[];

#[test]
fn fifty_seeds_settle() {
    for seed in 1..=50 {
        if let Err(failed) = run(seed, KEPT) {
            panic!("{failed}");
        }
    }
}

#[test]
fn what_was_found_stays_mended() {
    for (seed, what) in FOUND {
        if let Err(failed) = run(*seed, KEPT) {
            panic!("{what}: {failed}");
        }
    }
}
