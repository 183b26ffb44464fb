//! One stream: what waits to be read, what waits to be sent, and how far each end has come.

use bytes::{Buf, BytesMut};

use super::WINDOW;
use crate::channel::frame::Corrupt;

/// What one stream may hold unsent; a writer waits beyond it.
const OUTBOX_MAX: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The host has asked and waits for the guest's word.
    Asking,
    /// The guest has been asked and has not decided.
    Asked,
    Open,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    Bytes(usize),
    End,
    Empty,
    Reset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Bytes(usize),
    Full,
    Broken,
}

pub struct State {
    pub stage: Stage,
    inbox: BytesMut,
    /// What the peer may still send.
    window: u32,
    /// Read by the owner and not yet given back to the peer.
    consumed: u32,
    pub outbox: BytesMut,
    /// What this end may still send.
    pub credit: u32,
    pub queued: bool,
    /// The owner will write no more; `finished` when the peer has been told.
    pub finishing: bool,
    pub finished: bool,
    pub peer_finished: bool,
    pub peer_reset: bool,
    pub abandoned: bool,
}

impl State {
    pub fn new(stage: Stage) -> Self {
        Self {
            stage,
            inbox: BytesMut::new(),
            window: WINDOW,
            consumed: 0,
            outbox: BytesMut::new(),
            credit: WINDOW,
            queued: false,
            finishing: false,
            finished: false,
            peer_finished: false,
            peer_reset: false,
            abandoned: false,
        }
    }

    /// A peer that sends more than it may, or after its own end, has lost the thread. What nobody will read is credited at once.
    pub fn take_in(&mut self, payload: &[u8]) -> Result<u32, Corrupt> {
        let size = u32::try_from(payload.len()).map_err(|_| Corrupt)?;
        self.window = self.window.checked_sub(size).filter(|_| !self.peer_finished).ok_or(Corrupt)?;
        if self.abandoned {
            self.consumed += size;
            return Ok(self.credit_due());
        }
        self.inbox.extend_from_slice(payload);
        Ok(0)
    }

    /// Up to `room` bytes for the owner, and the credit that the peer is now due.
    pub fn hand_out(&mut self, room: usize, take: impl FnOnce(&[u8])) -> (Read, u32) {
        if self.peer_reset && !self.peer_finished {
            return (Read::Reset, 0);
        }
        if self.inbox.is_empty() {
            return (if self.peer_finished { Read::End } else { Read::Empty }, 0);
        }
        let size = room.min(self.inbox.len());
        take(&self.inbox[..size]);
        self.inbox.advance(size);
        self.consumed += size as u32;
        (Read::Bytes(size), self.credit_due())
    }

    fn credit_due(&mut self) -> u32 {
        if self.consumed < WINDOW / 2 || self.peer_finished {
            return 0;
        }
        self.window += self.consumed;
        std::mem::take(&mut self.consumed)
    }

    pub fn accept(&mut self, bytes: &[u8]) -> Written {
        if self.peer_reset || self.finishing {
            return Written::Broken;
        }
        match bytes.len().min(OUTBOX_MAX.saturating_sub(self.outbox.len())) {
            0 if !bytes.is_empty() => Written::Full,
            size => {
                self.outbox.extend_from_slice(&bytes[..size]);
                Written::Bytes(size)
            }
        }
    }

    pub fn owes_fin(&self) -> bool {
        self.finishing && !self.finished && self.outbox.is_empty()
    }

    pub fn sendable(&self) -> bool {
        !self.peer_reset && (self.owes_fin() || (!self.outbox.is_empty() && self.credit > 0))
    }

    /// Nobody reads here and the peer still speaks, or the owner left in the middle of a sentence.
    pub fn gives_up(&self) -> bool {
        self.abandoned && !self.peer_reset && (!self.finishing || (self.finished && !self.peer_finished))
    }

    /// Both ends are done and the owner has left.
    pub fn is_over(&self) -> bool {
        self.abandoned && (self.peer_reset || (self.finished && self.peer_finished))
    }
}
