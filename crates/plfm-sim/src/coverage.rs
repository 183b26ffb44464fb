//! What the runs have seen at least once. A kind that never occurs is not tested, whatever the seeds say.

use std::collections::BTreeMap;
use std::fmt;

use plfm_core::event::Event;
use plfm_node::mind::{Action, Outcome};

#[derive(Debug, Clone)]
pub struct Coverage(BTreeMap<(Sort, &'static str), u64>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    Event,
    Action,
    Outcome,
    Fault,
}

macro_rules! names {
    ($name:ident, $all:ident, $of:ty { $($variant:pat => $text:literal,)* }) => {
        const $all: &[&str] = &[$($text),*];

        fn $name(of: &$of) -> &'static str {
            match of { $($variant => $text),* }
        }
    };
}

names! { action, ACTIONS, Action {
    Action::Prepare(_) => "prepare",
    Action::Boot(_) => "boot",
    Action::Adopt(..) => "adopt",
    Action::Probe(_) => "probe",
    Action::Stop { .. } => "stop",
    Action::Destroy(_) => "destroy",
    Action::Forget(_) => "forget",
}}

names! { outcome, OUTCOMES, Outcome {
    Outcome::Prepared => "prepared",
    Outcome::Started { .. } => "started",
    Outcome::Adopted { .. } => "adopted",
    Outcome::Failed(_) => "failed",
    Outcome::Probed { healthy: true, .. } => "probed healthy",
    Outcome::Probed { .. } => "probed sick",
    Outcome::Ended { .. } => "ended",
    Outcome::Stopped { .. } => "stopped",
    Outcome::Destroyed => "destroyed",
}}

/// What the world does to the fleet.
pub const FAULTS: &[&str] = &[
    "writer crashed",
    "writer crashed between store and publish",
    "append failed",
    "node crashed",
    "node crashed with a machine starting",
    "node crashed before it wrote down what it began",
    "node forgot everything",
    "partition",
    "report lost",
    "report doubled",
    "plan stream broken",
    "plan message doubled",
];

impl Default for Coverage {
    fn default() -> Self {
        let all =
            [(Sort::Event, Event::KINDS), (Sort::Action, ACTIONS), (Sort::Outcome, OUTCOMES), (Sort::Fault, FAULTS)];
        Self(all.into_iter().flat_map(|(sort, names)| names.iter().map(move |name| ((sort, *name), 0))).collect())
    }
}

impl Coverage {
    pub fn event(&mut self, event: &Event) {
        self.count(Sort::Event, event.kind());
    }

    pub fn action(&mut self, of: &Action) {
        self.count(Sort::Action, action(of));
    }

    pub fn outcome(&mut self, of: &Outcome) {
        self.count(Sort::Outcome, outcome(of));
    }

    pub fn fault(&mut self, name: &'static str) {
        self.count(Sort::Fault, name);
    }

    fn count(&mut self, sort: Sort, name: &'static str) {
        *self.0.entry((sort, name)).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(*what).or_default() += count;
        }
    }

    pub fn never_seen(&self) -> Vec<String> {
        let never = self.0.iter().filter(|(_, count)| **count == 0);
        never.map(|((sort, name), _)| format!("{sort:?} {name}")).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|((sort, name), count)| writeln!(f, "{count:>10}  {sort:?} {name}"))
    }
}
