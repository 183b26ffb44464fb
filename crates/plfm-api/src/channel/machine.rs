//! The multiplexer's rules, without input, output or time: bytes and calls go in, bytes and [`Event`]s come out.
//!
//! ```text
//!            attach(nonce)             hello / ack                 quiesce, quiesce-ack
//!   Idle ──────────────────▶ Seeking ────────────────▶ Linked ───────────────────────────▶ Idle (host), Seeking (guest)
//!                               ▲                         │
//!                               └─── a tag that's wrong ──┘
//! ```
//!
//! Between a host's quiesce and the answer it is Quiescing: it listens and says nothing. A guest seeks from the start. Whoever loses the
//! thread drops all streams: half a stream is worth nothing to either end.

use std::collections::{HashMap, VecDeque};

use bytes::{Buf, BytesMut};

use super::Secret;
use super::frame::{self, Corrupt, Head, Kind, Tags};

mod calls;
mod output;
mod queue;
mod state;

use queue::Queue;
pub use state::{Read, Written};
use state::{Stage, State};

/// What one side may send on a stream before the other has read: enough for 45 MiB/s at 5 ms, small against a guest's memory.
pub const WINDOW: u32 = 256 << 10;
/// Written to the byte stream ahead of its need: small, so that an urgent frame waits for at most this much.
pub const OUT_QUEUE: usize = 48 << 10;
/// Streams of one attach. Each may hold two windows' worth of memory at either end.
pub const STREAMS_MAX: usize = 1024;
/// Frames that answer a peer and wait to be sent; past it nothing more is read from that peer.
pub const CONTROL_MAX: usize = 4096;
/// The text of a refusal.
pub const REASON_MAX: usize = 512;

/// One stream of one attach; ids come again after a new attach, keys do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub epoch: u64,
    pub id: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Linked,
    /// The thread was lost; every stream has ended. A host attaches again, with a fresh nonce.
    Lost,
    Quiesced,
    Incoming(Key, u32),
    Opened(Key),
    Refused(Key, String),
    Readable(Key),
    Writable(Key),
    Pong(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Idle,
    Seeking,
    Linked,
    Quiescing,
}

enum Role {
    Host { secret: Secret, nonce: u64 },
    Guest { secret: Option<Secret> },
}

pub struct Machine {
    role: Role,
    phase: Phase,
    epoch: u64,
    sending: Tags,
    expected: Tags,
    streams: HashMap<u32, State>,
    /// The id that the host's next stream takes; odd.
    next_id: u32,
    control: VecDeque<(Kind, u32, Vec<u8>)>,
    ready: Queue,
    out: BytesMut,
    events: VecDeque<Event>,
}

impl Machine {
    pub fn host(secret: Secret) -> Self {
        Self::new(Role::Host { secret, nonce: 0 }, Phase::Idle)
    }

    pub fn guest(secret: Option<Secret>) -> Self {
        Self::new(Role::Guest { secret }, Phase::Seeking)
    }

