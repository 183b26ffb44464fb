//! What the kernel says about the machine, for the hello.

use plfm_api::guest::HelloResponse;

use super::kernel;

pub fn machine() -> HelloResponse {
    HelloResponse {
        kernel_release: kernel("/proc/sys/kernel/osrelease"),
        kernel_boot_id: kernel("/proc/sys/kernel/random/boot_id"),
        memory_total_kib: memory_total_kib(&kernel("/proc/meminfo")),
        cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32),
        uptime_ms: uptime_ms(&kernel("/proc/uptime")),
        ..Default::default()
    }
}

fn memory_total_kib(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    total.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

fn uptime_ms(uptime: &str) -> u64 {
    let seconds = uptime.split(' ').next().and_then(|seconds| seconds.parse::<f64>().ok());
    seconds.map_or(0, |seconds| (seconds * 1_000.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        assert_eq!(memory_total_kib("MemTotal:         117160 kB\nMemFree: 1 kB"), 117_160);
        assert_eq!(uptime_ms("12.34 56.78"), 12_340);
        assert_eq!((memory_total_kib(""), uptime_ms("")), (0, 0));
    }
}
