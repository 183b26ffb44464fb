use serde::Deserialize;

use super::{KEPT, Minds, Scenario, run};

/// Scenarios that once found something, shrunk, each with what it found.
const REGRESSIONS: &str = include_str!("../regressions.jsonl");

#[derive(Deserialize)]
struct Regression {
    found: String,
    scenario: Scenario,
}

#[test]
fn thirty_seeds_settle() {
    for seed in 1..=30 {
        if let Err(failed) = run(&Scenario::from_seed(seed), Minds::default(), KEPT) {
            panic!("seed {seed}, {failed}");
        }
    }
}

#[test]
fn what_was_found_stays_mended() {
    for line in REGRESSIONS.lines() {
        let Regression { found, scenario } = serde_json::from_str(line).unwrap();
        if let Err(failed) = run(&scenario, Minds::default(), KEPT) {
            panic!("{found}: {failed}");
        }
    }
}

#[test]
fn a_run_repeats() {
    let scenario = Scenario::from_seed(7);
    let run = || run(&scenario, Minds::default(), KEPT).map(|passed| passed.coverage.to_string()).unwrap();
    assert_eq!(run(), run());
}

#[test]
fn a_scenario_is_kept_as_text() {
    let scenario = Scenario::from_seed(3);
    let text = serde_json::to_string(&scenario).unwrap();
    assert_eq!(serde_json::from_str::<Scenario>(&text).unwrap(), scenario);
}
