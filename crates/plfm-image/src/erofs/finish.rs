//! The end of the pass: directories, link counts, block 0.
//!
//! A directory holds the node ids of its children and of its parent, so all directories get their places first, then
//! their bytes. What a directory needs is worked out twice rather than remembered: memory is bound per entry.

use std::fs::File;

use super::format::{self, BLOCK, DirBlock, INODE, Layout, NLINK_AT, ROOT_NID, SLOT, SUPER_AT, Super};
use super::tree::{DirId, Node, Tree};
use super::writer::Writer;
use super::{Error, FileType, Meta};

/// A finished image.
#[derive(Debug)]
pub struct Written {
    pub file: File,
    pub bytes: u64,
    pub inodes: u64,
    /// Directories below the root that only their children speak of; where the lower layers know them, theirs is the
    /// truth.
    pub implied: u64,
    /// The root itself hides the lower layers.
    pub opaque: bool,
}

impl Writer {
    /// Completes the image; the file is not yet synced.
    pub fn finish(mut self) -> Result<Written, Error> {
        let whiteout = self.whiteout_inode()?;
        let directories = self.tree.directories();
        let mut leaves = 0;
        for (dir, _) in &directories {
            let plan = Plan::of(&self.tree, *dir);
            leaves += plan.leaves;
            let place = if plan.root { ROOT_NID } else { self.reserve(plan.inode_bytes())? / SLOT };
            self.tree.dir_mut(*dir).nid = place;
        }
        let mut root = Vec::new();
        for (dir, parent) in &directories {
            let bytes = self.write_directory(*dir, *parent, whiteout)?;
            match *dir {
                DirId::ROOT => root = bytes,
                dir => self.out.patch(self.tree.dir(dir).nid * SLOT, &bytes)?,
            }
        }
        let doubles = self.patch_links()?;
        let inodes = directories.len() as u64 + leaves - doubles + u64::from(whiteout.is_some());
        let implied = directories.iter().skip(1).filter(|(dir, _)| self.tree.dir(*dir).implied).count() as u64;
        self.seal(&root, inodes, implied)
    }

    /// All whiteouts are names of one inode, as overlayfs itself keeps them.
    fn whiteout_inode(&mut self) -> Result<Option<u64>, Error> {
        let count = self.tree.whiteouts();
        if count == 0 {
            return Ok(None);
        }
        let mut inode = self.inode(FileType::Char, Layout::Plain, &Meta::default(), 0, 0, 0);
        inode.nlink = count;
        self.place(&inode, &[], &[]).map(Some)
    }

    /// Writes the whole blocks and returns what stands at the inode's place.
    fn write_directory(&mut self, dir: DirId, parent: DirId, whiteout: Option<u64>) -> Result<Vec<u8>, Error> {
        let plan = Plan::of(&self.tree, dir);
        let start = (self.out.end() / BLOCK as u64) as u32;
        let mut block = DirBlock::default();
        for (name, node) in listing(&self.tree, dir) {
            let of = |dir: DirId| (self.tree.dir(dir).nid, FileType::Directory);
            let (nid, kind) = match node {
                Listed::Itself => of(dir),
                Listed::Parent => of(parent),
                Listed::Child(Node::Dir(below)) => of(below),
                Listed::Child(Node::File { nid, kind }) => (nid, kind),
                Listed::Child(Node::Whiteout) => (whiteout.expect("made when there is one"), FileType::Char),
            };
            if !block.fits(name) {
                self.out.append(&block.take())?;
                self.out.pad()?;
            }
            block.push(name, nid, kind);
        }
        let rest = block.take();
        let mut bytes = self.directory_inode(dir, &plan, start);
        if plan.inline() {
            bytes.extend(rest);
        } else {
            self.out.append(&rest)?;
            self.out.pad()?;
        }
        Ok(bytes)
    }

