//! Machines in memory, for tests of what drives a runtime: operations fail and machines die as a seed decides. There is no guest, so
//! `connect` refuses.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

use async_trait::async_trait;
use plfm_core::event::Isolation;
use plfm_core::ids::{BootId, InstanceId, SnapshotId};
use plfm_core::units::Mebibytes;
use tokio::sync::watch;

use crate::{BoxedStream, Capabilities, Machine, MachineSpec, Runtime, RuntimeError, Stats, Tap};

/// How often, in thousandths of the operations.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    pub create_fails: u16,
    pub start_fails: u16,
    /// The machine starts, and has ended by the time anyone looks.
    pub dies_at_once: u16,
    /// Of a snapshot, a restore, a pause or a resume.
    pub picture_fails: u16,
}

pub struct FakeRuntime {
    faults: Faults,
    random: Mutex<u64>,
    world: watch::Sender<World>,
}

#[derive(Default)]
struct World {
    machines: BTreeMap<InstanceId, (MachineSpec, Machine)>,
    /// What the machines were that they are of.
    snapshots: BTreeMap<SnapshotId, MachineSpec>,
}

impl FakeRuntime {
    pub fn new(seed: u64, faults: Faults) -> Self {
        // The generator stays at zero for ever.
        Self { faults, random: Mutex::new(seed.max(1)), world: watch::Sender::default() }
    }

    /// The machine ends by itself.
    pub fn kill(&self, id: InstanceId) {
        self.change(id, |machine| machine.alive = false);
    }

    fn change(&self, id: InstanceId, change: impl FnOnce(&mut Machine)) {
        self.world.send_modify(|world| {
            if let Some((_, machine)) = world.machines.get_mut(&id) {
                change(machine);
            }
        });
    }

    fn look(&self, id: InstanceId) -> Result<Machine, RuntimeError> {
        let machine = self.world.borrow().machines.get(&id).map(|(_, machine)| machine.clone());
        machine.ok_or(RuntimeError::NoSuchMachine(id))
    }

    /// One that runs, with what it is.
    fn running(&self, id: InstanceId) -> Result<MachineSpec, RuntimeError> {
        self.look(id)?;
        let spec = |(spec, machine): &(MachineSpec, Machine)| machine.alive.then(|| spec.clone());
        self.world.borrow().machines.get(&id).and_then(spec).ok_or(RuntimeError::NotRunning(id))
    }

    /// By xorshift: the seed alone decides what fails.
    fn hits(&self, per_mille: u16) -> bool {
        let mut random = self.random.lock().expect("no panic while it is held");
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        *random % 1000 < u64::from(per_mille)
    }
}

fn fault() -> io::Error {
    io::Error::other("the seed says so")
}

#[async_trait]
impl Runtime for FakeRuntime {
    fn class(&self) -> Isolation {
        Isolation::Vm
    }

    fn overhead(&self) -> Mebibytes {
        Mebibytes(0)
    }

    async fn create(&self, spec: &MachineSpec) -> Result<(), RuntimeError> {
        let id = spec.id;
        match self.world.borrow().machines.get(&id) {
            Some((known, _)) if known == spec => return Ok(()),
            Some(_) => return Err(RuntimeError::SpecDiffers(id)),
            None if self.hits(self.faults.create_fails) => return Err(RuntimeError::Disk { id, source: fault() }),
            None => {}
        }
        let machine = Machine { id, boot: None, alive: false, paused: false, console_tail: String::new() };
        self.world.send_modify(|world| drop(world.machines.insert(id, (spec.clone(), machine))));
        Ok(())
    }

    async fn start(&self, id: InstanceId, boot: BootId, _net: Option<Tap>) -> Result<(), RuntimeError> {
        match self.look(id)? {
            Machine { alive: true, boot: Some(running), .. } if running == boot => return Ok(()),
            Machine { alive: true, boot: Some(running), .. } => {
                return Err(RuntimeError::AlreadyRuns { id, boot: running });
            }
            _ if self.hits(self.faults.start_fails) => return Err(RuntimeError::Start { id, source: fault() }),
            _ => {}
        }
        let alive = !self.hits(self.faults.dies_at_once);
        self.change(id, |machine| (machine.boot, machine.alive, machine.paused) = (Some(boot), alive, false));
        Ok(())
    }

