//! The one pass: data and inodes as they come; `finish` adds directories and block 0 at the end.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;

use super::format::{self, BLOCK, INODE, Inode, Layout, ROOT_NID, SLOT};
use super::out::Out;
use super::tree::{DirId, Node, Removed, Tree};
use super::{Error, FileType, Meta};

pub struct Writer {
    pub(super) out: Out,
    pub(super) tree: Tree,
    pub(super) uuid: [u8; 16],
    /// Link counts that are not one.
    pub(super) links: HashMap<u64, u32>,
    held: Held,
    /// The open metadata block: where the next inode may stand, and where the block ends.
    open: (u64, u64),
    inodes: u32,
}

/// The memory behind names and directory attributes. With about 180 bytes of structure for the dearest entry (a
/// directory), the whole stays below 64 MiB and 256 bytes an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub base: usize,
    pub per_entry: usize,
    used: usize,
    entries: usize,
}

/// Behind the root's inode there is only the rest of block 0; 64 bytes stay for the header and the opaque mark.
const ROOT_XATTRS_BYTES_MAX: usize = BLOCK - (ROOT_NID * SLOT) as usize - INODE - 64;

impl Default for Held {
    fn default() -> Self {
        Self { base: 32 << 20, per_entry: 64, used: 0, entries: 0 }
    }
}

impl Held {
    fn take(&mut self, bytes: usize) -> Result<(), Error> {
        self.used += bytes;
        self.entries += 1;
        if self.used <= self.base + self.entries * self.per_entry { Ok(()) } else { Err(Error::Names) }
    }
}

impl Writer {
    /// Begins an image; the same calls with the same `uuid` make the same bytes.
    pub fn new(file: File, uuid: [u8; 16]) -> Result<Self, Error> {
        let mut out = Out::new(file);
        out.append_zeros(BLOCK)?;
        Ok(Self { out, tree: Tree::new(), held: Held::default(), uuid, open: (0, 0), inodes: 1, links: HashMap::new() })
    }

    pub fn get(&mut self, dir: DirId, name: &[u8]) -> Option<Node> {
        self.tree.get(dir, name)
    }

    /// A directory under this name; one that is there keeps its children and takes the attributes.
    pub fn directory(&mut self, parent: DirId, name: &[u8], meta: Meta) -> Result<DirId, Error> {
        self.held.take(name.len() + meta.xattrs.bytes().len())?;
        if let Some(Node::Dir(dir)) = self.tree.get(parent, name) {
            self.describe(dir, meta)?;
            return Ok(dir);
        }
        Ok(self.put_dir(parent, name, meta, false))
    }

    /// A directory that only its children speak of.
    pub fn implied_directory(&mut self, parent: DirId, name: &[u8]) -> Result<DirId, Error> {
        self.held.take(name.len())?;
        Ok(self.put_dir(parent, name, Meta::implied(), true))
    }

    /// Attributes for a directory that is there, the root for one.
    pub fn describe(&mut self, dir: DirId, meta: Meta) -> Result<(), Error> {
        if dir == DirId::ROOT && meta.xattrs.bytes().len() > ROOT_XATTRS_BYTES_MAX {
            return Err(Error::RootAttributes);
        }
        let dir = self.tree.dir_mut(dir);
        (dir.meta, dir.implied) = (meta, false);
        Ok(())
    }

    /// Nothing of the lower layers is seen in this directory.
    pub fn opaque(&mut self, dir: DirId) {
        self.tree.dir_mut(dir).opaque = true;
    }

    /// A regular file; the source must give `size` bytes.
    pub fn file(
        &mut self,
        dir: DirId,
        name: &[u8],
        meta: &Meta,
        size: u64,
        source: &mut dyn Read,
    ) -> Result<u64, Error> {
        self.content(dir, name, FileType::Regular, meta, size, source)
    }

    pub fn symlink(&mut self, dir: DirId, name: &[u8], meta: &Meta, target: &[u8]) -> Result<u64, Error> {
        self.content(dir, name, FileType::Symlink, meta, target.len() as u64, &mut &target[..])
    }

