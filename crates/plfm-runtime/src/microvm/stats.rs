//! What a monitor's process has taken, as the kernel counts it (proc(5)).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::Stats;

/// Of a `stat`'s times: `USER_HZ`, the same on every Linux.
const TICK_MS: u64 = 10;
/// Of `st_blocks`, whatever the file system's are.
const BLOCK_BYTES: u64 = 512;

/// Of the process, and of the machine's disk.
pub fn of(pid: i32, disk: &Path) -> io::Result<Stats> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
    let (stat, rollup, io) = (read("stat")?, read("smaps_rollup")?, read("io").unwrap_or_default());
    Ok(Stats {
        cpu_ms: ticks(&stat).ok_or(io::ErrorKind::InvalidData)? * TICK_MS,
        memory_bytes: field(&rollup, "Pss:").unwrap_or_default() * 1024,
        disk_bytes: fs::metadata(disk)?.blocks() * BLOCK_BYTES,
        read_bytes: field(&io, "read_bytes:").unwrap_or_default(),
        written_bytes: field(&io, "write_bytes:").unwrap_or_default(),
    })
}

/// In user and in kernel mode; the name before may hold anything, parentheses included.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11).map(str::parse::<u64>);
    Some(fields.next()?.ok()? + fields.next()?.ok()?)
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 30 12 0 0 20 0 1 0";
        assert_eq!(ticks(stat), Some(42));
        for end in 0..stat.len() - 16 {
            let _ = ticks(&stat[..end]);
        }
        assert_eq!(ticks("7 (a) S 1"), None);
    }

    #[test]
    fn what_this_process_takes() {
        let disk = tempfile::NamedTempFile::new().unwrap();
        fs::write(disk.path(), [1; 8192]).unwrap();
        let stats = of(std::process::id() as i32, disk.path()).unwrap();
        assert!(stats.memory_bytes > 100 << 10 && stats.disk_bytes >= 8192, "{stats:?}");
        assert_eq!(of(i32::MAX, disk.path()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
