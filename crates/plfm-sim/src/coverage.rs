//! What the runs have seen at least once. A kind that never occurs is not tested, whatever the seeds say.

use std::collections::BTreeMap;
use std::fmt;

use plfm_core::command::Command;
use plfm_core::event::Event;
use plfm_node::mind::{Action, Outcome};

use crate::scenario::{Append, Fault, Glitch};

#[derive(Debug, Clone)]
pub struct Coverage(BTreeMap<(Sort, &'static str), u64>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    Command,
    Event,
    Action,
    Outcome,
    Fault,
    /// The node crashed when it had begun an action, and had not written that down.
    CrashBefore,
    /// When the action was done, and it had not heard of it.
    CrashAfter,
}

macro_rules! names {
    ($name:ident, $all:ident, $of:ty { $($variant:pat => $text:literal,)* }) => {
        const $all: &[&str] = &[$($text),*];

        fn $name(of: &$of) -> &'static str {
            match of { $($variant => $text),* }
        }
    };
}

names! { command, COMMANDS, Command {
    Command::Bootstrap { .. } => "bootstrap",
    Command::StartLog => "start log",
    Command::StartWriter => "start writer",
    Command::CreateToken { .. } => "create token",
    Command::RevokeToken { .. } => "revoke token",
    Command::CreateJoinToken { .. } => "create join token",
    Command::JoinNode { .. } => "join node",
    Command::Deploy(_) => "deploy",
    Command::DeleteRoute { .. } => "delete route",
    Command::CreateTemplate(_) => "create template",
    Command::CreateSandbox(_) => "create sandbox",
    Command::SetSandboxTimeout { .. } => "set sandbox timeout",
    Command::KillSandbox { .. } => "kill sandbox",
    Command::PauseSandbox { .. } => "pause sandbox",
    Command::ResumeSandbox { .. } => "resume sandbox",
    Command::SnapshotSandbox { .. } => "snapshot sandbox",
    Command::ReleaseSnapshot { .. } => "release snapshot",
    Command::ForkSandbox(_) => "fork sandbox",
    Command::SetLimits { .. } => "set limits",
    Command::SetOrgWeight { .. } => "set org weight",
    Command::SetProjectWeight { .. } => "set project weight",
    Command::SetOrgConstraints { .. } => "set org constraints",
    Command::SetEnvConstraints { .. } => "set env constraints",
    Command::SetEnvClass { .. } => "set env class",
    Command::Rollback { .. } => "rollback",
    Command::DeleteVolume { .. } => "delete volume",
    Command::OrderNode { .. } => "order node",
    Command::ForceReschedule => "force reschedule",
    Command::SetRescheduling { .. } => "set rescheduling",
    Command::Observe { .. } => "observe",
    Command::SetNodePhase { .. } => "set node phase",
    Command::Allocate { .. } => "allocate",
    Command::NoteWaiting { .. } => "note waiting",
    Command::SetDesired { .. } => "set desired",
    Command::SetDeployStatus { .. } => "set deploy status",
    Command::Forget { .. } => "forget",
}}

names! { action, ACTIONS, Action {
    Action::Prepare(_) => "prepare",
    Action::Boot(_) => "boot",
    Action::Adopt(..) => "adopt",
    Action::Probe(_) => "probe",
    Action::Pause(..) => "pause",
    Action::Resume(..) => "resume",
    Action::Take { .. } => "take",
    Action::Stop { .. } => "stop",
    Action::Destroy(_) => "destroy",
    Action::Forget(_) => "forget",
}}

names! { outcome, OUTCOMES, Outcome {
    Outcome::Prepared { .. } => "prepared",
    Outcome::Started { .. } => "started",
    Outcome::Adopted { .. } => "adopted",
    Outcome::Paused => "paused",
    Outcome::Resumed { .. } => "resumed",
    Outcome::Taken => "taken",
    Outcome::Failed(_) => "failed",
    Outcome::Probed { healthy: true, .. } => "probed healthy",
    Outcome::Probed { .. } => "probed sick",
    Outcome::Ended { .. } => "ended",
    Outcome::Stopped { .. } => "stopped",
    Outcome::Destroyed => "destroyed",
}}

