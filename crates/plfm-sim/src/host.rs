//! What is physically on a node: machines and directories. They outlive the process that made them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use plfm_api::documents::Workload;
use plfm_core::ids::{BootId, InstanceId, VolumeId};
use plfm_core::units::{Mebibytes, Timestamp};
use plfm_node::mind::{Found, Observed};

use crate::ctx::Ctx;
use crate::scenario::Temper;

#[derive(Debug)]
pub struct Host {
    pub memory: Mebibytes,
    pub machines: BTreeMap<InstanceId, Machine>,
    /// Those that were paused: in files alone.
    pub paused: BTreeMap<InstanceId, Machine>,
    pub snapshots: BTreeSet<InstanceId>,
    pub directories: BTreeSet<InstanceId>,
    pub volumes: BTreeSet<VolumeId>,
}

/// A machine that runs.
#[derive(Debug, Clone)]
pub struct Machine {
    pub boot: BootId,
    pub memory: Mebibytes,
    pub address: Ipv6Addr,
    pub temper: Temper,
    pub volumes: BTreeSet<VolumeId>,
    /// Answers probes from here on; never, before it is configured.
    pub sound_from: Option<Timestamp>,
    /// And not during this.
    pub sick: Option<(Timestamp, Timestamp)>,
}

impl Host {
    pub fn new(memory: Mebibytes) -> Self {
        let (machines, paused) = (BTreeMap::new(), BTreeMap::new());
        let (snapshots, directories, volumes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self { memory, machines, paused, snapshots, directories, volumes }
    }

    pub fn observed(&self) -> Observed {
        let mut observed: Observed = self.directories.iter().map(|id| (*id, Found::Ended)).collect();
        observed.extend(self.paused.iter().map(|(id, machine)| (*id, Found::Rests(machine.boot))));
        observed.extend(self.snapshots.iter().map(|id| (*id, Found::Taken)));
        observed.extend(self.machines.iter().map(|(id, machine)| (*id, Found::Runs(machine.boot))));
        observed
    }

    pub fn runs(&self, id: InstanceId, boot: BootId) -> bool {
        self.machines.get(&id).is_some_and(|machine| machine.boot == boot)
    }

    /// Whether it did: only what runs can be paused.
    pub fn pauses(&mut self, id: InstanceId, boot: BootId) -> bool {
        let machine = self.machines.get(&id).filter(|machine| machine.boot == boot).cloned();
        machine.is_some_and(|machine| {
            self.machines.remove(&id);
            self.paused.insert(id, machine);
            true
        })
    }

    /// Whether it runs then.
    pub fn resumes(&mut self, id: InstanceId, boot: BootId) -> bool {
        let machine = self.paused.get(&id).filter(|machine| machine.boot == boot).cloned();
        if let Some(machine) = machine {
            self.paused.remove(&id);
            self.machines.insert(id, machine);
        }
        self.runs(id, boot)
    }

    /// Whether the snapshot is there then: only what runs can be taken.
    pub fn takes(&mut self, snapshot: InstanceId, of: InstanceId, boot: Option<BootId>) -> bool {
        if boot.is_some_and(|boot| self.runs(of, boot)) {
            self.snapshots.insert(snapshot);
        }
        self.snapshots.contains(&snapshot)
    }

    /// What was made once is never made anew: whoever thinks so would find it empty.
    pub fn makes(&mut self, ctx: &mut Ctx, node: usize, volume: VolumeId) {
        if self.volumes.insert(volume) {
            let before = ctx.made.insert(volume, node);
            // The log from after a backup knows no more where it was.
            let is_lost = ctx.lost.is_some();
            ctx.expect(before.is_none() || is_lost, || format!("{volume} is made on {node}, and was on {before:?}"));
        }
    }

    /// Only what someone has said that nobody wants, and that nothing here has.
    pub fn removes(&mut self, ctx: &mut Ctx, node: usize, volume: VolumeId) {
        self.volumes.remove(&volume);
        ctx.expect(ctx.unwanted.contains(&volume), || format!("{volume} is removed on {node}, and is wanted"));
        let user = self.machines.iter().find(|(_, machine)| machine.volumes.contains(&volume));
        ctx.expect(user.is_none(), || format!("{volume} is removed on {node}, and {user:?} has it"));
    }

    pub fn used(&self) -> Mebibytes {
        self.machines.values().map(|machine| machine.memory).sum()
    }
}

impl Machine {
    pub fn new(boot: BootId, workload: &Workload) -> Self {
        let resources = &workload.resources;
        let memory = resources.memory + resources.overhead;
        let volumes = workload.mounts.iter().map(|mount| mount.volume).collect();
        let (address, temper) = (workload.address, temper(workload));
        Self { boot, memory, address, temper, volumes, sound_from: None, sick: None }
    }

    pub fn is_sound(&self, now: Timestamp) -> bool {
        let sick = self.sick.is_some_and(|(from, until)| (from..until).contains(&now));
        !sick && self.sound_from.is_some_and(|from| now >= from)
    }

    pub fn falls_sick(&mut self, now: Timestamp, lasts: Duration) {
        self.sick = Some((now, now + lasts));
    }
}

fn temper(workload: &Workload) -> Temper {
    let command = workload.command.as_ref().and_then(|command| command.first());
    let same = |temper: &&Temper| command.is_some_and(|command| command == temper.command());
    Temper::BAD.iter().find(same).copied().unwrap_or(Temper::Serves)
}
