//! Builds the guest daemon as one static binary, then the host's.

use anyhow::Context;
use xshell::{Shell, cmd};

/// In the target directory, whatever target it was built for: there `plfm` and the tests find the guest daemon.
const GUEST: &str = "plfm-init";

const MUSL: &str = "x86_64-unknown-linux-musl";
/// Works everywhere, makes a larger binary.
const GNU: &str = "x86_64-unknown-linux-gnu";

#[derive(clap::Args, Default)]
pub struct Args {
    /// Optimise `plfm`; the guest daemon always is
    #[arg(long)]
    release: bool,
}

pub fn run(shell: &Shell, args: &Args) -> anyhow::Result<()> {
    guest(shell).context("cannot build the guest daemon")?;
    let release = args.release.then_some("--release");
    cmd!(shell, "cargo build --package plfm {release...}").run().context("cannot build plfm")
}

pub fn guest(shell: &Shell) -> anyhow::Result<()> {
    let target = if has_target(shell, MUSL) { MUSL } else { GNU };
    // Only for the named target: build scripts and macros can't be static.
    let _flags = shell.push_env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static");
    cmd!(shell, "cargo build --package plfm-init --profile guest --target {target}").run()?;
    // Renamed into place: a machine that starts meanwhile reads the old or the new one.
    let dir = crate::target_dir(shell);
    let new = dir.join("plfm-init.new");
    shell.copy_file(dir.join(target).join("guest").join(GUEST), &new)?;
    std::fs::rename(new, dir.join(GUEST))?;
    Ok(())
}

/// Whether the toolchain has the target's libraries, however it was installed.
pub fn has_target(shell: &Shell, target: &str) -> bool {
    let libraries = cmd!(shell, "rustc --print target-libdir --target {target}").quiet().ignore_stderr().read();
    libraries.is_ok_and(|path| shell.path_exists(path))
}

/// Best effort: without it the guest daemon is built for glibc.
pub fn add_target(shell: &Shell) {
    if has_target(shell, MUSL) {
        return;
    }
    if let Err(error) = cmd!(shell, "rustup target add {MUSL}").run() {
        eprintln!("no target {MUSL} ({error}): the guest daemon will be linked statically with glibc");
    }
}
