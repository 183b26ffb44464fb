//! The second half of a layer: the members of its tar become the files of an image.

use std::io::{self, Read};
use std::sync::mpsc::Receiver;

use ring::digest::{Context, SHA256};

use super::decode::finish;
use super::tar::{Kind, Member, Members};
use super::{Fault, Job, Layer, shown};
use crate::erofs::{self, DirId, FileType, Meta, Node, Writer, Written, Xattrs};
use crate::error::ImageError;
use crate::limits::{Limits, NAME_BYTES_MAX};

/// `.wh.name` says that the lower layers' `name` is gone.
const WHITEOUT: &[u8] = b".wh.";
/// Names of this form are marks, not whiteouts; of them only the opaque directory's still means something.
const MARK: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// How layers hide one another is ours to say, not a layer's.
const RESERVED_XATTRS: &[u8] = b"trusted.overlay.";
/// A symbolic link's target has to fit a path of the kernel, with its NUL.
const LINK_BYTES_MAX: usize = 4095;

pub fn unpack(job: &Job, chunks: Receiver<Vec<u8>>) -> Result<Layer, ImageError> {
    let file = tempfile::Builder::new()
        .prefix("layer-")
        .tempfile_in(&job.tmp)
        .map_err(ImageError::store("create a temporary file"))?;
    let target = file.as_file().try_clone().map_err(ImageError::store("open a temporary file"))?;
    let uuid = job.diff_id.hex().as_bytes()[..16].try_into().expect("a digest is longer");
    let mut unpacker =
        Unpacker { writer: Writer::new(target, uuid).map_err(ImageError::build)?, job, entries: 0, unpacked_bytes: 0 };
    let mut members = Members::new(Chunks::new(chunks));
    while let Some(member) = members.next().map_err(|fault| unpacker.fault(fault))? {
        unpacker.add(&member, &mut members)?;
    }
    members.into_input().finish(job)?;
    let Unpacker { writer, entries, unpacked_bytes, .. } = unpacker;
    let Written { file: written, bytes, implied, opaque, .. } = writer.finish().map_err(ImageError::build)?;
    written.sync_all().map_err(ImageError::store("write an image to disk"))?;
    Ok(Layer { file, bytes, entries, unpacked_bytes, implied, opaque })
}

struct Unpacker<'a> {
    writer: Writer,
    job: &'a Job,
    entries: u64,
    unpacked_bytes: u64,
}

/// What can stop a layer: a fault of its own, or something around it.
enum Stop {
    Entry(&'static str),
    HardLink,
    Image(ImageError),
}

impl From<erofs::Error> for Stop {
    fn from(error: erofs::Error) -> Self {
        match error {
            erofs::Error::Content(_) => Self::Entry("its content ends early"),
            erofs::Error::Names => Self::Entry("the names so far take more memory than their number allows"),
            erofs::Error::RootAttributes => Self::Entry("the root directory has more extended attributes than fit"),
            error => Self::Image(ImageError::build(error)),
        }
    }
}

impl Unpacker<'_> {
    fn add(&mut self, member: &Member, content: &mut impl Read) -> Result<(), ImageError> {
        self.try_add(member, content).map_err(|stop| match stop {
            Stop::Entry(why) => self.fault(Fault::Entry { entry: shown(&member.path), why }),
            Stop::HardLink => self.fault(Fault::HardLink { entry: shown(&member.path), target: shown(&member.link) }),
            Stop::Image(error) => error,
        })
    }

    fn fault(&self, fault: Fault) -> ImageError {
        ImageError::Layer { digest: self.job.blob.digest, fault }
    }

    fn try_add(&mut self, member: &Member, content: &mut impl Read) -> Result<(), Stop> {
        self.count_entry()?;
        self.count_bytes(member.size)?;
        let parts = parts(&member.path, self.job.budget.limits()).map_err(Stop::Entry)?;
        let Some((name, above)) = parts.split_last() else {
            return self.root(member);
        };
        let dir = self.directory(above)?;
        if name.starts_with(WHITEOUT) {
            return self.whiteout(dir, name, member);
        }
        self.put(dir, name, member, content)
    }

