//! Sums of what instances hold, on a node or of an org.

use crate::event::Resources;
use crate::manifest::{Process, Resources as Size};
use crate::units::{Mebibytes, MilliCpu};

/// A sum of what instances hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Committed {
    pub cpu: MilliCpu,
    /// Caps and overheads.
    pub memory: Mebibytes,
    pub disk: Mebibytes,
    pub instances: u32,
}

impl Committed {
    /// What all instances of a process type hold, before their nodes add the overhead.
    pub fn asked_by(process: &Process) -> Self {
        Self::of(process.scaling.min, &process.resources)
    }

    /// So many instances of one size, without an overhead.
    pub fn of(count: u32, each: &Size) -> Self {
        Self {
            cpu: MilliCpu(each.cpu.0.saturating_mul(count)),
            memory: Mebibytes(each.memory.0.saturating_mul(count.into())),
            disk: Mebibytes(each.disk.0.saturating_mul(count.into())),
            instances: count,
        }
    }

    pub fn add(&mut self, resources: &Resources) {
        *self = self.plus(resources.into());
    }

    pub fn remove(&mut self, resources: &Resources) {
        *self = self.less(resources.into());
    }

    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu + other.cpu,
            memory: self.memory + other.memory,
            disk: self.disk + other.disk,
            instances: self.instances.saturating_add(other.instances),
        }
    }

    pub fn less(self, other: Self) -> Self {
        Self {
            cpu: self.cpu - other.cpu,
            memory: self.memory - other.memory,
            disk: self.disk - other.disk,
            instances: self.instances.saturating_sub(other.instances),
        }
    }

    /// Of each the greater.
    pub fn greater(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.max(other.cpu),
            memory: self.memory.max(other.memory),
            disk: self.disk.max(other.disk),
            instances: self.instances.max(other.instances),
        }
    }
}

impl From<&Resources> for Committed {
    fn from(resources: &Resources) -> Self {
        let Resources { cpu, memory, overhead, disk } = *resources;
        Self { cpu, memory: memory + overhead, disk, instances: 1 }
    }
}
