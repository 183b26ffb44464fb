//! Which Firecrackers are run.

use std::io;
use std::path::Path;

use tokio::process::Command;

/// Below: CVE-2026-5747 (a guest's root writes out of bounds in virtio-pci), CVE-2026-1386 (the jailer follows links).
const OLDEST: [u32; 3] = [1, 16, 1];

/// As it says it, `1.16.1`; one with known holes is refused.
pub async fn of(program: &Path) -> io::Result<String> {
    let output = Command::new(program).arg("--version").kill_on_drop(true).output().await?;
    let version = read(&String::from_utf8_lossy(&output.stdout))?;
    accept(&version).map(|()| version)
}

/// The first line is `Firecracker v1.16.1`.
fn read(words: &str) -> io::Result<String> {
    let version = words.lines().next().and_then(|line| line.trim().strip_prefix("Firecracker v"));
    version.map(str::to_owned).ok_or_else(|| io::Error::other("it does not say that it is Firecracker"))
}

fn accept(version: &str) -> io::Result<()> {
    let (numbers, _) = version.split_once('-').unwrap_or((version, ""));
    let numbers: Option<Vec<u32>> = numbers.split('.').map(|number| number.parse().ok()).collect();
    match numbers.as_deref() {
        Some([_, _, _]) if numbers.as_deref() >= Some(&OLDEST[..]) => Ok(()),
        Some([_, _, _]) => {
            let [major, minor, patch] = OLDEST;
            Err(io::Error::other(format!(
                "version {version} has known holes (CVE-2026-5747, CVE-2026-1386): use {major}.{minor}.{patch} or newer"
            )))
        }
        _ => Err(io::Error::other(format!("`{version}` is not a version"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_known_holes_are_refused() {
        let judge = |words: &str| read(words).and_then(|version| accept(&version).map(|()| version));
        assert_eq!(judge("Firecracker v1.16.1\n\n2026-06-01T ... exiting").unwrap(), "1.16.1");
        assert_eq!(judge("Firecracker v1.17.0-dev").unwrap(), "1.17.0-dev");
        assert_eq!(judge("Firecracker v2.0.0").unwrap(), "2.0.0");
        for old in ["1.16.0", "1.15.9", "1.9.0", "0.25.2"] {
            let words = judge(&format!("Firecracker v{old}")).unwrap_err().to_string();
            assert!(words.contains(old) && words.contains("use 1.16.1 or newer"), "{words}");
        }
        for other in ["", "QEMU emulator version 7.2", "Firecracker v1", "Firecracker vX.1.1", "Firecracker v1.16.1.1"]
        {
            assert!(judge(other).is_err(), "{other}");
        }
    }
}
