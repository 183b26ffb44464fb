//! What goes to the byte stream, and whose turn it is.

use bytes::Buf;

use super::{Event, Machine, OUT_QUEUE, Phase};
use crate::channel::frame::{self, Kind, PAYLOAD_MAX};

impl Machine {
    /// What is to be written next; empty when there is nothing.
    pub fn outgoing(&mut self) -> &[u8] {
        while self.out.len() < OUT_QUEUE && self.emit() {}
        &self.out
    }

    pub fn sent(&mut self, bytes: usize) {
        self.out.advance(bytes);
    }

    /// Appends one frame: answers and signals first, then a stream's turn.
    fn emit(&mut self) -> bool {
        if self.phase != Phase::Linked {
            return false;
        }
        if let Some((kind, id, payload)) = self.control.pop_front() {
            frame::encode(kind, id, self.sending.take(), &payload, &mut self.out);
            self.phase = match kind {
                Kind::Quiesce => Phase::Quiescing,
                Kind::QuiesceAck => Phase::Seeking,
                _ => Phase::Linked,
            };
            return true;
        }
        let Some(id) = self.ready.next() else { return false };
        self.emit_from(id);
        true
    }

    fn emit_from(&mut self, id: u32) {
        let key = self.key(id);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.queued = false;
        let size = stream.outbox.len().min(stream.credit as usize).min(PAYLOAD_MAX);
        if size > 0 {
            frame::encode(Kind::Data, id, self.sending.take(), &stream.outbox[..size], &mut self.out);
            stream.outbox.advance(size);
            stream.credit -= size as u32;
            self.events.push_back(Event::Writable(key));
        }
        if stream.owes_fin() {
            stream.finished = true;
            frame::encode(Kind::Fin, id, self.sending.take(), &[], &mut self.out);
        }
        if stream.sendable() {
            stream.queued = true;
            return self.ready.again(id);
        }
        self.settle(id);
    }
}
