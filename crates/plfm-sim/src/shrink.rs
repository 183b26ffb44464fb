//! From a scenario that fails to the few steps of it that do: steps are taken out, many at first, as long as it still fails, and
//! again from the beginning as long as that helps.

use crate::ctx::Minds;
use crate::scenario::Scenario;
use crate::trace::KEPT;
use crate::world::{Failed, run};

/// Runs at most; beyond it the rest is left as it is.
const RUNS_MAX: usize = 1_000;

/// The smaller scenario, and how that one fails. A failure of another sort would be another finding: it does not count.
pub fn shrink(scenario: &Scenario, failed: Box<Failed>, minds: Minds) -> (Scenario, Box<Failed>) {
    let (mut best, mut failure, mut runs) = (scenario.clone(), failed, 0);
    let mut smaller = true;
    while std::mem::take(&mut smaller) {
        let mut size = best.steps.len().div_ceil(2);
        while size > 0 && runs < RUNS_MAX {
            let mut at = 0;
            while at < best.steps.len() && runs < RUNS_MAX {
                runs += 1;
                match fails_without(&best, at, size, &failure, minds) {
                    Some((scenario, failed)) => (best, failure, smaller) = (scenario, failed, true),
                    None => at += size,
                }
            }
            size /= 2;
        }
    }
    (best, failure)
}

fn fails_without(
    scenario: &Scenario,
    at: usize,
    size: usize,
    known: &Failed,
    minds: Minds,
) -> Option<(Scenario, Box<Failed>)> {
    let mut smaller = scenario.clone();
    smaller.steps.drain(at..(at + size).min(scenario.steps.len()));
    let failed = run(&smaller, minds, KEPT).err()?;
    (sort(&failed.what) == sort(&known.what)).then_some((smaller, failed))
}

/// What is left of a complaint without its ids and numbers.
fn sort(what: &str) -> String {
    let words = what.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit() || c == '_'));
    words.take(4).collect::<Vec<_>>().join(" ")
}
