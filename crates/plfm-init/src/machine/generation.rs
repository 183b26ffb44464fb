//! What a machine that goes on from a picture is told of itself, besides randomness, time and name.

use std::fs;
use std::io;
use std::path::Path;

use super::{BootError, etc, identity};
use crate::daemon::Daemon;

/// Where programs look how often their machine's line was gone on from: another number than the one they know means that they have
/// twins.
const GENERATION: &str = "/run/plfm/generation";
const MACHINE_ID: &str = "/etc/machine-id";

/// Run where the image is `/`.
pub fn write(generation: u64) -> Result<(), BootError> {
    let path = Path::new(GENERATION);
    let written = path.parent().map_or(Ok(()), fs::create_dir_all);
    written
        .and_then(|()| etc::replace(path, &format!("{generation}\n")))
        .map_err(BootError::of(format!("write {GENERATION}")))
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
        etc::rename(Path::new("/etc"), &former_hostname, &hostname)
            .map_err(BootError::of("write the names of the image"))?;
        number(Path::new(MACHINE_ID)).map_err(BootError::of(format!("write {MACHINE_ID}")))?;
        write(generation)
    };
    daemon.place.run(names).await
}

/// Only where there is one: 32 hex digits and a new line (machine-id(5)).
fn number(path: &Path) -> io::Result<()> {
    if !fs::metadata(path).is_ok_and(|file| file.len() > 0) {
        return Ok(());
    }
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    etc::replace(path, &format!("{digits}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_id_is_changed_where_there_is_one() {
        let etc = tempfile::tempdir().unwrap();
        let path = |name: &str| etc.path().join(name);
        number(&path("machine-id")).unwrap();
        assert!(!path("machine-id").exists());
        fs::write(path("machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
        number(&path("machine-id")).unwrap();
        let number = fs::read_to_string(path("machine-id")).unwrap();
        assert!(number.len() == 33 && number.trim().bytes().all(|byte| byte.is_ascii_hexdigit()), "{number}");
        assert_ne!(number, "0123456789abcdef0123456789abcdef\n");
    }
}
