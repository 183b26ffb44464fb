//! The names of an image while it is written: one sorted map for all directories.
//!
//! A key is the directory's number, big-endian, then the name: a directory's names are neighbours and sorted. One map
//! for all keeps a directory with one name as cheap as a name, which a map per directory would not.

use std::collections::BTreeMap;

use super::{FileType, Meta};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirId(pub(super) u32);

impl DirId {
    pub const ROOT: Self = Self(0);
}

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    Dir(DirId),
    /// An inode that is written; several names may lead to it.
    File {
        nid: u64,
        kind: FileType,
    },
    /// The lower layers' file of this name is gone.
    Whiteout,
}

pub struct Dir {
    pub meta: Meta,
    pub implied: bool,
    /// Nothing of the lower layers' directory of this name is seen.
    pub opaque: bool,
    pub nid: u64,
}

#[derive(Clone, Copy)]
struct Slot {
    node: Node,
    /// There was a whiteout of this name too: if a directory follows, it is opaque.
    hides: bool,
}

pub struct Tree {
    names: BTreeMap<Box<[u8]>, Slot>,
    dirs: Vec<Dir>,
    /// Reused for look-ups.
    key: Vec<u8>,
}

impl Tree {
    pub fn new() -> Self {
        let root = Dir { meta: Meta::implied(), implied: true, opaque: false, nid: super::format::ROOT_NID };
        Self { names: BTreeMap::new(), dirs: vec![root], key: Vec::new() }
    }

    pub fn dir(&self, dir: DirId) -> &Dir {
        &self.dirs[dir.0 as usize]
    }

    pub fn dir_mut(&mut self, dir: DirId) -> &mut Dir {
        &mut self.dirs[dir.0 as usize]
    }

    pub fn get(&mut self, dir: DirId, name: &[u8]) -> Option<Node> {
        self.set_key(dir, name);
        self.names.get(self.key.as_slice()).map(|slot| slot.node)
    }

    /// A new directory under a name; what the name led to is returned.
    pub fn put_dir(&mut self, parent: DirId, name: &[u8], meta: Meta, implied: bool) -> (DirId, Removed) {
        let dir = DirId(u32::try_from(self.dirs.len()).expect("entries are bounded far below"));
        let removed = self.put(parent, name, Node::Dir(dir));
        self.dirs.push(Dir { meta, implied, opaque: removed.hides, nid: 0 });
        (dir, removed)
    }

    /// Binds a name to something new; the last one wins, but a whiteout only speaks about lower layers.
    pub fn put(&mut self, dir: DirId, name: &[u8], node: Node) -> Removed {
        self.set_key(dir, name);
        let Some(old) = self.names.get_mut(self.key.as_slice()) else {
            self.names.insert(self.key.as_slice().into(), Slot { node, hides: node == Node::Whiteout });
            return Removed::default();
        };
        if let Node::Dir(below) = old.node {
            let opaque = &mut self.dirs[below.0 as usize].opaque;
            *opaque |= node == Node::Whiteout;
            old.hides |= *opaque;
        }
        old.hides |= node == Node::Whiteout;
        if node == Node::Whiteout {
            return Removed::default();
        }
        let (before, hides) = (std::mem::replace(&mut old.node, node), old.hides);
        Removed { hides, ..self.removed(before) }
    }

    /// The names of a directory from one name up to another, sorted bytewise.
    pub fn names(&self, dir: DirId, from: &[u8], to: Option<&[u8]>) -> impl Iterator<Item = (&[u8], Node)> + use<'_> {
        let to = match to {
            Some(to) => key(dir, to),
            None => key(DirId(dir.0 + 1), b""),
        };
        self.names.range(key(dir, from)..to).map(|(key, slot)| (&key[KEY_HEAD..], slot.node))
    }

    /// How many whiteouts there are; the link count of an inode has 32 bits, and so have our entries.
    pub fn whiteouts(&self) -> u32 {
        self.names.values().filter(|slot| slot.node == Node::Whiteout).count() as u32
    }

    /// Every directory that the root leads to, parents first, with its parent.
    pub fn directories(&self) -> Vec<(DirId, DirId)> {
        let mut all = vec![(DirId::ROOT, DirId::ROOT)];
        let mut next = 0;
        while let Some(&(dir, _)) = all.get(next) {
            all.extend(self.names(dir, b"", None).filter_map(|(_, node)| match node {
                Node::Dir(below) => Some((below, dir)),
                _ => None,
            }));
            next += 1;
        }
        all
    }

    fn removed(&mut self, node: Node) -> Removed {
        let mut removed = Removed::default();
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            match node {
                Node::File { nid, .. } => removed.files.push(nid),
                Node::Whiteout => {}
                Node::Dir(dir) => {
                    self.dir_mut(dir).meta = Meta::default();
                    while let Some(key) = self.first(dir) {
                        open.extend(self.names.remove(&key).map(|slot| slot.node));
                    }
                }
            }
        }
        removed
    }

    fn first(&self, dir: DirId) -> Option<Box<[u8]>> {
        self.names.range(key(dir, b"")..key(DirId(dir.0 + 1), b"")).next().map(|(key, _)| key.clone())
    }

    fn set_key(&mut self, dir: DirId, name: &[u8]) {
        self.key.clear();
        self.key.extend(dir.0.to_be_bytes());
        self.key.extend(name);
    }
}

const KEY_HEAD: usize = size_of::<u32>();

fn key(dir: DirId, name: &[u8]) -> Box<[u8]> {
    [dir.0.to_be_bytes().as_slice(), name].concat().into()
}

/// What a new meaning of a name took away.
#[derive(Default)]
pub struct Removed {
    pub files: Vec<u64>,
    /// There was a whiteout of this name as well.
    pub hides: bool,
}
