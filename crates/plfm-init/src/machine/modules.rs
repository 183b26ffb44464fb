//! Kernel modules, in the order that the host has worked out.

use std::fs::{self, File};
use std::io;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use super::BootError;

/// One file name of [`DIR`] a line; a kernel with everything built in has no list.
const LIST: &str = "/etc/plfm/modules";
const DIR: &str = "/lib/modules";

pub fn load() -> Result<(), BootError> {
    let list = match fs::read_to_string(LIST) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read.map_err(BootError::of(format!("read {LIST}")))?,
    };
    list.lines().map(str::trim).filter(|name| !name.is_empty() && !name.starts_with('#')).try_for_each(insert)
}

fn insert(name: &str) -> Result<(), BootError> {
    let path = format!("{DIR}/{name}");
    let file = File::open(&path).map_err(BootError::of(format!("open {path}")))?;
    match finit_module(&file, c"", ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(cause) => Err(BootError::of(format!("load module {name}"))(cause)),
    }
}
