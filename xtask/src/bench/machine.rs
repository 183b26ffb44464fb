//! Where it was measured, in one line.

use std::fs;

use anyhow::Context;

/// Processors, memory and kernel; nothing that names the host.
pub fn describe() -> anyhow::Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let models: Vec<_> = cpuinfo.lines().filter_map(|line| value(line, "model name")).collect();
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let memory = meminfo.lines().find_map(|line| value(line, "MemTotal")).context("/proc/meminfo has no MemTotal")?;
    let kib: u64 = memory.trim_end_matches(" kB").parse()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let model = models.first().copied().unwrap_or(std::env::consts::ARCH);
    Ok(format!("{} x {model}, {} GiB, Linux {}", models.len(), kib.div_ceil(1 << 20), kernel.trim()))
}

fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (found, value) = line.split_once(':')?;
    (found.trim() == key).then(|| value.trim())
}
