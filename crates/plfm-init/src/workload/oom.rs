//! Whether memory ran out: the kernel counts whom it killed for that.

use std::fs;

const COUNTERS: [(&str, &str); 2] =
    [("/sys/fs/cgroup/plfm/workload/memory.events", "oom_kill"), ("/proc/vmstat", "oom_kill")];

/// Processes killed so far, in the workload's cgroup where that is counted, else in the machine.
pub fn kills() -> u64 {
    COUNTERS.iter().find_map(|(path, name)| count(&fs::read_to_string(path).ok()?, name)).unwrap_or(0)
}

fn count(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_among_its_neighbours() {
        assert_eq!(count("low 0\noom 2\noom_kill 3\noom_group_kill 1\n", "oom_kill"), Some(3));
        assert_eq!(count("low 0\n", "oom_kill"), None);
    }
}
