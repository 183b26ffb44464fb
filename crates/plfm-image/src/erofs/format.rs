//! The bytes of the format: superblock, extended inodes, extended attributes, directory blocks.
//!
//! All numbers are little-endian. Only what the writer uses is here: uncompressed data, 64-byte inodes, inline attributes.

use super::{FileType, Time};

pub const BLOCK: usize = 4096;
/// Inodes start at multiples of this; a node id is the address divided by it.
pub const SLOT: u64 = 32;
pub const INODE: usize = 64;
pub const SUPER_AT: usize = 1024;
/// The first slot after the 128 bytes of the superblock; the superblock has only 16 bits for it.
pub const ROOT_NID: u64 = 36;
/// Offset of the link count in an inode, which is known only at the end.
pub const NLINK_AT: u64 = 44;

const MAGIC: u32 = 0xe0f5_e1e2;
/// Checksummed superblock, and times are modification times.
const COMPATIBLE: u32 = 0x1 | 0x2;
const BLOCK_BITS: u8 = 12;
const DIRENT: usize = 12;
const XATTR_HEADER: usize = 12;
/// Reserved space of an inode: here our own reader finds whether a directory was only implied by its children.
const IMPLIED_AT: usize = 48;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// All data in whole blocks.
    Plain = 0,
    /// Whole blocks, and what is left behind the inode.
    Inline = 2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode {
    pub layout: Layout,
    pub kind: FileType,
    /// Permission bits, set-id and sticky included.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    pub size: u64,
    pub nlink: u32,
    pub number: u32,
    /// First data block, or the device number.
    pub raw: u32,
    pub xattr_bytes: usize,
    pub implied: bool,
}

impl Inode {
    pub fn encode(&self) -> [u8; INODE] {
        let mut bytes = [0; INODE];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &(1 | (self.layout as u16) << 1).to_le_bytes());
        put(2, &xattr_units(self.xattr_bytes).to_le_bytes());
        put(4, &(self.kind.mode_bits() | self.mode).to_le_bytes());
        put(8, &self.size.to_le_bytes());
        put(16, &self.raw.to_le_bytes());
        put(20, &self.number.to_le_bytes());
        put(24, &self.uid.to_le_bytes());
        put(28, &self.gid.to_le_bytes());
        put(32, &self.mtime.seconds.to_le_bytes());
        put(40, &self.mtime.nanos.to_le_bytes());
        put(NLINK_AT as usize, &self.nlink.to_le_bytes());
        put(IMPLIED_AT, &[u8::from(self.implied)]);
        bytes
    }

    pub fn decode(bytes: &[u8; INODE]) -> Option<Self> {
        let layout = match u16_at(bytes, 0) {
            1 => Layout::Plain,
            5 => Layout::Inline,
            _ => return None,
        };
        let mode = u16_at(bytes, 4);
        let units = usize::from(u16_at(bytes, 2));
        Some(Self {
            layout,
            kind: FileType::from_mode(mode)?,
            mode: mode & 0o7777,
            uid: u32_at(bytes, 24),
            gid: u32_at(bytes, 28),
            mtime: Time { seconds: u64_at(bytes, 32) as i64, nanos: u32_at(bytes, 40) },
            size: u64_at(bytes, 8),
            nlink: u32_at(bytes, NLINK_AT as usize),
            number: u32_at(bytes, 20),
            raw: u32_at(bytes, 16),
            xattr_bytes: if units == 0 { 0 } else { XATTR_HEADER + (units - 1) * 4 },
            implied: bytes[IMPLIED_AT] != 0,
        })
    }
}

fn xattr_units(bytes: usize) -> u16 {
    if bytes == 0 { 0 } else { u16::try_from((bytes - XATTR_HEADER) / 4 + 1).expect("XATTRS_BYTES_MAX is less") }
}

/// Block 0 from offset 1024 on: superblock, root inode, root attributes, with the checksum over all of it.
pub struct Super {
    pub inodes: u64,
    pub blocks: u32,
    pub uuid: [u8; 16],
}

