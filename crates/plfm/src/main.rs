//! `plfm`: the command line and every role of the platform, in one program.

use std::process::ExitCode;

fn main() -> ExitCode {
    plfm::run(std::env::args_os()).into()
}
