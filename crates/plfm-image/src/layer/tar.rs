//! A strict reader of tar archives: ustar, GNU and PAX, one member after another, from a stream.
//!
//! Where two readers could see two archives, this one sees an error: sizes that contradict one another, data where
//! there is none, two extended headers for one member. The field layout is the `tar` crate's; its iterator is not used,
//! for it collects extended headers of any length in memory and splits PAX records at line ends.

mod fields;

use std::io::{self, Read};

use tar::{EntryType, GnuExtSparseHeader, Header};

use self::fields::{archived_size, checksum, kind, number};
use super::pax::{self, Pax};
use super::sparse::{Lines, Map, PIECES_MAX, Run};
use super::{Fault, shown};
use crate::erofs::{FileType, Time};

const BLOCK: u64 = 512;
/// As large as the readers of container engines allow; a path is at most 4 KiB, an attribute 64 KiB.
const EXTENSION_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    Regular,
    Directory,
    Symlink,
    HardLink,
    Special { kind: FileType, major: u32, minor: u32 },
}

#[derive(Debug, PartialEq, Eq)]
pub struct Member {
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: Kind,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The content's size, holes included.
    pub size: u64,
}

/// The members of an archive; while one is looked at, reading gives its content.
pub struct Members<R> {
    input: R,
    at: u64,
    /// Bytes of the present member that are not read yet, and the zeros behind them.
    left: u64,
    padding: u64,
    map: Option<Map>,
}