impl Super {
    pub fn seal(&self, root: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; BLOCK - SUPER_AT];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &MAGIC.to_le_bytes());
        put(8, &COMPATIBLE.to_le_bytes());
        put(12, &[BLOCK_BITS]);
        put(14, &(ROOT_NID as u16).to_le_bytes());
        put(16, &self.inodes.to_le_bytes());
        put(36, &self.blocks.to_le_bytes());
        put(48, &self.uuid);
        put((ROOT_NID * SLOT) as usize - SUPER_AT, root);
        let sum = checksum(&bytes);
        bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The superblock in the bytes of block 0 from offset 1024 on, if it is one of ours.
    pub fn open(bytes: &[u8]) -> Option<Self> {
        let mut unsummed = bytes.to_vec();
        unsummed[4..8].fill(0);
        let ours = u32_at(bytes, 0) == MAGIC
            && bytes[12] == BLOCK_BITS
            && u64::from(u16_at(bytes, 14)) == ROOT_NID
            && u32_at(bytes, 80) == 0
            && u32_at(bytes, 4) == checksum(&unsummed);
        ours.then(|| Self {
            inodes: u64_at(bytes, 16),
            blocks: u32_at(bytes, 36),
            uuid: bytes[48..64].try_into().expect("sixteen bytes"),
        })
    }
}

/// The format wants CRC-32C without the final inversion that the crate applies.
fn checksum(bytes: &[u8]) -> u32 {
    !crc32c::crc32c(bytes)
}

/// Prefixes that the format stores as one byte.
const PREFIXES: &[(u8, &[u8])] = &[
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

pub const XATTR_OPAQUE: (&[u8], &[u8]) = (b"trusted.overlay.opaque", b"y");

/// One attribute as it stands behind the inode, or nothing if the format has no prefix for its name.
pub fn xattr(name: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    let (index, prefix) = PREFIXES.iter().find(|(index, prefix)| match index {
        2 | 3 => name == *prefix,
        _ => name.len() > prefix.len() && name.starts_with(prefix),
    })?;
    let suffix = &name[prefix.len()..];
    let mut bytes = vec![u8::try_from(suffix.len()).ok()?, *index];
    bytes.extend(u16::try_from(value.len()).ok()?.to_le_bytes());
    bytes.extend(suffix);
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Some(bytes)
}

/// Attributes behind their header; nothing for none.
pub fn xattr_body(attributes: &[u8]) -> Vec<u8> {
    if attributes.is_empty() {
        return Vec::new();
    }
    let mut body = vec![0; XATTR_HEADER];
    body.extend(attributes);
    body
}

/// What [`xattr_body`] wrapped.
pub fn xattr_entries(body: &[u8]) -> &[u8] {
    body.get(XATTR_HEADER..).unwrap_or_default()
}

/// Where the last attribute begins, if all of them are whole.
pub fn last_xattr(entries: &[u8]) -> Option<usize> {
    let (mut last, mut next) = (0, 0);
    while next < entries.len() {
        last = next;
        let head = entries.get(next..next + 4)?;
        next += (4 + usize::from(head[0]) + usize::from(u16_at(head, 2))).next_multiple_of(4);
    }
    (next == entries.len()).then_some(last)
}

/// Packs sorted names into directory blocks: heads first, then the names.
#[derive(Default)]
pub struct DirBlock {
    heads: Vec<(u64, FileType, u16)>,
    names: Vec<u8>,
}

impl DirBlock {
    pub fn len(&self) -> usize {
        self.heads.len() * DIRENT + self.names.len()
    }

    pub fn fits(&self, name: &[u8]) -> bool {
        self.len() + DIRENT + name.len() <= BLOCK
    }

    pub fn push(&mut self, name: &[u8], nid: u64, kind: FileType) {
        self.heads.push((nid, kind, self.names.len() as u16));
        self.names.extend(name);
    }

    /// The bytes so far, leaving an empty block.
    pub fn take(&mut self) -> Vec<u8> {
        let base = (self.heads.len() * DIRENT) as u16;
        let mut bytes = Vec::with_capacity(BLOCK);
        for (nid, kind, at) in self.heads.drain(..) {
            bytes.extend(nid.to_le_bytes());
            bytes.extend((base + at).to_le_bytes());
            bytes.extend([kind as u8, 0]);
        }
        bytes.append(&mut self.names);
        bytes
    }
}

/// One name in a directory block: where it ends is said by the next one, or by the block.
pub fn dirent(block: &[u8], index: usize) -> Option<(&[u8], u64, FileType)> {
    let head = |index: usize| block.get(index * DIRENT..(index + 1) * DIRENT);
    let start = usize::from(u16_at(head(index)?, 8));
    let end = if index + 1 < dirents(block) { usize::from(u16_at(head(index + 1)?, 8)) } else { block.len() };
    let name = block.get(start..end)?;
    Some((name, u64_at(head(index)?, 0), FileType::from_byte(head(index)?[10])?))
}

/// How many names a directory block holds.
pub fn dirents(block: &[u8]) -> usize {
    if block.len() < DIRENT { 0 } else { usize::from(u16_at(block, 8)) / DIRENT }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
