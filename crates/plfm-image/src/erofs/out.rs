//! A file that grows at its end in large writes, and may be patched anywhere.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::Error;
use super::format::BLOCK;

/// Large enough that a write costs more than its call, small beside the memory bound.
const BUFFER_BYTES: usize = 1 << 20;

pub struct Out {
    file: File,
    /// Address of the first byte in the buffer.
    base: u64,
    buffer: Vec<u8>,
}

impl Out {
    pub fn new(file: File) -> Self {
        Self { file, base: 0, buffer: Vec::with_capacity(BUFFER_BYTES) }
    }

    /// The address of the next byte.
    pub fn end(&self) -> u64 {
        self.base + self.buffer.len() as u64
    }

    pub fn append(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.room()?));
            self.buffer.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    pub fn append_zeros(&mut self, mut count: usize) -> Result<(), Error> {
        while count > 0 {
            let now = count.min(self.room()?);
            self.buffer.resize(self.buffer.len() + now, 0);
            count -= now;
        }
        Ok(())
    }

    /// Zeros up to the next block.
    pub fn pad(&mut self) -> Result<(), Error> {
        let used = (self.end() % BLOCK as u64) as usize;
        if used == 0 { Ok(()) } else { self.append_zeros(BLOCK - used) }
    }

    /// Appends exactly `count` bytes of the source, reading straight into the buffer.
    pub fn append_from(&mut self, source: &mut dyn Read, mut count: u64) -> Result<(), Error> {
        while count > 0 {
            let now = self.room()?.min(usize::try_from(count).unwrap_or(usize::MAX));
            let start = self.buffer.len();
            self.buffer.resize(start + now, 0);
            let read = read(source, &mut self.buffer[start..])?;
            self.buffer.truncate(start + read);
            count -= read as u64;
        }
        Ok(())
    }

    /// Overwrites what is there already, on disk or still in the buffer.
    pub fn patch(&mut self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        debug_assert!(at + bytes.len() as u64 <= self.end(), "a patch changes what exists");
        let on_disk = (self.base.saturating_sub(at) as usize).min(bytes.len());
        self.file.write_all_at(&bytes[..on_disk], at).map_err(Error::Write)?;
        if on_disk < bytes.len() {
            let start = (at + on_disk as u64 - self.base) as usize;
            self.buffer[start..start + bytes.len() - on_disk].copy_from_slice(&bytes[on_disk..]);
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<File, Error> {
        self.flush()?;
        Ok(self.file)
    }

    fn room(&mut self) -> Result<usize, Error> {
        if self.buffer.len() == BUFFER_BYTES {
            self.flush()?;
        }
        Ok(BUFFER_BYTES - self.buffer.len())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.file.write_all_at(&self.buffer, self.base).map_err(Error::Write)?;
        self.base += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// At least one byte: content that ends before its size is an error.
fn read(source: &mut dyn Read, into: &mut [u8]) -> Result<usize, Error> {
    loop {
        match source.read(into) {
            Ok(0) => return Err(Error::Content(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Content(error)),
        }
    }
}
