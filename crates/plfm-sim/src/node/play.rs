//! What comes of a node's actions: played, with the time it takes and what goes wrong.

use std::time::Duration;

use plfm_core::event::{Start, StartWay};
use plfm_core::ids::{BootId, InstanceId};
use plfm_core::reason::{Failure, Reason};
use plfm_node::mind::{Action, Outcome, volumes};

use super::Node;
use crate::coverage::Sort;
use crate::ctx::{Ctx, Happening};
use crate::host::Machine;
use crate::scenario::{Glitch, Temper};
use crate::trace::Note;

impl Node {
    pub(super) fn executes(&mut self, ctx: &mut Ctx, action: Action) {
        let (node, id) = (self.index, action.instance());
        let slots = self.mind.iter().flat_map(|mind| mind.local.slots.values());
        let taken = slots.filter_map(|slot| match &slot.doing {
            Some(Action::Take { of, .. }) => Some(*of),
            _ => None,
        });
        let taken = taken.filter(|of| *of == id).count();
        ctx.expect(taken == 0, || format!("node {node} begins {action:?} while {id} is being taken"));
        if let Action::Take { of, .. } = &action {
            let slots = self.mind.iter().flat_map(|mind| mind.local.slots.values());
            let twice =
                slots.filter(|slot| matches!(&slot.doing, Some(Action::Take { of: it, .. }) if it == of)).count();
            ctx.expect(twice <= 1, || format!("node {node} takes {of} twice at once"));
        }
        let (wait, glitch) = match &action {
            Action::Prepare(id) => {
                self.host.directories.insert(*id);
                if !self.attaches(ctx, *id) {
                    let wait = ctx.ms(5..50);
                    return self.finishes_after(ctx, wait, action, true);
                }
                let slow = ctx.glitch(node, Glitch::PullSlow);
                (if slow { ctx.ms(20_000..90_000) } else { ctx.ms(20..3_000) }, Glitch::PullFails)
            }
            Action::Boot(id) => return self.boots(ctx, *id),
            Action::Adopt(..) => (ctx.ms(5..500), Glitch::AdoptFails),
            Action::Probe(_) => (ctx.ms(1..50), Glitch::ProbeFails),
            Action::Pause(..) => (ctx.ms(50..3_000), Glitch::PauseFails),
            Action::Resume(..) => (ctx.ms(50..2_000), Glitch::ResumeFails),
            Action::Take { .. } => (ctx.ms(50..2_000), Glitch::TakeFails),
            Action::Stop { grace, .. } => (ctx.ms(5..100 + grace.as_millis() as u64), Glitch::StopFails),
            Action::Destroy(_) | Action::Forget(_) => (ctx.ms(5..500), Glitch::DestroyFails),
        };
        let fails = ctx.glitch(node, glitch);
        self.finishes_after(ctx, wait, action, fails);
    }

    /// Whether its volumes are there, made if they may be.
    fn attaches(&mut self, ctx: &mut Ctx, id: InstanceId) -> bool {
        let Some(mind) = &self.mind else { return false };
        let to_make = volumes::to_make(&mind.local, &mind.plan);
        let slot = mind.local.slots.get(&id).expect("what is prepared is remembered");
        let mounts = slot.workload.mounts.clone();
        mounts.iter().all(|mount| {
            if to_make.contains_key(&mount.volume) {
                self.host.makes(ctx, self.index, mount.volume);
            }
            self.host.volumes.contains(&mount.volume)
        })
    }

    fn boots(&mut self, ctx: &mut Ctx, id: InstanceId) {
        let appears = ctx.ms(10..200);
        let slot = self.mind.as_ref().and_then(|mind| mind.local.slots.get(&id)).expect("what boots is remembered");
        let from = slot.workload.from().map(|from| from.snapshot);
        if ctx.glitch(self.index, Glitch::NoMachine) || from.is_some_and(|from| !self.host.snapshots.contains(&from)) {
            return self.finishes_after(ctx, appears, Action::Boot(id), true);
        }
        let machine = Box::new(Machine::new(ctx.boot(), &slot.workload));
        ctx.after(appears, Happening::MachineAppears { node: self.index, life: self.life, id, machine });
        if ctx.glitch(self.index, Glitch::CrashInBoot) {
            ctx.after(appears / 2, Happening::NodeStumbles(self.index));
        }
        let answers = appears + ctx.ms(50..1_500);
        let fails = ctx.glitch(self.index, Glitch::BootFails);
        self.finishes_after(ctx, answers, Action::Boot(id), fails);
    }

