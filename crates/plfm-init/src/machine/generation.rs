//! What a machine that goes on from a picture is told of itself, besides randomness, time and name.

use std::fs;
use std::io;
use std::path::Path;

use super::{BootError, identity};
use crate::daemon::Daemon;

/// Where programs look how often their machine's line was gone on from: another number than the one they know means that they have
/// twins.
const GENERATION: &str = "/run/plfm/generation";
const MACHINE_ID: &str = "/etc/machine-id";

/// Run where the image is `/`.
pub fn write(generation: u64) -> Result<(), BootError> {
    replace(Path::new(GENERATION), &format!("{generation}\n")).map_err(BootError::of(format!("write {GENERATION}")))
}

/// Another identity for a machine that has one already.
#[derive(Debug, Clone)]
pub struct Renewal {
    pub entropy: Vec<u8>,
    pub realtime_ns: u64,
    pub hostname: String,
    pub former_hostname: String,
    pub generation: u64,
}

pub async fn renew(daemon: &Daemon, renewal: Renewal) -> Result<(), BootError> {
    // First of all: whatever is drawn from here on is this machine's own.
    identity::take(&renewal.entropy, renewal.realtime_ns, &renewal.hostname)?;
    let names = move || {
        let Renewal { hostname, former_hostname, generation, .. } = renewal;
        rename(Path::new("/etc"), &former_hostname, &hostname)
            .map_err(BootError::of("write the names of the image"))?;
        number(Path::new(MACHINE_ID)).map_err(BootError::of(format!("write {MACHINE_ID}")))?;
        write(generation)
    };
    daemon.place.run(names).await
}

/// In the files that the daemon itself, or the image, has written the former name to.
fn rename(etc: &Path, former: &str, name: &str) -> io::Result<()> {
    for file in ["hostname", "hosts"].map(|file| etc.join(file)) {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        if !former.is_empty() && text.split_whitespace().any(|word| word == former) {
            replace(&file, &text.replace(former, name))?;
        }
    }
    Ok(())
}

/// Only where there is one: 32 hex digits and a new line (machine-id(5)).
fn number(path: &Path) -> io::Result<()> {
    if !fs::metadata(path).is_ok_and(|file| file.len() > 0) {
        return Ok(());
    }
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    replace(path, &format!("{digits}\n"))
}

/// Whoever reads finds the one or the other.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("plfm-new");
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::write(&fresh, text)?;
    fs::rename(fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_changed_where_they_are() {
        let etc = tempfile::tempdir().unwrap();
        let path = |name: &str| etc.path().join(name);
        fs::write(path("hosts"), "127.0.0.1 localhost\nfd00::2 web-1\n").unwrap();
        fs::write(path("hostname"), "other\n").unwrap();
        rename(etc.path(), "web-1", "web-2").unwrap();
        assert_eq!(fs::read_to_string(path("hosts")).unwrap(), "127.0.0.1 localhost\nfd00::2 web-2\n");
        assert_eq!(fs::read_to_string(path("hostname")).unwrap(), "other\n", "it was never ours");

        number(&path("machine-id")).unwrap();
        assert!(!path("machine-id").exists());
        fs::write(path("machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
        number(&path("machine-id")).unwrap();
        let number = fs::read_to_string(path("machine-id")).unwrap();
        assert!(number.len() == 33 && number.trim().bytes().all(|byte| byte.is_ascii_hexdigit()), "{number}");
        assert_ne!(number, "0123456789abcdef0123456789abcdef\n");
    }
}
