//! What this host can give away (P-AGT-14).

use std::collections::BTreeSet;
use std::path::Path;

use plfm_core::event::{Capacity, Degradation};
use plfm_core::units::{Mebibytes, MilliCpu};
use plfm_image::Platform;
use plfm_runtime::Runtime;

/// What the host keeps for itself at the least.
const RESERVED_MIN: Mebibytes = Mebibytes(2048);
/// Disk space comes and goes with caches; only whole steps of this are reported.
const DISK_STEP_MIB: u64 = 1024;

/// With less than this, and less than a tenth of the disk, no new work comes here.
const FREE_MIN_MIB: u64 = 10 * 1024;

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
        memory: memory.map_or_else(physical, Ok).map(allocatable)?,
        disk: disk(data)?,
        overhead: runtime.overhead(),
        tunnel,
        degraded: degraded(data, &BTreeSet::new())?,
    })
}

/// What keeps new work away now; `before` what did so far.
pub fn degraded(data: &Path, before: &BTreeSet<Degradation>) -> std::io::Result<BTreeSet<Degradation>> {
    let stat = rustix::fs::statvfs(data)?;
    let (total, free) = ((stat.f_blocks * stat.f_frsize) >> 20, (stat.f_bavail * stat.f_frsize) >> 20);
    let is_full = is_full(total, free, before.contains(&Degradation::DiskPressure));
    Ok(is_full.then_some(Degradation::DiskPressure).into_iter().collect())
}

/// A tenth of a large disk is still much. Once full it has to be a good deal emptier, so that it does not come and go.
fn is_full(total_mib: u64, free_mib: u64, before: bool) -> bool {
    let least = (total_mib / 10).min(FREE_MIN_MIB);
    free_mib < if before { least / 2 * 3 } else { least }
}

fn physical() -> std::io::Result<Mebibytes> {
    let info = std::fs::read_to_string("/proc/meminfo")?;
    let total =
        info.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let missing = || std::io::Error::other("/proc/meminfo has no MemTotal");
    total.map(|kib| Mebibytes(kib / 1024)).ok_or_else(missing)
}

fn allocatable(physical: Mebibytes) -> Mebibytes {
    let reserved = RESERVED_MIN.max(Mebibytes(physical.0 / 20));
    physical - reserved - Mebibytes(physical.0 / 50)
}

fn disk(data: &Path) -> std::io::Result<Mebibytes> {
    let stat = rustix::fs::statvfs(data)?;
    let total = (stat.f_blocks * stat.f_frsize) >> 20;
    Ok(Mebibytes(total / 10 * 9 / DISK_STEP_MIB * DISK_STEP_MIB))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_below_a_tenth_and_ten_gibibytes_and_for_a_while_above() {
        for (total, free, before, full) in [
            (100, 9, false, true),
            (100, 10, false, false),
            (100, 14, true, true),
            (100, 15, true, false),
            (1 << 20, (10 << 10) - 1, false, true),
            (1 << 20, 10 << 10, false, false),
            (1 << 20, 15 << 10, true, false),
        ] {
            assert_eq!(is_full(total, free, before), full, "{free} of {total}, before {before}");
        }
    }
}
