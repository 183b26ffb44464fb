use serde::Deserialize;

use super::coverage::{Coverage, Sort};
use super::scenario::{Fault, Glitch, NODES, Operation, Policy, Process, Step, Temper, What};
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

/// A node's own crash is tried at each action, when it has begun and when it is done: whatever is left of it is found again, or goes.
#[test]
fn a_node_may_crash_at_every_action() {
    let mut coverage = Coverage::default();
    for glitch in [Glitch::CrashUnwritten, Glitch::CrashUnheard] {
        for at_ms in (2_500..62_000).step_by(350) {
            let crashes = (0..NODES).map(|node| Step { at_ms, what: What::Fails(Fault::Next { node, glitch }) });
            let steps = a_bit_of_all().into_iter().chain(crashes).collect();
            let scenario = Scenario { seed: at_ms, steps };
            match run(&scenario, Minds::default(), KEPT) {
                Ok(passed) => coverage.add(&passed.coverage),
                Err(failed) => panic!("{glitch:?} at {at_ms} ms: {failed}"),
            }
        }
    }
    assert_eq!(coverage.without_crash(Sort::CrashBefore), ["forget"], "there is nothing to crash in");
    assert_eq!(coverage.without_crash(Sort::CrashAfter), ["forget"]);
}

/// Every action of a node within a minute.
fn a_bit_of_all() -> Vec<Step> {
    use Operation::*;
    let web = Process {
        temper: Temper::Serves,
        replicas: 3,
        memory_mib: 128,
        disk_gib: 1,
        policy: Policy::Always,
        backoff_seconds: 1,
        port: true,
        health: true,
        volume: false,
    };
    let asks = [
        (1_000, CreateTemplate { memory_mib: 128, arm: false }),
        (2_000, CreateSandbox { timeout_seconds: 80, urgent: false, goes_on: false }),
        (2_500, Deploy { app: 0, prod: false, web, worker: None, arm: false, expose: None, worker_has_volume: false }),
        (10_000, PauseSandbox { which: 0 }),
        (18_000, ResumeSandbox { which: 0, timeout_seconds: 80 }),
        (26_000, ForkSandbox { which: 0, count: 2, timeout_seconds: 60 }),
        (34_000, SnapshotSandbox { which: 0, named: true }),
        (40_000, Scale { app: 0, prod: false, replicas: 1 }),
        (46_000, KillSandbox { which: 0 }),
        (52_000, ReleaseSnapshot { which: 0 }),
    ];
    let crash =
        Step { at_ms: 30_000, what: What::Fails(Fault::NodeCrashes { node: 0, down_ms: 1_000, forgets: false }) };
    let asks = asks.map(|(at_ms, asks)| Step { at_ms, what: What::Asks(asks) });
    asks.into_iter().chain([crash]).collect()
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
