//! What this host can give away (P-AGT-14).

use std::path::Path;

use plfm_core::event::Capacity;
use plfm_core::units::{Mebibytes, MilliCpu};
use plfm_image::Platform;
use plfm_runtime::Runtime;

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
        memory: memory.map_or_else(physical, Ok).map(allocatable)?,
        disk: disk(data)?,
        overhead: runtime.overhead(),
        tunnel,
    })
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
