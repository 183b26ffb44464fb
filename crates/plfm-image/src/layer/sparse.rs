//! The map of a sparse file: where its data lies, in any of the four ways to write one into a tar.

use super::pax::number;

/// Data lies in these pieces, zeros between them and up to the size.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Map {
    pieces: Vec<Piece>,
    next: usize,
    at: u64,
    size: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    offset: u64,
    bytes: u64,
}

/// A megabyte of map; a file with more holes than that is not in an image.
pub const PIECES_MAX: usize = 65_536;

/// What comes next in the file.
pub enum Run {
    Zeros(u64),
    Data(u64),
    End,
}

impl Map {
    /// A map of offset and length in turns, which has to fit the file's size and its bytes in the archive.
    pub fn new(numbers: &[u64], size: u64, archived: u64) -> Result<Self, &'static str> {
        if !numbers.len().is_multiple_of(2) || numbers.len() / 2 > PIECES_MAX {
            return Err("the sparse map is not pairs of numbers, or is too long");
        }
        let pieces: Vec<_> = numbers.chunks_exact(2).map(|pair| Piece { offset: pair[0], bytes: pair[1] }).collect();
        let (mut end, mut data) = (0_u64, 0_u64);
        for piece in &pieces {
            if piece.offset < end {
                return Err("the sparse map has pieces that overlap or are out of order");
            }
            end = piece
                .offset
                .checked_add(piece.bytes)
                .filter(|end| *end <= size)
                .ok_or("the sparse map ends behind the file")?;
            data += piece.bytes;
        }
        if data != archived {
            return Err("the sparse map has another amount of data than the archive");
        }
        Ok(Self { pieces, next: 0, at: 0, size })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn run(&mut self) -> Run {
        while let Some(piece) = self.pieces.get(self.next) {
            if self.at < piece.offset {
                return Run::Zeros(piece.offset - self.at);
            }
            if self.at < piece.offset + piece.bytes {
                return Run::Data(piece.offset + piece.bytes - self.at);
            }
            self.next += 1;
        }
        if self.at < self.size { Run::Zeros(self.size - self.at) } else { Run::End }
    }

    pub fn advance(&mut self, bytes: u64) {
        self.at += bytes;
    }
}

/// The map of format 1.0 stands before the data: a count, then the numbers, a line each.
#[derive(Default)]
pub struct Lines {
    numbers: Vec<u64>,
    digits: Vec<u8>,
}

impl Lines {
    /// Takes a block; gives the numbers when they are complete.
    pub fn push(&mut self, block: &[u8]) -> Result<Option<Vec<u64>>, &'static str> {
        for byte in block {
            if *byte != b'\n' {
                self.digits.push(*byte);
                continue;
            }
            self.numbers.push(number(&self.digits)?);
            self.digits.clear();
            if self.numbers[0] > PIECES_MAX as u64 {
                return Err("the sparse map is too long");
            }
            if self.numbers.len() as u64 == 1 + 2 * self.numbers[0] {
                return Ok(Some(self.numbers.split_off(1)));
            }
        }
        if self.digits.len() > block.len() { Err("the sparse map is not lines of numbers") } else { Ok(None) }
    }
}
