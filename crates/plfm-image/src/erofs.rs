//! EROFS images, written in one pass and without compression, and read back.
//!
//! A file's whole blocks stream out as they come; then its inode, its attributes and what is left of its data go into
//! a block of metadata that is kept open in the stream. Only names and node ids stay in memory. Directories, link
//! counts and block 0 follow at the end: node ids are addresses divided by 32 with the metadata area starting at 0, so
//! an inode may stand anywhere, but for the root's, which has a fixed place behind the superblock.
//!
//! The bytes depend only on the calls: no clock, no randomness. What a tar or a layer means is left to `layer`.

mod finish;
mod format;
mod out;
mod reader;
mod tree;
mod writer;

use std::io;

pub use finish::Written;
pub use format::ROOT_NID;
pub use reader::{Entry, Image, Names};
pub use tree::{DirId, Node};
pub use writer::Writer;

/// Kinds of files, by their numbers in directory entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    Regular = 1,
    Directory = 2,
    Char = 3,
    Block = 4,
    Fifo = 5,
    Socket = 6,
    Symlink = 7,
}

/// A moment; before 1970 the seconds are negative and the nanoseconds still count forward.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Time {
    pub seconds: i64,
    pub nanos: u32,
}

/// What a file has apart from its name and its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    pub xattrs: Xattrs,
}

impl Meta {
    /// A directory that nobody described: `a` when there is only `a/b`.
    pub fn implied() -> Self {
        Self { mode: 0o755, ..Self::default() }
    }
}

/// Extended attributes in the form in which they are stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Xattrs(Vec<u8>);

/// The kernel's bound for the attributes of one file as a list, and enough for every known use.
pub const XATTRS_BYTES_MAX: usize = 64 * 1024;

impl Xattrs {
    /// Whether the format has a place for this name.
    pub fn knows(name: &[u8]) -> bool {
        format::xattr(name, b"").is_some()
    }

    /// Adds an attribute; false if there is no room for it.
    #[must_use]
    pub fn push(&mut self, name: &[u8], value: &[u8]) -> bool {
        let Some(entry) = format::xattr(name, value) else { return false };
        if self.0.len() + entry.len() > XATTRS_BYTES_MAX {
            return false;
        }
        self.0.extend(entry);
        true
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file that is written; `io::ErrorKind::StorageFull` when the disk is.
    #[error("cannot write the file system image")]
    Write(#[source] io::Error),
    /// The data of a file that is to be stored.
    #[error("cannot read the content of a file")]
    Content(#[source] io::Error),
    #[error("names and directory attributes take more memory than their number allows")]
    Names,
    #[error("the root directory has more extended attributes than fit")]
    RootAttributes,
    #[error("the file system image has more blocks than can be numbered")]
    Size,
    #[error("cannot read a file system image")]
    Read(#[source] io::Error),
    #[error("a stored file system image is damaged: {0}")]
    Damaged(&'static str),
}

impl FileType {
    const ALL: [(Self, u16); 7] = [
        (Self::Regular, 0o100_000),
        (Self::Directory, 0o040_000),
        (Self::Char, 0o020_000),
        (Self::Block, 0o060_000),
        (Self::Fifo, 0o010_000),
        (Self::Socket, 0o140_000),
        (Self::Symlink, 0o120_000),
    ];

    fn mode_bits(self) -> u16 {
        Self::ALL[self as usize - 1].1
    }

    fn from_mode(mode: u16) -> Option<Self> {
        Self::ALL.iter().find(|(_, bits)| mode & 0o170_000 == *bits).map(|(kind, _)| *kind)
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte).checked_sub(1)?).map(|(kind, _)| *kind)
    }
}

#[cfg(test)]
mod tests;
