//! Kernel modules, in the order that the host has worked out.

use std::fs::{self, File};
use std::io;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use super::{BootError, cmdline};

/// One file name of [`DIR`] a line, and after it the word of the command line without which it is not needed; a kernel with everything
/// built in has no list.
const LIST: &str = "/etc/plfm/modules";
const DIR: &str = "/lib/modules";

pub fn load() -> Result<(), BootError> {
    let list = match fs::read_to_string(LIST) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read.map_err(BootError::of(format!("read {LIST}")))?,
    };
    let has_vsock = cmdline::vsock()?.is_some();
    needed(&list, has_vsock).try_for_each(insert)
}

/// There is one such word.
fn needed(list: &str, has_vsock: bool) -> impl Iterator<Item = &str> {
    list.lines().filter_map(move |line| match line.split_once(' ') {
        None => Some(line.trim()).filter(|name| !name.is_empty()),
        Some((name, word)) => Some(name).filter(|_| has_vsock && cmdline::VSOCK.trim_end_matches('=') == word),
    })
}

fn insert(name: &str) -> Result<(), BootError> {
    let path = format!("{DIR}/{name}");
    let file = File::open(&path).map_err(BootError::of(format!("open {path}")))?;
    match finit_module(&file, c"", ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(cause) => Err(BootError::of(format!("load module {name}"))(cause)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_vsock_needs_is_loaded_for_one_alone() {
        let list = "virtio_mmio.ko\nvsock.ko plfm.vsock\nother.ko plfm.other\n\n";
        assert_eq!(needed(list, false).collect::<Vec<_>>(), ["virtio_mmio.ko"]);
        assert_eq!(needed(list, true).collect::<Vec<_>>(), ["virtio_mmio.ko", "vsock.ko"]);
    }
}
