//! What this host can give away (P-AGT-14).

use std::collections::BTreeSet;
use std::path::Path;

use plfm_core::event::{Capacity, Degradation, Isolation};
use plfm_core::units::{Mebibytes, MilliCpu};
use plfm_image::Platform;
use plfm_runtime::Runtime;
use plfm_runtime::microvm::kvm_opens;
use plfm_runtime::space::Space;

/// What the host keeps for itself at the least.
const RESERVED_MIN: Mebibytes = Mebibytes(2048);
/// Disk space comes and goes with caches; only whole steps of this are reported.
const DISK_STEP_MIB: u64 = 1024;

/// `memory` replaces what was measured, for a host that does more than this.
pub fn measure(
    runtime: &dyn Runtime,
    data: &Path,
    tunnel: String,
    memory: Option<Mebibytes>,
) -> std::io::Result<Capacity> {
    let cpus = std::thread::available_parallelism()?.get();
    Ok(Capacity {
        arch: Platform::host().architecture,
        isolation: runtime.class(),
        cpu: MilliCpu(u32::try_from(cpus * 1000).unwrap_or(u32::MAX)),
        memory: memory.map_or_else(physical, Ok).and_then(allocatable)?,
        disk: disk(data)?,
        overhead: runtime.overhead(),
        tunnel,
        degraded: degraded(data, runtime.class(), &BTreeSet::new())?,
        labels: Default::default(),
    })
}

/// What keeps new work away now; `before` what did so far.
pub fn degraded(
    data: &Path,
    isolation: Isolation,
    before: &BTreeSet<Degradation>,
) -> std::io::Result<BTreeSet<Degradation>> {
    let is_scarce = Space::of(data)?.is_scarce(before.contains(&Degradation::DiskPressure));
    let has_lost_kvm = isolation == Isolation::Vm && kvm_opens().is_err();
    let degraded = [(is_scarce, Degradation::DiskPressure), (has_lost_kvm, Degradation::KvmLoss)];
    Ok(degraded.into_iter().filter_map(|(is_so, what)| is_so.then_some(what)).collect())
}

fn physical() -> std::io::Result<Mebibytes> {
    let info = std::fs::read_to_string("/proc/meminfo")?;
    let total =
        info.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let missing = || std::io::Error::other("/proc/meminfo has no MemTotal");
    total.map(|kib| Mebibytes(kib / 1024)).ok_or_else(missing)
}

fn allocatable(physical: Mebibytes) -> std::io::Result<Mebibytes> {
    let kept = RESERVED_MIN.max(Mebibytes(physical.0 / 20)) + Mebibytes(physical.0 / 50);
    if physical <= kept {
        let why = format!("{physical} of memory are nothing to give away: {kept} are kept for the host itself");
        return Err(std::io::Error::other(why));
    }
    Ok(physical - kept)
}

fn disk(data: &Path) -> std::io::Result<Mebibytes> {
    let total = Space::of(data)?.total.0;
    Ok(Mebibytes(total / 10 * 9 / DISK_STEP_MIB * DISK_STEP_MIB))
}
