//! Reads images that `Writer` made. They come from our own disk, but a disk can be damaged: every number is checked.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::format::{self, BLOCK, INODE, Inode, Layout, ROOT_NID, SLOT, SUPER_AT, Super};
use super::{Error, FileType, Meta, XATTRS_BYTES_MAX, Xattrs};

/// A file system image, opened and checked.
#[derive(Debug)]
pub struct Image {
    file: File,
    bytes: u64,
}

/// An inode with its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub nid: u64,
    pub kind: FileType,
    pub meta: Meta,
    pub size: u64,
    pub nlink: u32,
    /// Device number of a device.
    pub rdev: u32,
    pub opaque: bool,
    pub implied: bool,
    inode: Inode,
}

impl Entry {
    pub fn is_whiteout(&self) -> bool {
        self.kind == FileType::Char && self.rdev == 0
    }
}

impl Image {
    pub fn open(file: File) -> Result<Self, Error> {
        let mut head = vec![0; BLOCK - SUPER_AT];
        file.read_exact_at(&mut head, SUPER_AT as u64).map_err(Error::Read)?;
        let found = Super::open(&head).ok_or(Error::Damaged("its first block is not what was written"))?;
        let bytes = u64::from(found.blocks) * BLOCK as u64;
        let there = file.metadata().map_err(Error::Read)?.len();
        if there == bytes { Ok(Self { file, bytes }) } else { Err(Error::Damaged("its size is not what was written")) }
    }

    pub fn root(&self) -> Result<Entry, Error> {
        self.entry(ROOT_NID)
    }

    pub fn entry(&self, nid: u64) -> Result<Entry, Error> {
        let at = nid.checked_mul(SLOT).ok_or(Error::Damaged("a node id lies outside"))?;
        let head = self.bytes(at, INODE)?;
        let inode = Inode::decode(head.as_slice().try_into().expect("as many as asked for"));
        let inode = inode.ok_or(Error::Damaged("an inode is not one of ours"))?;
        let (xattrs, opaque) = self.xattrs(at, &inode)?;
        let Inode { kind, mode, uid, gid, mtime, size, nlink, raw, implied, .. } = inode;
        let rdev = if matches!(kind, FileType::Char | FileType::Block) { raw } else { 0 };
        let meta = Meta { mode, uid, gid, mtime, xattrs };
        Ok(Entry { nid, kind, meta, size, nlink, rdev, opaque, implied, inode })
    }

    /// The names in a directory, sorted, without `.` and `..`.
    pub fn names(&self, directory: &Entry) -> Names {
        Names { directory: directory.clone(), next_block: 0, block: Vec::new(), index: 0 }
    }

    /// The data of a file, a symbolic link or a directory.
    pub fn content<'a>(&'a self, entry: &Entry) -> Content<'a> {
        Content { image: self, inode: entry.inode, nid: entry.nid, at: 0 }
    }

    pub fn link_target(&self, entry: &Entry) -> Result<Vec<u8>, Error> {
        if entry.size > BLOCK as u64 {
            return Err(Error::Damaged("a symbolic link is too long"));
        }
        self.data(entry.nid, &entry.inode, 0, entry.size as usize)
    }

    fn xattrs(&self, at: u64, inode: &Inode) -> Result<(Xattrs, bool), Error> {
        if inode.xattr_bytes > XATTRS_BYTES_MAX + BLOCK {
            return Err(Error::Damaged("a file has too many attributes"));
        }
        let body = self.bytes(at + INODE as u64, inode.xattr_bytes)?;
        let (name, value) = format::XATTR_OPAQUE;
        let mark = format::xattr(name, value).expect("the prefix is known");
        let entries = format::xattr_entries(&body);
        let last = format::last_xattr(entries).ok_or(Error::Damaged("extended attributes are cut off"))?;
        // The writer puts the mark last, and nothing from a layer may carry its name.
        let opaque = entries[last..] == mark;
        Ok((Xattrs(entries[..if opaque { last } else { entries.len() }].into()), opaque))
    }

    /// Up to the end of the block that holds `from`, or of the file.
    fn data(&self, nid: u64, inode: &Inode, from: u64, want: usize) -> Result<Vec<u8>, Error> {
        let whole = inode.size - inode.size % BLOCK as u64;
        let (at, left) = match inode.layout {
            Layout::Inline if from >= whole => {
                let tail = nid * SLOT + (INODE + inode.xattr_bytes) as u64;
                (tail + from - whole, inode.size - from)
            }
            Layout::Inline => (u64::from(inode.raw) * BLOCK as u64 + from, whole - from),
            Layout::Plain => (u64::from(inode.raw) * BLOCK as u64 + from, inode.size - from),
        };
        self.bytes(at, want.min(usize::try_from(left).unwrap_or(usize::MAX)))
    }

    fn bytes(&self, at: u64, count: usize) -> Result<Vec<u8>, Error> {
        if at.checked_add(count as u64).is_none_or(|end| end > self.bytes) {
            return Err(Error::Damaged("an address lies outside"));
        }
        let mut bytes = vec![0; count];
        self.file.read_exact_at(&mut bytes, at).map_err(Error::Read)?;
        Ok(bytes)
    }
}

/// Walks a directory block by block, so that it takes a block of memory however many names there are.
pub struct Names {
    directory: Entry,
    next_block: u64,
    block: Vec<u8>,
    index: usize,
}

impl Names {
    /// The next name with its node id.
    pub fn next(&mut self, image: &Image) -> Result<Option<(Vec<u8>, u64)>, Error> {
        loop {
            while self.index < format::dirents(&self.block) {
                let (name, nid, _) = format::dirent(&self.block, self.index).ok_or(DAMAGED_DIRECTORY)?;
                self.index += 1;
                if name != b"." && name != b".." {
                    return Ok(Some((trim(name).to_vec(), nid)));
                }
            }
            let from = self.next_block * BLOCK as u64;
            if from >= self.directory.size {
                return Ok(None);
            }
            self.block = image.data(self.directory.nid, &self.directory.inode, from, BLOCK)?;
            (self.index, self.next_block) = (0, self.next_block + 1);
        }
    }
}

const DAMAGED_DIRECTORY: Error = Error::Damaged("a directory is not one of ours");

/// The last name of a block is followed by zeros up to the block's end.
fn trim(name: &[u8]) -> &[u8] {
    name.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Reads a file's data from its start.
pub struct Content<'a> {
    image: &'a Image,
    inode: Inode,
    nid: u64,
    at: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.inode.size {
            return Ok(0);
        }
        let bytes = self.image.data(self.nid, &self.inode, self.at, into.len()).map_err(io::Error::other)?;
        into[..bytes.len()].copy_from_slice(&bytes);
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
}