    async fn stop(&self, id: InstanceId) -> Result<(), RuntimeError> {
        self.change(id, |machine| (machine.alive, machine.paused) = (false, false));
        Ok(())
    }

    async fn destroy(&self, id: InstanceId) -> Result<(), RuntimeError> {
        self.world.send_modify(|world| drop(world.machines.remove(&id)));
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Machine>, RuntimeError> {
        Ok(self.world.borrow().machines.values().map(|(_, machine)| machine.clone()).collect())
    }

    async fn ended(&self, id: InstanceId) -> Result<Machine, RuntimeError> {
        let mut world = self.world.subscribe();
        let runs = |world: &World| world.machines.get(&id).is_some_and(|(_, machine)| machine.alive);
        let _ = world.wait_for(|world| !runs(world)).await;
        self.look(id)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { snapshot: true, pause: true, hand_over: true }
    }

    async fn snapshot(&self, id: InstanceId, as_: SnapshotId, _durable: bool) -> Result<(), RuntimeError> {
        let spec = self.running(id)?;
        if self.world.borrow().snapshots.contains_key(&as_) {
            return Err(RuntimeError::SnapshotExists(as_));
        }
        if self.hits(self.faults.picture_fails) {
            return Err(RuntimeError::Snapshot { id, source: fault() });
        }
        self.world.send_modify(|world| drop(world.snapshots.insert(as_, spec)));
        Ok(())
    }

    async fn restore(
        &self,
        spec: &MachineSpec,
        from: SnapshotId,
        boot: BootId,
        net: Option<Tap>,
    ) -> Result<(), RuntimeError> {
        let saved = self.world.borrow().snapshots.get(&from).cloned().ok_or(RuntimeError::NoSuchSnapshot(from))?;
        if (saved.memory, saved.vcpus(), &saved.images) != (spec.memory, spec.vcpus(), &spec.images) {
            return Err(RuntimeError::Misfit { id: spec.id, why: "it is another kind of machine" });
        }
        if self.hits(self.faults.picture_fails) {
            return Err(RuntimeError::Restore { id: spec.id, source: fault() });
        }
        self.create(spec).await?;
        self.start(spec.id, boot, net).await
    }

    async fn snapshots(&self) -> Result<Vec<SnapshotId>, RuntimeError> {
        Ok(self.world.borrow().snapshots.keys().copied().collect())
    }

    async fn forget(&self, snapshot: SnapshotId) -> Result<(), RuntimeError> {
        self.world.send_modify(|world| drop(world.snapshots.remove(&snapshot)));
        Ok(())
    }

    async fn pause(&self, id: InstanceId) -> Result<(), RuntimeError> {
        if self.look(id)?.paused {
            return Ok(());
        }
        self.running(id)?;
        if self.hits(self.faults.picture_fails) {
            return Err(RuntimeError::Snapshot { id, source: fault() });
        }
        self.change(id, |machine| (machine.alive, machine.paused) = (false, true));
        Ok(())
    }

    async fn resume(&self, id: InstanceId, _net: Option<Tap>) -> Result<(), RuntimeError> {
        let found = self.look(id)?;
        if found.alive {
            return Ok(());
        }
        if !found.paused {
            return Err(RuntimeError::NotPaused(id));
        }
        if self.hits(self.faults.picture_fails) {
            return Err(RuntimeError::Restore { id, source: fault() });
        }
        self.change(id, |machine| (machine.alive, machine.paused) = (true, false));
        Ok(())
    }

    async fn hand_over(&self, id: InstanceId, to: InstanceId) -> Result<(), RuntimeError> {
        self.running(id)?;
        if self.look(to).is_ok() {
            return Err(RuntimeError::AlreadyExists(to));
        }
        self.world.send_modify(|world| {
            if let Some((spec, machine)) = world.machines.remove(&id) {
                world.machines.insert(to, (MachineSpec { id: to, ..spec }, Machine { id: to, ..machine }));
            }
        });
        Ok(())
    }

    async fn stats(&self, id: InstanceId) -> Result<Stats, RuntimeError> {
        self.running(id)?;
        Ok(Stats::default())
    }

    async fn connect(&self, id: InstanceId, port: u32) -> Result<BoxedStream, RuntimeError> {
        let source = io::Error::new(io::ErrorKind::Unsupported, "there is no guest");
        Err(RuntimeError::Connect { id, port, source })
    }
}

#[cfg(test)]
mod tests;
