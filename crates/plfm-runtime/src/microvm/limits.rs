//! How fast a machine's disks are (P-ISO-4), whichever monitor keeps them to it. A second's worth may come at once.

pub const IMAGES_BYTES_PER_S: u64 = 400_000_000;
pub const DISK_BYTES_PER_S: u64 = 200_000_000;
pub const DISK_REQUESTS_PER_S: u64 = 10_000;
