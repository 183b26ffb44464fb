//! `plfm`: the command line and every role of the platform, in one program.

use std::process::ExitCode;

/// What one thread of a server allocates another one frees; glibc's lets them wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    plfm::run(std::env::args_os()).into()
}