    fn put(&mut self, dir: DirId, name: &[u8], member: &Member, content: &mut impl Read) -> Result<(), Stop> {
        match &member.kind {
            Kind::HardLink => return self.hard_link(dir, name, &member.link),
            Kind::Special { kind: FileType::Char, major: 0, minor: 0 } => self.writer.whiteout(dir, name)?,
            Kind::Directory => drop(self.writer.directory(dir, name, meta(member)?)?),
            Kind::Regular => drop(self.writer.file(dir, name, &meta(member)?, member.size, content)?),
            Kind::Symlink if !fits_link(&member.link) => {
                return Err(Stop::Entry("its target is empty, too long, or has a NUL"));
            }
            Kind::Symlink => drop(self.writer.symlink(dir, name, &meta(member)?, &member.link)?),
            Kind::Special { kind, major, minor } => {
                let rdev = rdev(*major, *minor).ok_or(Stop::Entry("its device number is too large"))?;
                self.writer.special(dir, name, *kind, &meta(member)?, rdev)?;
            }
        }
        Ok(())
    }

    fn root(&mut self, member: &Member) -> Result<(), Stop> {
        if member.kind != Kind::Directory {
            return Err(Stop::Entry("the root is not a directory"));
        }
        Ok(self.writer.describe(DirId::ROOT, meta(member)?)?)
    }

    fn hard_link(&mut self, dir: DirId, name: &[u8], target: &[u8]) -> Result<(), Stop> {
        let parts =
            parts(target, self.job.budget.limits()).map_err(|_| Stop::Entry("its target is outside, or no path"))?;
        let (last, above) = parts.split_last().ok_or(Stop::HardLink)?;
        let mut at = DirId::ROOT;
        for part in above {
            let Some(Node::Dir(below)) = self.writer.get(at, part) else { return Err(Stop::HardLink) };
            at = below;
        }
        let Some(Node::File { nid, kind }) = self.writer.get(at, last) else { return Err(Stop::HardLink) };
        // A link to itself leaves everything as it is.
        if (at, *last) == (dir, name) {
            return Ok(());
        }
        Ok(self.writer.link(dir, name, nid, kind)?)
    }

    fn whiteout(&mut self, dir: DirId, name: &[u8], member: &Member) -> Result<(), Stop> {
        if member.kind != Kind::Regular {
            return Err(Stop::Entry("a whiteout is not a regular file"));
        }
        if name == OPAQUE {
            self.writer.opaque(dir);
            return Ok(());
        }
        if name.starts_with(MARK) {
            return Ok(());
        }
        match &name[WHITEOUT.len()..] {
            b"" | b"." | b".." => Err(Stop::Entry("a whiteout names no file")),
            gone => Ok(self.writer.whiteout(dir, gone)?),
        }
    }

    fn directory(&mut self, path: &[&[u8]]) -> Result<DirId, Stop> {
        let mut at = DirId::ROOT;
        for part in path {
            at = match self.writer.get(at, part) {
                Some(Node::Dir(below)) => below,
                // Nothing is ever written through a link.
                Some(Node::File { .. }) => return Err(Stop::Entry("it lies below something that is not a directory")),
                Some(Node::Whiteout) | None => {
                    if part.starts_with(WHITEOUT) {
                        return Err(Stop::Entry("it lies below a whiteout"));
                    }
                    self.count_entry()?;
                    self.writer.implied_directory(at, part)?
                }
            };
        }
        Ok(at)
    }

    fn count_entry(&mut self) -> Result<(), Stop> {
        self.entries += 1;
        self.job.budget.entries(1).map_err(Stop::Image)
    }

