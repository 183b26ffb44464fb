//! A guest's memory as a flat file, read from outside the monitor.
//!
//! A monitor maps its guest's memory privately: over the flat file of the picture it began with, or over nothing. The kernel's page map
//! tells which pages are its own by now (`Documentation/admin-guide/mm/pagemap.rst`); all others are still those of the file. So a new
//! flat file is a copy of the old one and these pages, and the monitor need not take part. The guest must be halted meanwhile.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use plfm_core::units::Mebibytes;

use super::copy;

const PAGE: usize = 4096;
/// Entries of the page map that are looked at together: 256 MiB of memory.
const ENTRIES: usize = 64 << 10;
/// So much is copied at once.
const CHUNK_PAGES: usize = 256;

/// Where a running monitor has its guest's memory.
pub struct Mapping {
    pub pid: i32,
    pub address: u64,
    pub size: Mebibytes,
}

/// Writes the memory to the file `to`, which must not exist; `base` is what the monitor began with. How many pages were its own.
pub fn save(mapping: &Mapping, base: Option<&Path>, to: &Path) -> io::Result<usize> {
    let file = match base {
        Some(base) => copy::sparse(base, to)?,
        None => copy::create(to)?,
    };
    file.set_len(mapping.size.bytes())?;
    let of_process = |name: &str| File::open(format!("/proc/{}/{name}", mapping.pid));
    let (map, memory) = (of_process("pagemap")?, of_process("mem")?);
    let (pages, first) = (mapping.size.bytes() as usize / PAGE, mapping.address / PAGE as u64);
    let (mut entries, mut bytes, mut own) = (vec![0; ENTRIES * 8], vec![0; CHUNK_PAGES * PAGE], 0);
    for start in (0..pages).step_by(ENTRIES) {
        let some = &mut entries[..(pages - start).min(ENTRIES) * 8];
        map.read_exact_at(some, (first + start as u64) * 8)?;
        for (from, count) in runs(some) {
            let bytes = &mut bytes[..count * PAGE];
            let at = ((start + from) * PAGE) as u64;
            memory.read_exact_at(bytes, mapping.address + at)?;
            // Of nothing, a page of zeros is a hole like those that were never touched.
            if base.is_some() || bytes.iter().any(|byte| *byte != 0) {
                file.write_all_at(bytes, at)?;
            }
            own += count;
        }
    }
    Ok(own)
}

/// Where pages of the monitor's own lie side by side, and how many; never more than a chunk.
fn runs(entries: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let own: Vec<bool> =
        entries.chunks_exact(8).map(|entry| is_own(u64::from_ne_bytes(entry.try_into().expect("eight")))).collect();
    let mut at = 0;
    std::iter::from_fn(move || {
        let from = at + own[at..].iter().position(|own| *own)?;
        let count = own[from..].iter().take(CHUNK_PAGES).take_while(|own| **own).count();
        at = from + count;
        Some((from, count))
    })
}

/// Present or swapped, and neither of a file nor shared.
fn is_own(entry: u64) -> bool {
    const PRESENT: u64 = 1 << 63;
    const SWAPPED: u64 = 1 << 62;
    const OF_A_FILE: u64 = 1 << 61;
    entry & (PRESENT | SWAPPED) != 0 && entry & OF_A_FILE == 0
}

#[cfg(test)]
mod tests;