    fn new(role: Role, phase: Phase) -> Self {
        Self {
            role,
            phase,
            epoch: 0,
            sending: Tags::of(0),
            expected: Tags::of(0),
            streams: HashMap::new(),
            next_id: 1,
            control: VecDeque::new(),
            ready: Queue::default(),
            out: BytesMut::new(),
            events: VecDeque::new(),
        }
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The host begins anew: all streams end, the guest is called with `nonce`.
    pub fn attach(&mut self, new: u64) {
        let Role::Host { nonce, .. } = &mut self.role else { return };
        *nonce = new;
        self.drop_streams();
        self.phase = Phase::Seeking;
        self.say_hello();
    }

    /// The host calls again with the same nonce, while there is no answer and the last call has left.
    pub fn repeat_hello(&mut self) {
        if self.phase == Phase::Seeking && self.out.is_empty() {
            self.say_hello();
        }
    }

    fn say_hello(&mut self) {
        let Role::Host { secret, nonce } = &self.role else { return };
        let (mut tags, mut payload) = (Tags::of(*nonce), nonce.to_be_bytes().to_vec());
        payload.extend_from_slice(secret.as_bytes());
        self.out.extend_from_slice(&[0; frame::PAD]);
        frame::encode(Kind::Hello, 0, tags.take(), &payload, &mut self.out);
        self.sending = tags;
    }

    /// The host asks for silence: what follows the guest's answer is nothing, until the next attach.
    pub fn quiesce(&mut self) {
        self.control.push_back((Kind::Quiesce, 0, Vec::new()));
    }

    pub fn ping(&mut self, number: u64) {
        self.control.push_back((Kind::Ping, 0, number.to_be_bytes().to_vec()));
    }

    /// The byte stream is over, for good.
    pub fn close(&mut self) {
        self.drop_streams();
        self.phase = Phase::Idle;
    }

    /// Takes whole frames from the front of `bytes` and leaves the rest.
    pub fn receive(&mut self, bytes: &mut BytesMut) {
        while self.listens() && self.step(bytes) {}
    }

    /// False while the peer has to read before it may say more.
    pub fn listens(&self) -> bool {
        self.control.len() < CONTROL_MAX
    }

    fn step(&mut self, bytes: &mut BytesMut) -> bool {
        match self.phase {
            Phase::Idle => {
                bytes.clear();
                false
            }
            Phase::Seeking => self.seek(bytes),
            Phase::Linked | Phase::Quiescing => self.follow(bytes).unwrap_or_else(|Corrupt| self.lose()),
        }
    }

    /// Looks for the one frame that starts an attach, byte by byte; true when something was decided.
    fn seek(&mut self, bytes: &mut BytesMut) -> bool {
        let start = bytes.iter().position(|byte| *byte == frame::MAGIC[0]).unwrap_or(bytes.len());
        bytes.advance(start);
        match self.greeting(bytes) {
            Ok(None) => false,
            Ok(Some((size, nonce))) => {
                bytes.advance(size);
                self.link(nonce);
                true
            }
            Err(Corrupt) => {
                bytes.advance(1);
                true
            }
        }
    }

    /// The hello (or its answer) at the front of `bytes`: its size and nonce.
    fn greeting(&self, bytes: &[u8]) -> Result<Option<(usize, u64)>, Corrupt> {
        let Some(head) = frame::head(bytes)? else { return Ok(None) };
        let (kind, len) = match &self.role {
            Role::Host { .. } => (Kind::HelloAck, frame::NONCE),
            Role::Guest { .. } => (Kind::Hello, frame::HELLO_PAYLOAD),
        };
        if head.kind != kind || head.len != len {
            return Err(Corrupt);
        }
        if !frame::complete(&head, bytes)? {
            return Ok(None);
        }
        let payload = &bytes[frame::HEAD..frame::HEAD + head.len];
        let nonce = frame::nonce(payload).ok_or(Corrupt)?;
        if head.tag != Tags::first(nonce) || !self.knows(nonce, payload) {
            return Err(Corrupt);
        }
        Ok(Some((frame::HEAD + head.len + frame::TAIL, nonce)))
    }

    fn knows(&self, found: u64, payload: &[u8]) -> bool {
        match &self.role {
            Role::Host { nonce, .. } => found == *nonce,
            Role::Guest { secret: Some(secret) } => payload[frame::NONCE..] == secret.as_bytes()[..],
            Role::Guest { secret: None } => true,
        }
    }

    fn link(&mut self, nonce: u64) {
        self.expected = Tags::of(nonce);
        self.expected.take();
        self.phase = Phase::Linked;
        if let Role::Guest { .. } = self.role {
            self.drop_streams();
            self.sending = Tags::of(nonce);
            self.control.push_back((Kind::HelloAck, 0, nonce.to_be_bytes().to_vec()));
        }
        self.events.push_back(Event::Linked);
    }

    /// One frame of a running attach; false when bytes are missing.
    fn follow(&mut self, bytes: &mut BytesMut) -> Result<bool, Corrupt> {
        let Some(head) = frame::head(bytes)? else { return Ok(false) };
        if head.kind == Kind::HelloAck {
            return self.late_answer(bytes);
        }
        if head.tag != self.expected.peek() {
            return Err(Corrupt);
        }
        if !frame::complete(&head, bytes)? {
            return Ok(false);
        }
        self.expected.take();
        self.act(head, &bytes[frame::HEAD..frame::HEAD + head.len])?;
        bytes.advance(frame::HEAD + head.len + frame::TAIL);
        Ok(true)
    }

    /// The guest heard a repeated hello after the first: it has begun anew before any stream, so its numbers have too.
    fn late_answer(&mut self, bytes: &mut BytesMut) -> Result<bool, Corrupt> {
        let Role::Host { .. } = self.role else { return Err(Corrupt) };
        let Some((size, nonce)) = self.greeting(bytes)? else { return Ok(false) };
        bytes.advance(size);
        self.expected = Tags::of(nonce);
        self.expected.take();
        Ok(true)
    }

    fn act(&mut self, head: Head, payload: &[u8]) -> Result<(), Corrupt> {
        let id = head.stream;
        match head.kind {
            Kind::Hello | Kind::HelloAck => return Err(Corrupt),
            Kind::Open => self.incoming(id, frame::word(payload, 0))?,
            Kind::Data => self.data(id, payload)?,
            Kind::Ping => self.control.push_back((Kind::Pong, 0, payload.iter().copied().take(frame::NONCE).collect())),
            Kind::Pong => self.events.extend(frame::nonce(payload).map(Event::Pong)),
            Kind::Quiesce => self.fall_silent(),
            Kind::QuiesceAck => self.rest(),
            Kind::Fin | Kind::Rst | Kind::Credit | Kind::OpenOk | Kind::OpenErr => self.signal(head.kind, id, payload),
        }
        Ok(())
    }

    fn incoming(&mut self, id: u32, port: u32) -> Result<(), Corrupt> {
        let Role::Guest { .. } = self.role else { return Err(Corrupt) };
        if id.is_multiple_of(2) || self.streams.contains_key(&id) {
            return Err(Corrupt);
        }
        if self.streams.len() >= STREAMS_MAX {
            self.control.push_back((Kind::OpenErr, id, b"too many streams".to_vec()));
            return Ok(());
        }
        self.streams.insert(id, State::new(Stage::Asked));
        self.events.push_back(Event::Incoming(self.key(id), port));
        Ok(())
    }

    fn data(&mut self, id: u32, payload: &[u8]) -> Result<(), Corrupt> {
        let key = self.key(id);
        // What is still on its way to a stream that ended here is nobody's.
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let credit = stream.take_in(payload)?;
        self.give_back(id, credit);
        self.events.push_back(Event::Readable(key));
        Ok(())
    }

    fn signal(&mut self, kind: Kind, id: u32, payload: &[u8]) {
        let key = self.key(id);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        match kind {
            Kind::Fin => stream.peer_finished = true,
            Kind::Rst => stream.peer_reset = true,
            Kind::Credit => stream.credit = stream.credit.saturating_add(frame::word(payload, 0)).min(WINDOW),
            Kind::OpenOk => stream.stage = Stage::Open,
            _ => {
                let reason = String::from_utf8_lossy(&payload[..payload.len().min(REASON_MAX)]).into_owned();
                self.streams.remove(&id);
                return self.events.push_back(Event::Refused(key, reason));
            }
        }
        self.events.extend(match kind {
            Kind::OpenOk => vec![Event::Opened(key)],
            Kind::Fin => vec![Event::Readable(key)],
            Kind::Rst => vec![Event::Readable(key), Event::Writable(key)],
            _ => vec![],
        });
        self.settle(id);
    }

    /// The guest's side of a snapshot: the answer is the last thing that it says.
    fn fall_silent(&mut self) {
        if let Role::Guest { .. } = self.role {
            self.lose_streams_only();
            self.control.push_back((Kind::QuiesceAck, 0, Vec::new()));
        }
    }

    fn rest(&mut self) {
        self.drop_streams();
        self.phase = Phase::Idle;
        self.events.push_back(Event::Quiesced);
    }

    fn lose(&mut self) -> bool {
        self.drop_streams();
        self.phase = if let Role::Host { .. } = self.role { Phase::Idle } else { Phase::Seeking };
        self.events.push_back(Event::Lost);
        true
    }

    fn drop_streams(&mut self) {
        self.lose_streams_only();
        self.out.clear();
    }

    fn lose_streams_only(&mut self) {
        self.epoch += 1;
        for (id, _) in self.streams.drain() {
            let key = Key { epoch: self.epoch - 1, id };
            self.events.extend([Event::Readable(key), Event::Writable(key)]);
        }
        self.control.clear();
        self.ready = Queue::default();
    }

    fn key(&self, id: u32) -> Key {
        Key { epoch: self.epoch, id }
    }
}