    /// Counts before anything is written: holes take no room in the archive, but they do in the image.
    fn count_bytes(&mut self, bytes: u64) -> Result<(), Stop> {
        self.job.budget.unpacked(bytes).map_err(Stop::Image)?;
        self.unpacked_bytes += bytes;
        let Limits { ratio, ratio_from_bytes, .. } = *self.job.budget.limits();
        let (digest, size) = (self.job.blob.digest, self.job.blob.size);
        if self.unpacked_bytes > ratio_from_bytes.max(size.saturating_mul(ratio)) {
            return Err(Stop::Image(ImageError::Ratio { digest, ratio }));
        }
        Ok(())
    }
}

/// The names of a path below the root; none for the root itself.
fn parts<'a>(path: &'a [u8], limits: &Limits) -> Result<Vec<&'a [u8]>, &'static str> {
    if path.is_empty() || path.contains(&0) {
        return Err("its name is empty or has a NUL");
    }
    if path.len() > limits.path_bytes {
        return Err("its name is too long");
    }
    // `/` itself is the root in some builders' words; what lies below it is not taken by an absolute name.
    if path[0] == b'/' && path != b"/" {
        return Err("its name is absolute");
    }
    let parts: Vec<_> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&b"..".as_slice()) {
        return Err("its name leads upwards");
    }
    if parts.iter().any(|part| part.len() > NAME_BYTES_MAX) {
        return Err("a part of its name is longer than 255 bytes");
    }
    if parts.len() > limits.depth { Err("it lies too deep") } else { Ok(parts) }
}

fn meta(member: &Member) -> Result<Meta, Stop> {
    let mut xattrs = Xattrs::default();
    for (name, value) in member.xattrs.iter().filter(|(name, _)| !name.starts_with(RESERVED_XATTRS)) {
        if name.len() > NAME_BYTES_MAX || name.contains(&0) {
            return Err(Stop::Entry("the name of an extended attribute is too long or has a NUL"));
        }
        // Attributes of other file systems mean nothing in this one.
        if Xattrs::knows(name) && !xattrs.push(name, value) {
            return Err(Stop::Entry("its extended attributes take more than 64 KiB"));
        }
    }
    let Member { mode, uid, gid, mtime, .. } = *member;
    Ok(Meta { mode, uid, gid, mtime, xattrs })
}

fn fits_link(target: &[u8]) -> bool {
    (1..=LINK_BYTES_MAX).contains(&target.len()) && !target.contains(&0)
}

/// The kernel's "new" encoding: 12 bits of major, 20 of minor.
fn rdev(major: u32, minor: u32) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20).then_some((minor & 0xff) | major << 8 | (minor & !0xff) << 12)
}

/// The decompressed bytes, hashed as they arrive.
struct Chunks {
    chunks: Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    used: usize,
    hash: Context,
}

impl Chunks {
    fn new(chunks: Receiver<Vec<u8>>) -> Self {
        Self { chunks, chunk: Vec::new(), used: 0, hash: Context::new(&SHA256) }
    }

    fn more(&mut self) -> bool {
        while self.used == self.chunk.len() {
            let Ok(chunk) = self.chunks.recv() else { return false };
            self.hash.update(&chunk);
            (self.chunk, self.used) = (chunk, 0);
        }
        true
    }

    /// Behind the end mark come only zeros; then the whole has to be what the configuration says.
    fn finish(mut self, job: &Job) -> Result<(), ImageError> {
        let mut zeros = true;
        while self.more() {
            zeros &= self.chunk[self.used..].iter().all(|byte| *byte == 0);
            self.used = self.chunk.len();
        }
        let (digest, found) = (job.blob.digest, finish(self.hash));
        if found != job.diff_id {
            return Err(ImageError::DiffId { digest, expected: job.diff_id, found });
        }
        if zeros { Ok(()) } else { Err(ImageError::Layer { digest, fault: Fault::Trailing }) }
    }
}

impl Read for Chunks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.more() {
            return Ok(0);
        }
        let count = (&self.chunk[self.used..]).read(into)?;
        self.used += count;
        Ok(count)
    }
}
