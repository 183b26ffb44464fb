//! Programs of the host that machines need, where they are and which version.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use tokio::process::Command;

pub const QEMU: &str = "qemu-system-x86_64";
pub const MKE2FS: &str = "mke2fs";

/// System programs are not in every user's `PATH`.
const MORE_DIRS: &[&str] = &["/usr/sbin", "/sbin", "/usr/bin"];

pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(MORE_DIRS.iter().map(PathBuf::from));
    dirs.map(|dir| dir.join(program)).find(|path| path.is_absolute() && path.is_file())
}

pub fn require(program: &'static str) -> io::Result<PathBuf> {
    find(program).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("`{program}` is not installed")))
}

/// Of this process, by the numbers of linux/capability.h.
pub fn has_capability(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|set| set & (1 << number) != 0)
}

/// The version of QEMU, as in `7.2.22`.
pub async fn qemu_version(program: &Path) -> io::Result<String> {
    let output = Command::new(program).arg("-version").kill_on_drop(true).output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().skip_while(|word| *word != "version").nth(1);
    version.map(str::to_owned).ok_or_else(|| io::Error::other("QEMU does not say its version"))
}
