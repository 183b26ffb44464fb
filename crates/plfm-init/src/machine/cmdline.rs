//! The two words that come before the channel: where it is, and that it is ours.

use std::fs;
use std::io;

use plfm_api::channel::Secret;

use super::BootError;

pub const PATH: &str = "/proc/cmdline";
const KEY: &str = "plfm.secret=";

pub fn secret() -> Result<Secret, BootError> {
    let line = fs::read_to_string(PATH).map_err(BootError::of(format!("read {PATH}")))?;
    find(&line)
        .map_err(|wrong| BootError { what: "read the kernel command line".into(), cause: io::Error::other(wrong) })
}

/// The line as a workload may see it.
pub fn redacted(line: &str) -> String {
    let words = line.split_ascii_whitespace().filter(|word| !word.starts_with(KEY));
    words.collect::<Vec<_>>().join(" ") + "\n"
}

fn find(line: &str) -> Result<Secret, String> {
    let hex = line.split_ascii_whitespace().find_map(|word| word.strip_prefix(KEY));
    hex.ok_or(format!("{KEY} is missing"))?.parse().map_err(|wrong| format!("{KEY} is wrong: {wrong}"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