/// Headers that speak about the next one.
#[derive(Default)]
struct Before {
    pax: Option<Pax>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<R: Read> Members<R> {
    pub fn new(input: R) -> Self {
        Self { input, at: 0, left: 0, padding: 0, map: None }
    }

    /// The next member; none at the end mark, or where the bytes end between two members.
    pub fn next(&mut self) -> Result<Option<Member>, Fault> {
        let mut before = Before::default();
        loop {
            self.skip()?;
            let at = self.at;
            let Some(header) = self.header()? else {
                let alone = before.pax.is_some() || before.name.is_some() || before.link.is_some();
                return if alone { Err(Fault::Truncated) } else { Ok(None) };
            };
            let refuse = |why| Fault::Header { at, why };
            let size = number(&header.as_old().size).and_then(|size| u64::try_from(size).ok());
            let size = size.ok_or(refuse("the size is not a number"))?;
            if !self.extension(&header, size, &mut before).map_err(|error| error.at(at))? {
                return self.member(&header, size, before).map(Some).map_err(|error| error.at(at));
            }
        }
    }

    /// Where the present member's content begins in the archive, if it lies there in one piece.
    pub fn content_at(&self) -> Option<u64> {
        self.map.is_none().then_some(self.at)
    }

    /// The reader behind the end mark.
    pub fn into_input(self) -> R {
        self.input
    }

    fn header(&mut self) -> Result<Option<Header>, Fault> {
        let mut header = Header::new_old();
        let bytes = header.as_mut_bytes();
        let read = fill(&mut self.input, bytes)?;
        if read == 0 {
            return Ok(None);
        }
        if read < bytes.len() {
            return Err(Fault::Truncated);
        }
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum = checksum(header.as_bytes());
        if number(&header.as_old().cksum) != Some(i64::from(sum)) {
            return Err(Fault::Checksum { at: self.at });
        }
        self.at += BLOCK;
        Ok(Some(header))
    }

    /// Whether the header was one that speaks about the next one; then it is read.
    fn extension(&mut self, header: &Header, size: u64, before: &mut Before) -> Result<bool, Wrong> {
        const TWICE: Wrong = Wrong::Header("two headers say the same thing about one entry");
        match header.entry_type() {
            EntryType::XHeader => {
                let pax = Pax::parse(&self.extension_bytes(size)?).map_err(Wrong::Header)?;
                before.pax.replace(pax).map_or(Ok(()), |_| Err(TWICE))?;
            }
            EntryType::GNULongName => {
                let name = until_nul(self.extension_bytes(size)?);
                before.name.replace(name).map_or(Ok(()), |_| Err(TWICE))?;
            }
            EntryType::GNULongLink => {
                let link = until_nul(self.extension_bytes(size)?);
                before.link.replace(link).map_or(Ok(()), |_| Err(TWICE))?;
            }
            EntryType::XGlobalHeader => pax::check_global(&self.extension_bytes(size)?).map_err(Wrong::Header)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn extension_bytes(&mut self, size: u64) -> Result<Vec<u8>, Wrong> {
        if size > EXTENSION_BYTES_MAX {
            return Err(Wrong::Header("an extended header is longer than 1 MiB"));
        }
        self.begin(size);
        let mut bytes = vec![0; size as usize];
        self.read_exact(&mut bytes).map_err(|_| Wrong::Truncated)?;
        Ok(bytes)
    }

    fn member(&mut self, header: &Header, header_size: u64, before: Before) -> Result<Member, Wrong> {
        let Before { pax, name, link } = before;
        let mut pax = pax.unwrap_or_default();
        let path =
            pax.sparse.name.take().or(pax.path.take()).or(name).unwrap_or_else(|| header.path_bytes().into_owned());
        let link =
            pax.link.take().or(link).unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
        let wrong = |why| Wrong::Entry(shown(&path), why);
        let kind = kind(header, &path).map_err(wrong)?;
        let archived = archived_size(header_size, pax.size).map_err(wrong)?;
        if kind != Kind::Regular && archived != 0 {
            return Err(wrong("only a regular file has data"));
        }
        self.begin(archived);
        self.map = self.sparse_map(header, &pax).map_err(|why| why.named(&path))?;
        let id = |field: &[u8], pax: Option<u64>| {
            let id = pax.map_or_else(|| number(field).and_then(|id| u64::try_from(id).ok()), Some);
            // The last number means "nobody" to the kernel.
            id.and_then(|id| u32::try_from(id).ok()).filter(|id| *id != u32::MAX)
        };
        let seconds = number(&header.as_old().mtime).ok_or(wrong("the time is not a number"))?;
        Ok(Member {
            kind,
            mode: number(&header.as_old().mode).ok_or(wrong("the mode is not a number"))? as u16 & 0o7777,
            uid: id(&header.as_old().uid, pax.uid).ok_or(wrong("the user id is not one"))?,
            gid: id(&header.as_old().gid, pax.gid).ok_or(wrong("the group id is not one"))?,
            mtime: pax.mtime.unwrap_or(Time { seconds, nanos: 0 }),
            xattrs: pax.xattrs.into_iter().collect(),
            size: self.map.as_ref().map_or(archived, Map::size),
            path,
            link,
        })
    }

    fn sparse_map(&mut self, header: &Header, pax: &Pax) -> Result<Option<Map>, Wrong> {
        const LACKS: Wrong = Wrong::Header("a sparse file lacks its size or its map");
        let (numbers, size) = if header.entry_type() == EntryType::GNUSparse {
            self.gnu_sparse(header)?
        } else if pax.sparse.major == Some(1) {
            (self.sparse_lines()?, pax.sparse.real_size.ok_or(LACKS)?)
        } else if pax.sparse.major.unwrap_or(0) != 0 {
            return Err(Wrong::Header("the sparse format is not known"));
        } else if let Some(map) = &pax.sparse.map {
            (map.clone(), pax.sparse.real_size.ok_or(LACKS)?)
        } else if pax.sparse.real_size.is_some() {
            return Err(LACKS);
        } else {
            return Ok(None);
        };
        Map::new(&numbers, size, self.left).map(Some).map_err(Wrong::Header)
    }

    /// Old GNU: four pieces in the header, then blocks of 21 between it and the data.
    fn gnu_sparse(&mut self, header: &Header) -> Result<(Vec<u64>, u64), Wrong> {
        const NUMBER: Wrong = Wrong::Header("the sparse map is not pairs of numbers, or is too long");
        let gnu = header.as_gnu().ok_or(Wrong::Header("a sparse file is not in GNU's format"))?;
        let unsigned = |field: &[u8]| number(field).and_then(|number| u64::try_from(number).ok()).ok_or(NUMBER);
        let mut numbers = Vec::new();
        let mut take = |pieces: &[tar::GnuSparseHeader]| {
            for piece in pieces.iter().filter(|piece| piece.offset[0] != 0 && piece.numbytes[0] != 0) {
                numbers.extend([unsigned(&piece.offset)?, unsigned(&piece.numbytes)?]);
            }
            if numbers.len() / 2 > PIECES_MAX { Err(NUMBER) } else { Ok(()) }
        };
        take(&gnu.sparse)?;
        let mut more = gnu.isextended[0] != 0;
        while more {
            let mut block = GnuExtSparseHeader::new();
            if fill(&mut self.input, block.as_mut_bytes()).map_err(|_| Wrong::Truncated)? < BLOCK as usize {
                return Err(Wrong::Truncated);
            }
            self.at += BLOCK;
            take(&block.sparse)?;
            more = block.isextended[0] != 0;
        }
        Ok((numbers, unsigned(&gnu.realsize)?))
    }

    /// PAX 1.0: lines of numbers before the data, padded to a block.
    fn sparse_lines(&mut self) -> Result<Vec<u64>, Wrong> {
        let mut lines = Lines::default();
        loop {
            let mut block = [0; BLOCK as usize];
            if self.left < BLOCK {
                return Err(Wrong::Header("the sparse map has no end"));
            }
            self.read_exact(&mut block).map_err(|_| Wrong::Truncated)?;
            if let Some(numbers) = lines.push(&block).map_err(Wrong::Header)? {
                return Ok(numbers);
            }
        }
    }

    fn begin(&mut self, size: u64) {
        (self.left, self.padding, self.map) = (size, size.wrapping_neg() % BLOCK, None);
    }

    /// Past what is left of the present member. Some builders (umoci's `insert`) end with the last byte of the last file, and readers
    /// that engines use take that for the end: only the content must be there.
    fn skip(&mut self) -> Result<(), Fault> {
        self.map = None;
        let left = self.left;
        let rest = left.checked_add(self.padding).ok_or(Fault::Truncated)?;
        let skipped = io::copy(&mut (&mut self.input).take(rest), &mut io::sink()).map_err(|_| Fault::Truncated)?;
        self.at += skipped;
        (self.left, self.padding) = (0, 0);
        if skipped >= left { Ok(()) } else { Err(Fault::Truncated) }
    }

    fn read_archived(&mut self, into: &mut [u8], most: u64) -> io::Result<usize> {
        let most = usize::try_from(most.min(self.left)).unwrap_or(usize::MAX).min(into.len());
        let read = self.input.read(&mut into[..most])?;
        self.left -= read as u64;
        self.at += read as u64;
        Ok(read)
    }
}

impl<R: Read> Read for Members<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(map) = &mut self.map else {
            return self.read_archived(into, u64::MAX);
        };
        let count = match map.run() {
            Run::End => 0,
            Run::Data(bytes) => self.read_archived(into, bytes)?,
            Run::Zeros(bytes) => {
                let count = into.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
                into[..count].fill(0);
                count
            }
        };
        self.map.iter_mut().for_each(|map| map.advance(count as u64));
        Ok(count)
    }
}

/// What is wrong, before it is known where.
enum Wrong {
    Truncated,
    Header(&'static str),
    Entry(String, &'static str),
}

impl Wrong {
    fn at(self, at: u64) -> Fault {
        match self {
            Self::Truncated => Fault::Truncated,
            Self::Header(why) => Fault::Header { at, why },
            Self::Entry(entry, why) => Fault::Entry { entry, why },
        }
    }

    fn named(self, path: &[u8]) -> Self {
        match self {
            Self::Header(why) => Self::Entry(shown(path), why),
            other => other,
        }
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    bytes
}

fn fill(input: &mut impl Read, into: &mut [u8]) -> Result<usize, Fault> {
    let mut filled = 0;
    while filled < into.len() {
        match input.read(&mut into[filled..]).map_err(|_| Fault::Truncated)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