    /// A device, FIFO or socket; `rdev` in the kernel's "new" encoding.
    pub fn special(&mut self, dir: DirId, name: &[u8], kind: FileType, meta: &Meta, rdev: u32) -> Result<u64, Error> {
        let xattrs = format::xattr_body(meta.xattrs.bytes());
        let inode = self.inode(kind, Layout::Plain, meta, 0, rdev, xattrs.len());
        let nid = self.place(&inode, &xattrs, &[])?;
        self.name(dir, name, nid, kind)?;
        Ok(nid)
    }

    /// One more name for a file that is there.
    pub fn link(&mut self, dir: DirId, name: &[u8], nid: u64, kind: FileType) -> Result<(), Error> {
        *self.links.entry(nid).or_insert(1) += 1;
        self.name(dir, name, nid, kind)
    }

    pub fn whiteout(&mut self, dir: DirId, name: &[u8]) -> Result<(), Error> {
        self.held.take(name.len())?;
        let removed = self.tree.put(dir, name, Node::Whiteout);
        self.forget(&removed);
        Ok(())
    }

    fn content(
        &mut self,
        dir: DirId,
        name: &[u8],
        kind: FileType,
        meta: &Meta,
        size: u64,
        source: &mut dyn Read,
    ) -> Result<u64, Error> {
        let xattrs = format::xattr_body(meta.xattrs.bytes());
        let mut rest = (size % BLOCK as u64) as usize;
        let inline = rest > 0 && INODE + xattrs.len() + rest <= BLOCK;
        let start = (self.out.end() / BLOCK as u64) as u32;
        self.out.append_from(source, size - rest as u64)?;
        let mut tail = [0; BLOCK];
        read_exact(source, &mut tail[..rest])?;
        if !inline && rest > 0 {
            self.out.append(&tail)?;
            rest = 0;
        }
        let layout = if inline { Layout::Inline } else { Layout::Plain };
        let inode = self.inode(kind, layout, meta, size, start, xattrs.len());
        let nid = self.place(&inode, &xattrs, &tail[..rest])?;
        self.name(dir, name, nid, kind)?;
        Ok(nid)
    }

    pub(super) fn inode(
        &mut self,
        kind: FileType,
        layout: Layout,
        meta: &Meta,
        size: u64,
        raw: u32,
        xattr_bytes: usize,
    ) -> Inode {
        self.inodes += 1;
        let (number, nlink, implied) = (self.inodes, 1, false);
        let Meta { mode, uid, gid, mtime, .. } = *meta;
        Inode { layout, kind, mode, uid, gid, mtime, size, nlink, number, raw, xattr_bytes, implied }
    }

    pub(super) fn place(&mut self, inode: &Inode, xattrs: &[u8], tail: &[u8]) -> Result<u64, Error> {
        let at = self.reserve(INODE + xattrs.len() + tail.len())?;
        self.out.patch(at, &inode.encode())?;
        self.out.patch(at + INODE as u64, xattrs)?;
        self.out.patch(at + (INODE + xattrs.len()) as u64, tail)?;
        Ok(at / SLOT)
    }

    /// Room in the open metadata block, or in a new one, or in several for what is larger than one.
    pub(super) fn reserve(&mut self, bytes: usize) -> Result<u64, Error> {
        let (next, end) = self.open;
        let at = if next + bytes as u64 <= end {
            next
        } else {
            let at = self.out.end();
            self.out.append_zeros(bytes.next_multiple_of(BLOCK))?;
            at
        };
        let end = if at == next { end } else { self.out.end() };
        self.open = ((at + bytes as u64).next_multiple_of(SLOT), end);
        Ok(at)
    }

    fn name(&mut self, dir: DirId, name: &[u8], nid: u64, kind: FileType) -> Result<(), Error> {
        self.held.take(name.len())?;
        let removed = self.tree.put(dir, name, Node::File { nid, kind });
        self.forget(&removed);
        Ok(())
    }

    fn put_dir(&mut self, parent: DirId, name: &[u8], meta: Meta, implied: bool) -> DirId {
        let (dir, removed) = self.tree.put_dir(parent, name, meta, implied);
        self.forget(&removed);
        dir
    }

    fn forget(&mut self, removed: &Removed) {
        for nid in &removed.files {
            if let Some(links) = self.links.get_mut(nid) {
                *links -= 1;
            }
        }
    }
}

fn read_exact(source: &mut dyn Read, into: &mut [u8]) -> Result<(), Error> {
    source.read_exact(into).map_err(Error::Content)
}
