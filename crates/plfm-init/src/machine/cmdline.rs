//! The words that come before the channel: where it is, that it is ours, and which disk is which.

use std::fs;
use std::io;
use std::path::PathBuf;

use plfm_api::channel::Secret;

use super::BootError;

pub const PATH: &str = "/proc/cmdline";
const KEY: &str = "plfm.secret=";
/// A port of the vsock on which hosts are waited for, where there is no serial port.
pub const VSOCK: &str = "plfm.vsock=";
/// The disks in the order in which they were made, where they have no serials: `img0,img1,rw`.
const DISKS: &str = "plfm.disks=";

pub fn secret() -> Result<Secret, BootError> {
    find(&line()?).map_err(wrong)
}

/// The port of the vsock, if it is the channel.
pub fn vsock() -> Result<Option<u32>, BootError> {
    let line = line()?;
    word(&line, VSOCK).map(|port| port.parse().map_err(|_| wrong(format!("{VSOCK} is no port")))).transpose()
}

/// Which device a disk is, if that goes by their order.
pub fn device(disk: &str) -> Result<Option<PathBuf>, BootError> {
    Ok(word(&line()?, DISKS).and_then(|disks| device_of(disks, disk)))
}

fn line() -> Result<String, BootError> {
    fs::read_to_string(PATH).map_err(BootError::of(format!("read {PATH}")))
}

fn wrong(what: String) -> BootError {
    BootError { what: "read the kernel command line".into(), cause: io::Error::other(what) }
}

fn word<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_ascii_whitespace().find_map(|word| word.strip_prefix(key))
}

fn device_of(disks: &str, disk: &str) -> Option<PathBuf> {
    let place = disks.split(',').position(|name| name == disk)?;
    let letter = char::from(b'a' + u8::try_from(place).ok().filter(|place| *place < 26)?);
    Some(format!("/dev/vd{letter}").into())
}

/// The line as a workload may see it.
pub fn redacted(line: &str) -> String {
    let words = line.split_ascii_whitespace().filter(|word| !word.starts_with(KEY));
    words.collect::<Vec<_>>().join(" ") + "\n"
}

fn find(line: &str) -> Result<Secret, String> {
    word(line, KEY).ok_or(format!("{KEY} is missing"))?.parse().map_err(|wrong| format!("{KEY} is wrong: {wrong}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_without_serials_go_by_their_order() {
        let disks = |name| device_of("img0,img1,rw", name).map(|path| path.display().to_string());
        let found = ["img0", "img1", "rw", "img2", ""].map(disks);
        assert_eq!(found.map(Option::unwrap_or_default), ["/dev/vda", "/dev/vdb", "/dev/vdc", "", ""]);
        assert_eq!(word("quiet plfm.vsock=1024 panic=-1", VSOCK), Some("1024"));
    }

    #[test]
    fn the_secret_is_found_and_then_hidden() {
        let secret = Secret::new([0xA5; Secret::BYTES]);
        let line = format!("console=ttyS0 quiet plfm.secret={} panic=-1\n", secret.to_hex());
        assert_eq!(find(&line), Ok(secret));
        assert_eq!(redacted(&line), "console=ttyS0 quiet panic=-1\n");
        assert_eq!(redacted("quiet plfm.secret=1\n"), "quiet\n");
        assert_eq!(find("quiet"), Err("plfm.secret= is missing".into()));
        assert_eq!(find("plfm.secret=12"), Err("plfm.secret= is wrong: a channel secret is 64 hex digits".into()));
    }
}
