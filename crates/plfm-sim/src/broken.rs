//! Minds broken by hand, each in one way, around the real ones: a simulation that finds nothing has to show that it can find.

use std::fmt;

use plfm_core::sequencer::desk::Rules;

use crate::ctx::{Minds, StepFn};
use crate::scenario::Scenario;
use crate::shrink::shrink;
use crate::trace::KEPT;
use crate::world::run;

mod rules;
mod steps;

/// A failure is small enough to be read with so few steps.
const STEPS_MAX: usize = 20;

/// So many of its failures are shrunk at most.
const SHRUNK_MAX: usize = 3;

pub struct Broken {
    pub name: &'static str,
    minds: fn() -> Minds,
}

macro_rules! broken {
    ($($name:literal => $minds:expr;)*) => {
        pub const BROKEN: &[Broken] = &[$(Broken { name: $name, minds: || $minds }),*];
    };
}

fn rules(rules: Rules) -> Minds {
    Minds { rules, ..Minds::default() }
}

fn step(step: StepFn) -> Minds {
    Minds { step, ..Minds::default() }
}

broken! {
    "decide: believes that every node has twice its memory" => rules(rules::DOUBLE_MEMORY);
    "decide: gives an address that was given before" => rules(rules::SAME_ADDRESS);
    "decide: a rollout takes all old instances at once" => rules(rules::ALL_AT_ONCE);
    "decide: judges nodes lost after twenty seconds" => rules(rules::HASTY);
    "decide: a new writer judges at once" => rules(rules::WITHOUT_LISTENING);
    "decide: takes no word of a node's instances" => rules(rules::DEAF);
    "decide: takes every status, possible or not" => rules(rules::CREDULOUS);
    "decide: a port goes to whoever asks last" => rules(rules::SHARED_PORT);
    "decide: leaves the deploy before unfinished" => rules(rules::UNFINISHED);
    "decide: counts no terms" => rules(rules::SAME_TERM);
    "decide: forgets nothing" => rules(rules::FORGETS_NOTHING);
    "decide: removes snapshots that forks go on from" => rules(rules::CARELESS);
    "decide: keeps snapshots that nobody wants" => rules(rules::HOARDING);
    "decide: forgets where volumes are" => rules(rules::HOMELESS);
    "decide: removes volumes that are in use" => rules(rules::WASTEFUL);
    "decide: takes degraded nodes for sound" => rules(rules::TRUSTING);
    "step: acts on what is being taken" => step(steps::meddles);
    "step: does all twice" => step(steps::twice);
    "step: never stops" => step(steps::never_stops);
    "step: never destroys" => step(steps::never_destroys);
    "step: never forgets" => step(steps::never_forgets);
    "step: stops what it should probe" => step(steps::stops_the_sound);
    "step: keeps running what should drain" => step(steps::never_drains);
    "step: obeys another log at once" => step(steps::obeys_any_log);
    "step: never adopts" => step(steps::never_adopts);
    "step: takes no plan for an empty one" => step(steps::acts_without_plan);
    "step: ignores what it does not remember" => step(steps::ignores_strays);
    "step: boots without preparing" => step(steps::boots_unprepared);
}

/// How one fared.
pub struct Found {
    name: &'static str,
    seed: Option<u64>,
    seeds: u64,
    steps: (usize, usize),
    what: String,
}

impl Found {
    pub fn is_good(&self) -> bool {
        self.seed.is_some() && self.steps.1 <= STEPS_MAX
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, seed, seeds, steps: (before, after), what } = self;
        match seed {
            None => write!(f, "{name:<55}  not found in {seeds} seeds"),
            Some(seed) => write!(f, "{name:<55}  seed {seed:>4}  {before:>3} -> {after:>2} steps  {what:.80}"),
        }
    }
}

/// Runs seeds until the broken mind shows, then shrinks. A failure that does not become small is left for the next one.
pub fn find(broken: &Broken, first: u64, seeds: u64) -> Found {
    let minds = (broken.minds)();
    let none = Found { name: broken.name, seed: None, seeds, steps: (0, 0), what: String::new() };
    let failing = |seed| {
        let scenario = Scenario::from_seed(seed);
        let failed = run(&scenario, minds, KEPT).err()?;
        let (small, failed) = shrink(&scenario, failed, minds);
        let what = failed.what.lines().collect::<Vec<_>>().join(" ");
        let steps = (scenario.steps.len(), small.steps.len());
        Some(Found { name: broken.name, seed: Some(seed), seeds, steps, what })
    };
    let mut found = Vec::new();
    for one in (first..first + seeds).filter_map(failing).take(SHRUNK_MAX) {
        found.push(one);
        if found.last().is_some_and(|found| found.steps.1 <= STEPS_MAX) {
            break;
        }
    }
    found.into_iter().min_by_key(|found| found.steps.1).unwrap_or(none)
}
