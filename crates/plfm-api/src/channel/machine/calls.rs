//! What the streams' owners call.

use super::state::{Read, Stage, State, Written};
use super::{Key, Machine, Phase, REASON_MAX, Role, STREAMS_MAX};
use crate::channel::frame::Kind;

impl Machine {
    /// Asks the guest for a stream; `None` while there is no link or no room.
    pub fn open(&mut self, port: u32) -> Option<Key> {
        let Role::Host { .. } = self.role else { return None };
        if self.phase != Phase::Linked || self.streams.len() >= STREAMS_MAX {
            return None;
        }
        while self.streams.contains_key(&self.next_id) {
            self.next_id = self.next_id.wrapping_add(2);
        }
        let id = self.next_id;
        self.next_id = id.wrapping_add(2);
        self.streams.insert(id, State::new(Stage::Asking));
        self.control.push_back((Kind::Open, id, port.to_be_bytes().to_vec()));
        Some(self.key(id))
    }

    pub fn accept(&mut self, key: Key) {
        if let Some(stream) = self.stream(key) {
            stream.stage = Stage::Open;
            self.control.push_back((Kind::OpenOk, key.id, Vec::new()));
        }
    }

    pub fn refuse(&mut self, key: Key, reason: &str) {
        if self.stream(key).is_some() {
            self.streams.remove(&key.id);
            let reason = reason.bytes().take(REASON_MAX).collect();
            self.control.push_back((Kind::OpenErr, key.id, reason));
        }
    }

    /// `None` when the attach of this stream is over.
    pub fn is_open(&mut self, key: Key) -> Option<bool> {
        self.stream(key).map(|stream| stream.stage == Stage::Open)
    }

    pub fn read(&mut self, key: Key, room: usize, take: impl FnOnce(&[u8])) -> Read {
        let Some(stream) = self.stream(key) else { return Read::Reset };
        let (read, credit) = stream.hand_out(room, take);
        self.give_back(key.id, credit);
        read
    }

    pub fn write(&mut self, key: Key, bytes: &[u8]) -> Written {
        let Some(stream) = self.stream(key) else { return Written::Broken };
        let written = stream.accept(bytes);
        self.announce(key.id);
        written
    }

    /// No more will be written.
    pub fn finish(&mut self, key: Key) {
        if let Some(stream) = self.stream(key) {
            stream.finishing = true;
            self.announce(key.id);
        }
    }

    /// The owner is gone: what it finished is still sent, what it left unfinished is reset.
    pub fn abandon(&mut self, key: Key) {
        let Some(stream) = self.stream(key) else { return };
        if stream.stage == Stage::Asked {
            return self.refuse(key, "nobody took it");
        }
        stream.abandoned = true;
        self.settle(key.id);
    }

    fn stream(&mut self, key: Key) -> Option<&mut State> {
        self.streams.get_mut(&key.id).filter(|_| key.epoch == self.epoch)
    }

    pub(super) fn give_back(&mut self, id: u32, credit: u32) {
        if credit > 0 {
            self.control.push_back((Kind::Credit, id, credit.to_be_bytes().to_vec()));
        }
    }

    /// Queues the stream if it has something that may be sent.
    pub(super) fn announce(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.sendable()
            && !std::mem::replace(&mut stream.queued, true)
        {
            self.ready.fresh(id);
        }
    }

    /// Forgets the stream if both ends are done with it, tells the peer if this end gave up.
    pub(super) fn settle(&mut self, id: u32) {
        let Some(stream) = self.streams.get(&id) else { return };
        if stream.gives_up() {
            self.control.push_back((Kind::Rst, id, Vec::new()));
            self.streams.remove(&id);
        } else if stream.is_over() {
            self.streams.remove(&id);
        } else {
            self.announce(id);
        }
    }
}