names! { glitch, GLITCHES, Glitch {
    Glitch::ReportLost => "report lost",
    Glitch::ReportDoubled => "report doubled",
    Glitch::ReportLate => "report late",
    Glitch::PlanBroken => "plan stream broken",
    Glitch::PlanDoubled => "plan message doubled",
    Glitch::PlanLate => "plan message late",
    Glitch::PullSlow => "pull slow",
    Glitch::PullFails => "pull fails",
    Glitch::DiskFull => "disk full",
    Glitch::NoMachine => "no machine",
    Glitch::BootFails => "boot fails",
    Glitch::AdoptFails => "adopt fails",
    Glitch::ProbeFails => "probe fails",
    Glitch::PauseFails => "pause fails",
    Glitch::ResumeFails => "resume fails",
    Glitch::TakeFails => "take fails",
    Glitch::StopFails => "stop fails",
    Glitch::DestroyFails => "destroy fails",
    Glitch::CrashInBoot => "node crashed with a machine starting",
    Glitch::CrashUnwritten => "node crashed before it wrote down what it began",
    Glitch::CrashUnheard => "node crashed before it wrote down what it did",
}}

names! { append, APPENDS, Append {
    Append::Full => "append failed",
    Append::Unheard => "append unheard",
    Append::CrashAfter => "writer crashed between store and publish",
}}

names! { fault, FAULTS, Fault {
    Fault::NodeCrashes { forgets: true, .. } => "node forgot everything",
    Fault::NodeCrashes { .. } => "node crashed",
    Fault::NodeCut { .. } => "node cut off",
    Fault::NodeShrinks { .. } => "node shrinks",
    Fault::NodeDiskFills { .. } => "node's disk fills",
    Fault::NodeDiskEmpties { .. } => "node's disk empties",
    Fault::NodeClock { .. } => "node clock",
    Fault::WorkloadEnds { .. } => "workload ends",
    Fault::WorkloadSick { .. } => "workload sick",
    Fault::Next { .. } => "glitch to come",
    Fault::ServerCrashes { .. } => "server crashed",
    Fault::ServerPauses { .. } => "server paused",
    Fault::ServerCut { .. } => "server cut off",
    Fault::ServerClock { .. } => "server clock",
    Fault::Append { .. } => "append glitch to come",
    Fault::LogCrashes { .. } => "log crashed",
    Fault::Restore { .. } => "restored from a backup",
    Fault::EdgeCut { .. } => "edge cut off",
}}

/// What follows from faults, and has to have followed.
const CONSEQUENCES: &[&str] = &[
    "fail-over",
    "overtaken by another writer",
    "what was said to have failed was stored",
    "un-synced append lost",
    "foreign log adopted",
    "request routed",
];

impl Default for Coverage {
    fn default() -> Self {
        let all = [
            (Sort::Command, COMMANDS),
            (Sort::Event, Event::KINDS),
            (Sort::Action, ACTIONS),
            (Sort::Outcome, OUTCOMES),
            (Sort::Fault, FAULTS),
            (Sort::Fault, GLITCHES),
            (Sort::Fault, APPENDS),
            (Sort::Fault, CONSEQUENCES),
        ];
        Self(all.into_iter().flat_map(|(sort, names)| names.iter().map(move |name| ((sort, *name), 0))).collect())
    }
}

impl Coverage {
    pub fn command(&mut self, of: &Command) {
        self.count(Sort::Command, command(of));
    }

    pub fn event(&mut self, event: &Event) {
        self.count(Sort::Event, event.kind());
    }

    pub fn action(&mut self, of: &Action) {
        self.count(Sort::Action, action(of));
    }

    pub fn outcome(&mut self, of: &Outcome) {
        self.count(Sort::Outcome, outcome(of));
    }

    pub fn fault(&mut self, of: &Fault) {
        self.count(Sort::Fault, fault(of));
    }

    pub fn glitch(&mut self, of: &Glitch) {
        self.count(Sort::Fault, glitch(of));
    }

    /// A node crashed at an action; not every run of many seeds sees all of them.
    pub fn crash(&mut self, sort: Sort, of: &Action) {
        self.count(sort, action(of));
    }

    /// Actions at which no node crashed so.
    pub fn without_crash(&self, sort: Sort) -> Vec<&'static str> {
        ACTIONS.iter().copied().filter(|name| !self.0.contains_key(&(sort, name))).collect()
    }

    pub fn append(&mut self, of: &Append) {
        self.count(Sort::Fault, append(of));
    }

    pub fn consequence(&mut self, name: &'static str) {
        debug_assert!(CONSEQUENCES.contains(&name));
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
