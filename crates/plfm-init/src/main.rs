//! The guest daemon: PID 1 of a microVM, or an ordinary process that someone supervises.
//!
//! As PID 1 it stays in the initramfs and gives the workload a mount namespace whose root is the image: nothing in the image can break
//! it. It speaks two services over the host channel: `plfm.guest.v1` to the host alone, and envd to whoever the host lets in.

use std::process::ExitCode;

mod args;
mod boot;
mod daemon;
mod envd;
mod launch;
mod logs;
mod machine;
mod net;
mod power;
mod reaper;
mod rest;
mod serve;
mod service;
mod users;
mod workload;

use args::Mode;

fn main() -> ExitCode {
    match args::parse(std::env::args()) {
        Ok(Mode::Machine) => boot::machine(),
        Ok(Mode::Supervised(socket)) => boot::supervised(socket),
        Ok(Mode::Version) => args::print_version(),
        Err(wrong) => args::refuse(&wrong),
    }
}
