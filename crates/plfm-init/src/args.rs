//! How the daemon was called. The kernel calls PID 1 without words of ours.

use std::path::PathBuf;
use std::process::ExitCode;

pub const VERSION: &str = env!("CARGO_PKG_VERSION");
const USAGE: &str =
    "usage: plfm-init --supervise --socket PATH\n       plfm-init --version\nAs PID 1 it takes no arguments.";

#[derive(Debug, PartialEq, Eq)]
pub enum Mode {
    Machine,
    /// Serves the multiplexer on a UNIX socket, touches neither mounts nor network.
    Supervised(PathBuf),
    Version,
}

pub fn parse(args: impl Iterator<Item = String>) -> Result<Mode, String> {
    if std::process::id() == 1 {
        return Ok(Mode::Machine);
    }
    let words: Vec<String> = args.skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--supervise", "--socket", path] => Ok(Mode::Supervised(path.into())),
        ["--version"] => Ok(Mode::Version),
        [] => Err("nothing to do: this is not PID 1".into()),
        _ => Err(format!("cannot read `{}`", words.join(" "))),
    }
}

pub fn print_version() -> ExitCode {
    println!("plfm-init {VERSION}");
    ExitCode::SUCCESS
}

pub fn refuse(wrong: &str) -> ExitCode {
    eprintln!("plfm-init: {wrong}\n{USAGE}");
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_a_whole_or_refused() {
        let read = |line: &str| parse(line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned));
        assert_eq!(read("init --supervise --socket /run/s"), Ok(Mode::Supervised("/run/s".into())));
        assert_eq!(read("init --version"), Ok(Mode::Version));
        assert!(read("init").is_err());
        assert!(read("init --supervise").is_err());
    }
}
