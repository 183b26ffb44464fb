//! How much room a disk has, and when that is too little for more work (P-AGT-15).

use std::io;
use std::path::Path;

use plfm_core::units::Mebibytes;

/// With less than this, and less than a tenth of the disk, no new work is taken.
const FREE_MIN: Mebibytes = Mebibytes(5 * 1024);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    pub total: Mebibytes,
    /// What is left to users.
    pub free: Mebibytes,
}

impl Space {
    /// Of the disk that this directory is on, or will be.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(dir);
        let stat = rustix::fs::statvfs(there)?;
        let mebibytes = |blocks: u64| Mebibytes((blocks * stat.f_frsize) >> 20);
        Ok(Self { total: mebibytes(stat.f_blocks), free: mebibytes(stat.f_bavail) })
    }

    /// A tenth of a large disk is still much. What `was` scarce has to be a good deal emptier, so that it does not come and go.
    pub fn is_scarce(self, was: bool) -> bool {
        let least = (self.total.0 / 10).min(FREE_MIN.0);
        self.free.0 < if was { least / 2 * 3 } else { least }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_scarce_below_a_tenth_and_five_gibibytes_and_for_a_while_above() {
        for (total, free, was, scarce) in [
            (100, 9, false, true),
            (100, 10, false, false),
            (100, 14, true, true),
            (100, 15, true, false),
            (1 << 20, (5 << 10) - 1, false, true),
            (1 << 20, 5 << 10, false, false),
            (1 << 20, 7_680, true, false),
        ] {
            let space = Space { total: Mebibytes(total), free: Mebibytes(free) };
            assert_eq!(space.is_scarce(was), scarce, "{free} of {total}, before {was}");
        }
    }
}
