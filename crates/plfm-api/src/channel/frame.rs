//! The bytes of one frame. Big-endian:
//!
//! ```text
//!   D7 4D | kind u8 | flags u8 | stream u32 | len u32 ≤ 32768 | tag u32 | payload | ~tag u32
//! ```
//!
//! The tag is the folded nonce of the attach plus the frame's number in its direction. It is never FFFFFFFF, so that a tail is never
//! zero: [`PAD`] zeros complete whatever half frame an earlier host has left, and what they complete can't be taken for whole.

use bytes::{BufMut, BytesMut};

use super::Secret;

pub const MAGIC: [u8; 2] = [0xD7, 0x4D];
pub const PAYLOAD_MAX: usize = 32_768;
pub const HEAD: usize = 16;
pub const TAIL: usize = 4;
/// The longest frame: so many zeros end any frame that was begun.
pub const PAD: usize = HEAD + PAYLOAD_MAX + TAIL;
pub const NONCE: usize = 8;
pub const HELLO_PAYLOAD: usize = NONCE + Secret::BYTES;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Hello = 1,
    HelloAck = 2,
    Open = 3,
    Data = 4,
    Fin = 5,
    Rst = 6,
    Credit = 7,
    OpenOk = 8,
    OpenErr = 9,
    Ping = 10,
    Pong = 11,
    Quiesce = 12,
    QuiesceAck = 13,
}

impl Kind {
    pub const ALL: [Kind; 13] = [
        Kind::Hello,
        Kind::HelloAck,
        Kind::Open,
        Kind::Data,
        Kind::Fin,
        Kind::Rst,
        Kind::Credit,
        Kind::OpenOk,
        Kind::OpenErr,
        Kind::Ping,
        Kind::Pong,
        Kind::Quiesce,
        Kind::QuiesceAck,
    ];

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte).checked_sub(1)?).copied()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub kind: Kind,
    pub stream: u32,
    pub len: usize,
    pub tag: u32,
}

/// These bytes are not the next frame, and no more bytes will make them so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupt;

/// The head, `None` while bytes are missing, an error as soon as it is clear.
pub fn head(bytes: &[u8]) -> Result<Option<Head>, Corrupt> {
    if bytes.iter().zip(MAGIC).any(|(found, wanted)| *found != wanted) {
        return Err(Corrupt);
    }
    let kind = bytes.get(2).map(|byte| Kind::of(*byte).ok_or(Corrupt)).transpose()?;
    let (Some(kind), Some(head)) = (kind, bytes.first_chunk::<HEAD>()) else { return Ok(None) };
    let len = word(head, 8) as usize;
    if len > PAYLOAD_MAX {
        return Err(Corrupt);
    }
    Ok(Some(Head { kind, stream: word(head, 4), len, tag: word(head, 12) }))
}

/// Whether the frame with this head is all there, tail included.
pub fn complete(head: &Head, bytes: &[u8]) -> Result<bool, Corrupt> {
    let body = HEAD + head.len;
    let Some(tail) = bytes.get(body..body + TAIL) else { return Ok(false) };
    if word(tail, 0) == !head.tag { Ok(true) } else { Err(Corrupt) }
}

/// Appends a whole frame.
pub fn encode(kind: Kind, stream: u32, tag: u32, payload: &[u8], out: &mut BytesMut) {
    assert!(payload.len() <= PAYLOAD_MAX && tag != u32::MAX, "frames are cut and tagged by the machine");
    out.reserve(HEAD + payload.len() + TAIL);
    out.put_slice(&MAGIC);
    out.put_u8(kind as u8);
    out.put_u8(0);
    out.put_u32(stream);
    out.put_u32(payload.len() as u32);
    out.put_u32(tag);
    out.put_slice(payload);
    out.put_u32(!tag);
}

/// The tags of one direction of one attach, in order.
#[derive(Debug, Clone)]
pub struct Tags(u32);

impl Tags {
    pub fn of(nonce: u64) -> Self {
        Self(Self::first(nonce))
    }

    /// The tag of the hello, and of its answer.
    pub fn first(nonce: u64) -> u32 {
        let folded = (nonce >> 32) as u32 ^ nonce as u32;
        if folded == u32::MAX { 0 } else { folded }
    }

    pub fn peek(&self) -> u32 {
        self.0
    }

    pub fn take(&mut self) -> u32 {
        let tag = self.0;
        self.0 = if tag == u32::MAX - 1 { 0 } else { tag + 1 };
        tag
    }
}

/// The big-endian word at `at`, or 0 past the end: the callers have checked lengths.
pub fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_be_bytes)
}

pub fn nonce(payload: &[u8]) -> Option<u64> {
    payload.first_chunk::<NONCE>().map(|bytes| u64::from_be_bytes(*bytes))
}