    fn finishes_after(&self, ctx: &mut Ctx, wait: Duration, action: Action, fails: bool) {
        ctx.after(wait, Happening::Finishes { node: self.index, life: self.life, action, fails });
    }

    /// The machine monitor runs; whoever started it may have crashed in the same moment.
    pub fn machine_appears(&mut self, ctx: &mut Ctx, life: u64, id: InstanceId, machine: Machine) {
        let in_crash = self.mind.is_none() && ctx.rng.bool();
        if self.mind(life).is_none() && !in_crash {
            return;
        }
        ctx.note(Note::Machine(self.index, id, "appears"));
        let shared = self.host.machines.values().find(|other| !other.volumes.is_disjoint(&machine.volumes));
        ctx.expect(shared.is_none(), || format!("{id} has a volume on node {} that {shared:?} has", self.index));
        let twin = self.host.machines.insert(id, machine);
        ctx.expect(twin.is_none(), || format!("two machines of {id} on node {}: {twin:?}", self.index));
        self.has_room(ctx);
    }

    fn has_room(&self, ctx: &mut Ctx) {
        let (used, memory) = (self.host.used(), self.host.memory);
        ctx.expect(used <= memory, || format!("machines on node {} use {used} of {memory}", self.index));
    }

    pub fn finishes(&mut self, ctx: &mut Ctx, life: u64, action: Action, fails: bool) {
        let id = action.instance();
        let Some(mind) = self.mind(life) else { return self.finishes_alone(ctx, &action) };
        mind.doing.remove(&id);
        if ctx.glitch(self.index, Glitch::CrashUnheard) {
            // What was done is done, and nobody wrote it down.
            self.effect(ctx, &action, fails);
            ctx.coverage.crash(Sort::CrashAfter, &action);
            return self.stumbles(ctx);
        }
        let outcome = self.effect(ctx, &action, fails);
        self.absorbs(ctx, id, outcome);
    }

    /// A guest that was asked to end does so even if whoever asked has crashed since; what was being kept may be whole by then.
    fn finishes_alone(&mut self, ctx: &mut Ctx, action: &Action) {
        let may = |action: &Action| {
            matches!(action, Action::Stop { .. } | Action::Pause(..) | Action::Resume(..) | Action::Take { .. })
        };
        if !may(action) || !ctx.rng.bool() {
            return;
        }
        match action {
            Action::Take { snapshot, of, boot } => drop(self.host.takes(*snapshot, *of, *boot)),
            Action::Pause(id, boot) => drop(self.host.pauses(*id, *boot)),
            Action::Resume(id, boot) => drop(self.host.resumes(*id, *boot)),
            _ => {
                let boot = self.host.machines.get(&action.instance()).map(|machine| machine.boot);
                boot.iter().for_each(|boot| self.workload_ends(ctx, action.instance(), *boot));
            }
        }
        self.has_room(ctx);
    }

    fn absorbs(&mut self, ctx: &mut Ctx, id: InstanceId, outcome: Outcome) {
        ctx.coverage.outcome(&outcome);
        if !matches!(outcome, Outcome::Probed { .. }) {
            ctx.note(Note::Came(self.index, id, outcome.clone()));
        }
        let now = self.clock.shows(ctx.now());
        let Some(mind) = &mut self.mind else { return };
        mind.local.absorb(id, outcome, now);
        self.acts(ctx);
    }

