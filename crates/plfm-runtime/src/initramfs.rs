//! The guest's first file system: the guest daemon, the modules it loads, and nothing else.
//!
//! A raw `newc` archive (Linux, Documentation/driver-api/early-userspace/buffer-format.rst): at this size, compression would cost more
//! than it saves. The same input gives the same bytes.

use crate::kernel::modules::Module;

const DIRS: &[&str] = &["dev", "etc", "etc/plfm", "lib", "lib/modules", "newroot", "proc", "run", "sys", "tmp"];

const DIR: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// `/init`, `/lib/modules/*.ko`, their order and when they are needed in `/etc/plfm/modules`, empty places to mount at, and the console.
pub fn build(init: &[u8], modules: &[Module]) -> Vec<u8> {
    let mut archive = Archive::default();
    for dir in DIRS {
        archive.entry(dir, DIR, (0, 0), b"");
    }
    archive.entry("dev/console", CHARACTER_DEVICE, (5, 1), b"");
    archive.entry("init", EXECUTABLE, (0, 0), init);
    let mut order = String::new();
    for module in modules {
        let file = format!("{}.ko", module.name);
        archive.entry(&format!("lib/modules/{file}"), FILE, (0, 0), &module.bytes);
        let word = module.only_with.map_or_else(String::new, |word| format!(" {word}"));
        order.push_str(&format!("{file}{word}\n"));
    }
    archive.entry("etc/plfm/modules", FILE, (0, 0), order.as_bytes());
    archive.finish()
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), body: &[u8]) {
        self.entries += 1;
        self.raw(name, self.entries, mode, device, body);
    }

    fn finish(mut self) -> Vec<u8> {
        self.raw("TRAILER!!!", 0, 0, (0, 0), b"");
        self.bytes
    }

    fn raw(&mut self, name: &str, inode: u32, mode: u32, device: (u32, u32), body: &[u8]) {
        let size = u32::try_from(body.len()).expect("a file of an initramfs is far below 4 GiB");
        let links = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
        let name_size = name.len() as u32 + 1;
        // Inode, mode, uid, gid, links, mtime, size, device, device of the node, name, check.
        let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        fields.iter().for_each(|field| self.bytes.extend_from_slice(format!("{field:08X}").as_bytes()));
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(body);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests;
