//! What is physically on a node: machines and directories. They outlive the process that made them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use plfm_api::documents::Workload;
use plfm_core::ids::{BootId, InstanceId};
use plfm_core::units::{Mebibytes, Timestamp};
use plfm_node::mind::Observed;

#[derive(Debug)]
pub struct Host {
    pub memory: Mebibytes,
    pub machines: BTreeMap<InstanceId, Machine>,
    pub directories: BTreeSet<InstanceId>,
}

/// A machine that runs.
#[derive(Debug, Clone)]
pub struct Machine {
    pub boot: BootId,
    pub memory: Mebibytes,
    /// Answers probes from here on; never, before it is configured.
    pub sound_from: Option<Timestamp>,
    /// And not during this.
    pub sick: Option<(Timestamp, Timestamp)>,
}

/// How a workload behaves; its command says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temper {
    Serves,
    NeverAnswers,
    Crashes,
    EndsWell,
    CannotStart,
}

impl Temper {
    pub const BAD: &[Self] = &[Self::NeverAnswers, Self::Crashes, Self::EndsWell, Self::CannotStart];

    pub const fn command(self) -> &'static str {
        match self {
            Self::Serves => "serve",
            Self::NeverAnswers => "hang",
            Self::Crashes => "crash",
            Self::EndsWell => "end",
            Self::CannotStart => "missing",
        }
    }

    pub fn of(workload: &Workload) -> Self {
        let command = workload.command.as_ref().and_then(|command| command.first());
        let same = |temper: &&Self| command.is_some_and(|command| command == temper.command());
        Self::BAD.iter().find(same).copied().unwrap_or(Self::Serves)
    }
}

impl Host {
    pub fn new(memory: Mebibytes) -> Self {
        Self { memory, machines: BTreeMap::new(), directories: BTreeSet::new() }
    }

    pub fn observed(&self) -> Observed {
        let mut observed: Observed = self.directories.iter().map(|id| (*id, None)).collect();
        observed.extend(self.machines.iter().map(|(id, machine)| (*id, Some(machine.boot))));
        observed
    }

    pub fn runs(&self, id: InstanceId, boot: BootId) -> bool {
        self.machines.get(&id).is_some_and(|machine| machine.boot == boot)
    }

    pub fn used(&self) -> Mebibytes {
        self.machines.values().map(|machine| machine.memory).sum()
    }
}

impl Machine {
    pub fn new(boot: BootId, workload: &Workload) -> Self {
        let resources = &workload.resources;
        Self { boot, memory: resources.memory + resources.overhead, sound_from: None, sick: None }
    }

    pub fn is_sound(&self, now: Timestamp) -> bool {
        let sick = self.sick.is_some_and(|(from, until)| (from..until).contains(&now));
        !sick && self.sound_from.is_some_and(|from| now >= from)
    }

    pub fn falls_sick(&mut self, after: Duration, lasts: Duration) {
        let from = self.sound_from.unwrap_or_default() + after;
        self.sick = Some((from, from + lasts));
    }
}
