//! Puts the guest daemon into the binary: `cargo xtask build` makes it first, as `plfm-init` in the target directory.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // OUT_DIR is TARGET/PROFILE/build/plfm-HASH/out.
    let guest = out.ancestors().nth(4).map_or_else(PathBuf::new, |target| target.join("plfm-init"));
    println!("cargo::rerun-if-changed={}", guest.display());
    embed(&guest, &out.join("plfm-init"));
}

/// Without it the program builds all the same: most of it needs no guest, and what does says so.
fn embed(guest: &Path, to: &Path) {
    fs::write(to, fs::read(guest).unwrap_or_default()).expect("OUT_DIR can be written");
}