    fn effect(&mut self, ctx: &mut Ctx, action: &Action, fails: bool) -> Outcome {
        match action {
            Action::Prepare(_) if fails => failed(Reason::ImagePullFailed),
            Action::Prepare(_) if ctx.glitch(self.index, Glitch::DiskFull) => failed(Reason::DiskFull),
            Action::Prepare(_) => Outcome::Prepared { took_ms: 10 },
            Action::Boot(id) => self.booted(ctx, *id, fails),
            Action::Adopt(id, boot) if !fails && self.host.runs(*id, *boot) => Outcome::Adopted { boot: *boot },
            Action::Adopt(..) => failed(Reason::ConfigHandshakeFailed),
            Action::Probe(id) => self.probed(ctx, *id, fails),
            Action::Pause(id, boot) if !fails && self.host.pauses(*id, *boot) => Outcome::Paused,
            Action::Pause(..) => failed(Reason::SnapshotFailed),
            Action::Resume(id, boot) if !fails && self.host.resumes(*id, *boot) => {
                self.has_room(ctx);
                Outcome::Resumed { boot: *boot }
            }
            Action::Resume(id, boot) => {
                // It may run and not wake.
                if ctx.rng.bool() {
                    self.host.resumes(*id, *boot);
                    self.has_room(ctx);
                }
                failed(Reason::RestoreFailed)
            }
            Action::Take { snapshot, of, boot } if !fails && self.host.takes(*snapshot, *of, *boot) => Outcome::Taken,
            Action::Take { .. } => failed(Reason::SnapshotFailed),
            Action::Stop { .. } | Action::Destroy(_) if fails => failed(Reason::VmmStartFailed),
            Action::Stop { instance, .. } => self.stopped(ctx, *instance),
            Action::Destroy(id) | Action::Forget(id) => {
                self.host.machines.remove(id);
                self.host.paused.remove(id);
                self.host.snapshots.remove(id);
                self.host.directories.remove(id);
                Outcome::Destroyed
            }
        }
    }

    fn booted(&mut self, ctx: &mut Ctx, id: InstanceId, fails: bool) -> Outcome {
        let (now, node) = (ctx.now(), self.index);
        let Some(machine) = self.host.machines.get_mut(&id) else { return failed(Reason::VmmStartFailed) };
        if fails {
            return failed(Reason::ConfigHandshakeFailed);
        }
        let boot = machine.boot;
        match machine.temper {
            Temper::CannotStart => return failed(Reason::WorkloadStartFailed),
            Temper::NeverAnswers => {}
            Temper::Serves | Temper::Crashes | Temper::EndsWell => machine.sound_from = Some(now + ctx.ms(0..8_000)),
        }
        if matches!(machine.temper, Temper::Crashes | Temper::EndsWell) {
            ctx.soon(100..5_000, Happening::WorkloadEnds { node, id, boot });
        }
        let start = Start { way: StartWay::Boot, prepare_ms: 0, network_ms: 5, machine_ms: 150, identity_ms: 20 };
        Outcome::Started { boot, start }
    }

    fn probed(&self, ctx: &Ctx, id: InstanceId, fails: bool) -> Outcome {
        let sound = self.host.machines.get(&id).is_some_and(|machine| machine.is_sound(ctx.now()));
        Outcome::Probed { healthy: sound && !fails, detail: "no answer".to_owned() }
    }

    /// Whoever watches the machine says so too, before or never: the watch may end with the stop.
    fn stopped(&mut self, ctx: &mut Ctx, id: InstanceId) -> Outcome {
        let now = self.clock.shows(ctx.now());
        self.host.paused.remove(&id);
        if let Some(machine) = self.host.machines.remove(&id)
            && ctx.rng.bool()
            && let Some(mind) = &mut self.mind
        {
            mind.local.absorb(id, ended(machine.boot, Some(143)), now);
        }
        Outcome::Stopped { exit_code: Some(143) }
    }

    pub fn workload_ends(&mut self, ctx: &mut Ctx, id: InstanceId, boot: BootId) {
        let Some(machine) = self.host.machines.get(&id).filter(|machine| machine.boot == boot) else { return };
        let exit_code = if machine.temper == Temper::EndsWell { 0 } else { 1 };
        ctx.note(Note::Machine(self.index, id, "ends by itself"));
        self.host.machines.remove(&id);
        let slot = self.mind.as_ref().and_then(|mind| mind.local.slots.get(&id));
        if slot.is_some_and(|slot| slot.attached) {
            self.absorbs(ctx, id, ended(boot, Some(exit_code)));
        }
    }

    /// One of its machines, if there is any.
    pub fn any_machine(&self, ctx: &mut Ctx) -> Option<InstanceId> {
        ctx.rng.choice(self.host.machines.keys().collect::<Vec<_>>()).copied()
    }
}

fn failed(reason: Reason) -> Outcome {
    Outcome::Failed(Failure::new(reason, "as played"))
}

fn ended(boot: BootId, exit_code: Option<i32>) -> Outcome {
    Outcome::Ended { boot, exit_code, failure: Failure::new(Reason::WorkloadExited, "as played") }
}
