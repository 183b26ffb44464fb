//! What a machine that goes on from a picture is told of itself, besides randomness, time and name.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use super::{BootError, etc, identity};
use crate::daemon::Daemon;

/// Where programs look how often their machine's line was gone on from: another number than the one they know means that they have
/// twins.
const GENERATION: &str = "/run/plfm/generation";
const MACHINE_ID: &str = "/etc/machine-id";
/// The kernel draws it once; ours is laid over it (as systemd-nspawn(1) does).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const OWN_BOOT_ID: &str = "/run/plfm/boot_id";

/// Of a machine that boots. Run where the image is `/`.
pub fn begin() -> Result<(), BootError> {
    own_machine_id()?;
    write(0)
}

/// Machines of one image are not one machine.
fn own_machine_id() -> Result<(), BootError> {
    number(Path::new(MACHINE_ID)).map_err(BootError::of(format!("write {MACHINE_ID}")))
}

fn write(generation: u64) -> Result<(), BootError> {
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
        own_machine_id()?;
        write(generation)?;
        boot_id().map_err(BootError::of(format!("lay over {BOOT_ID}")))
    };
    daemon.place.run(names).await
}

/// In place: what is laid over the kernel's is this file, whoever it names (random(4): a UUID and a new line).
fn boot_id() -> io::Result<()> {
    // An image made of a machine's files has such a file too, and nothing is laid over there.
    let is_laid = fs::read(OWN_BOOT_ID).is_ok_and(|own| fs::read(BOOT_ID).is_ok_and(|seen| seen == own));
    fs::write(OWN_BOOT_ID, format!("{}\n", uuid()?))?;
    if is_laid {
        return Ok(());
    }
    fs::set_permissions(OWN_BOOT_ID, fs::Permissions::from_mode(0o444))?;
    let none = None::<&str>;
    mount(Some(OWN_BOOT_ID), BOOT_ID, none, MsFlags::MS_BIND, none)?;
    let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    Ok(mount(none, BOOT_ID, none, read_only, none)?)
}

/// Of version 4 (RFC 9562).
fn uuid() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    Ok(parts.join("-"))
}

/// Only where there is one: 32 hex digits and a new line (machine-id(5)).
fn number(path: &Path) -> io::Result<()> {
    if !fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() > 0) {
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
    fn a_uuid_is_one_and_another_each_time() {
        let one = uuid().unwrap();
        let shape: String = one.chars().map(|it| if it == '-' { '-' } else { 'x' }).collect();
        assert_eq!((shape.as_str(), &one[14..15]), ("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "4"));
        assert!("89ab".contains(&one[19..20]) && one != uuid().unwrap());
    }

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