    fn directory_inode(&mut self, dir: DirId, plan: &Plan, start: u32) -> Vec<u8> {
        let layout = if plan.inline() { Layout::Inline } else { Layout::Plain };
        let implied = self.tree.dir(dir).implied;
        let meta = std::mem::take(&mut self.tree.dir_mut(dir).meta);
        let mut inode = self.inode(FileType::Directory, layout, &meta, plan.bytes, start, plan.xattrs.len());
        (inode.nlink, inode.implied) = (plan.nlink, implied);
        [inode.encode().as_slice(), &plan.xattrs].concat()
    }

    /// Returns how many names are not the first of their file.
    fn patch_links(&mut self) -> Result<u64, Error> {
        let mut doubles = 0;
        for (nid, links) in &self.links {
            self.out.patch(nid * SLOT + NLINK_AT, &links.to_le_bytes())?;
            doubles += u64::from(links.saturating_sub(1));
        }
        Ok(doubles)
    }

    fn seal(mut self, root: &[u8], inodes: u64, implied: u64) -> Result<Written, Error> {
        let bytes = self.out.end();
        let blocks = u32::try_from(bytes / BLOCK as u64).map_err(|_| Error::Size)?;
        let opaque = self.tree.dir(DirId::ROOT).opaque;
        self.out.patch(SUPER_AT as u64, &Super { inodes, blocks, uuid: self.uuid }.seal(root))?;
        Ok(Written { file: self.out.finish()?, bytes, inodes, implied, opaque })
    }
}

/// What a directory needs, known from its names alone.
struct Plan {
    bytes: u64,
    xattrs: Vec<u8>,
    nlink: u32,
    leaves: u64,
    root: bool,
}

impl Plan {
    fn of(tree: &Tree, dir: DirId) -> Self {
        let mut plan = Self { bytes: 0, xattrs: xattrs(tree, dir), nlink: 2, leaves: 0, root: dir == DirId::ROOT };
        let mut block = DirBlock::default();
        for (name, node) in listing(tree, dir) {
            match node {
                Listed::Child(Node::Dir(_)) => plan.nlink += 1,
                Listed::Child(Node::File { .. }) => plan.leaves += 1,
                Listed::Child(Node::Whiteout) | Listed::Itself | Listed::Parent => {}
            }
            if !block.fits(name) {
                block = DirBlock::default();
                plan.bytes += BLOCK as u64;
            }
            block.push(name, 0, FileType::Directory);
        }
        plan.bytes += block.len() as u64;
        plan
    }

    fn rest(&self) -> usize {
        (self.bytes % BLOCK as u64) as usize
    }

    /// The root's inode has no room behind it, nor has anything behind a full last block.
    fn inline(&self) -> bool {
        !self.root && self.rest() > 0 && INODE + self.xattrs.len() + self.rest() <= BLOCK
    }

    fn inode_bytes(&self) -> usize {
        INODE + self.xattrs.len() + if self.inline() { self.rest() } else { 0 }
    }
}

fn xattrs(tree: &Tree, dir: DirId) -> Vec<u8> {
    let dir = tree.dir(dir);
    let mut xattrs = dir.meta.xattrs.bytes().to_vec();
    if dir.opaque {
        let (name, value) = format::XATTR_OPAQUE;
        xattrs.extend(format::xattr(name, value).expect("the prefix is known"));
    }
    format::xattr_body(&xattrs)
}

enum Listed {
    Itself,
    Parent,
    Child(Node),
}

/// A directory's names with `.` and `..` in their sorted places.
fn listing(tree: &Tree, dir: DirId) -> impl Iterator<Item = (&[u8], Listed)> {
    let between =
        move |from: &[u8], to: Option<&[u8]>| tree.names(dir, from, to).map(|(name, node)| (name, Listed::Child(node)));
    between(b"", Some(b"."))
        .chain([(b".".as_slice(), Listed::Itself)])
        .chain(between(b".", Some(b"..")))
        .chain([(b"..".as_slice(), Listed::Parent)])
        .chain(between(b"..", None))
}
