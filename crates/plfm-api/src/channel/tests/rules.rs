//! Two machines and the bytes between them, without a runtime.

use std::collections::HashMap;

use bytes::BytesMut;
use proptest::prelude::*;

use super::{Dice, secret};
use crate::channel::Secret;
use crate::channel::frame::PAYLOAD_MAX;
use crate::channel::machine::{Event, Key, Machine, Phase, Read, WINDOW, Written};

/// One end, what it has heard and not understood yet, and the events it gave.
struct End {
    machine: Machine,
    bytes: BytesMut,
    events: Vec<Event>,
}

impl End {
    fn new(machine: Machine) -> Self {
        Self { machine, bytes: BytesMut::new(), events: Vec::new() }
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.machine.receive(&mut self.bytes);
        self.events.extend(std::iter::from_fn(|| self.machine.next_event()));
    }

    /// Up to `most` bytes of what it wants to say.
    fn say(&mut self, most: usize) -> Vec<u8> {
        let outgoing = self.machine.outgoing();
        let bytes = outgoing[..most.min(outgoing.len())].to_vec();
        self.machine.sent(bytes.len());
        bytes
    }

    fn read_all(&mut self, key: Key) -> (Vec<u8>, Read) {
        let mut all = Vec::new();
        loop {
            match self.machine.read(key, 10_000, |bytes| all.extend_from_slice(bytes)) {
                Read::Bytes(_) => {}
                end => return (all, end),
            }
        }
    }

    fn incoming(&mut self) -> Vec<(Key, u32)> {
        let events = std::mem::take(&mut self.events);
        let asked = |event| if let Event::Incoming(key, port) = event { Some((key, port)) } else { None };
        events.into_iter().filter_map(asked).collect()
    }
}

struct Pair {
    host: End,
    guest: End,
}

impl Pair {
    fn linked() -> Self {
        let mut pair =
            Self { host: End::new(Machine::host(secret())), guest: End::new(Machine::guest(Some(secret()))) };
        pair.host.machine.attach(0x0123_4567_89AB_CDEF);
        pair.settle();
        assert_eq!(pair.host.machine.phase(), Phase::Linked);
        pair
    }

    /// Moves bytes until nobody has anything to say.
    fn settle(&mut self) {
        loop {
            let (down, up) = (self.host.say(usize::MAX), self.guest.say(usize::MAX));
            if down.is_empty() && up.is_empty() {
                return;
            }
            self.guest.hear(&down);
            self.host.hear(&up);
        }
    }

    fn open(&mut self, port: u32) -> (Key, Key) {
        let here = self.host.machine.open(port).unwrap();
        self.settle();
        let (there, asked) = self.guest.incoming().pop().unwrap();
        assert_eq!(asked, port);
        self.guest.machine.accept(there);
        self.settle();
        assert_eq!(self.host.machine.is_open(here), Some(true));
        (here, there)
    }
}

#[test]
fn bytes_and_ends_arrive_in_order() {
    let mut pair = Pair::linked();
    let (here, there) = pair.open(1);
    assert_eq!(pair.host.machine.write(here, b"question"), Written::Bytes(8));
    pair.host.machine.finish(here);
    pair.settle();
    assert_eq!(pair.guest.read_all(there), (b"question".to_vec(), Read::End));
    pair.guest.machine.write(there, b"answer");
    pair.guest.machine.finish(there);
    pair.guest.machine.abandon(there);
    pair.settle();
    assert_eq!(pair.host.read_all(here), (b"answer".to_vec(), Read::End));
}

#[test]
fn a_writer_stops_at_the_window_and_goes_on_with_credit() {
    let mut pair = Pair::linked();
    let (here, there) = pair.open(1);
    let mut sent = 0;
    while let Written::Bytes(size) = pair.host.machine.write(here, &[1; 10_000]) {
        sent += size;
        pair.settle();
    }
    assert!(sent >= WINDOW as usize && sent < 2 * WINDOW as usize, "{sent}");
    assert_eq!(pair.guest.read_all(there).0.len(), WINDOW as usize);
    pair.settle();
    assert_eq!(pair.guest.read_all(there).0.len(), sent - WINDOW as usize);
}

#[test]
fn a_stalled_stream_holds_up_no_other() {
    let mut pair = Pair::linked();
    let (stalled, _) = pair.open(1);
    while pair.host.machine.write(stalled, &[1; 10_000]) != Written::Full {
        pair.settle();
    }
    let (here, there) = pair.open(2);
    pair.host.machine.write(here, b"through");
    pair.settle();
    assert_eq!(pair.guest.read_all(there).0, b"through");
}

#[test]
fn a_new_stream_overtakes_bulk() {
    let mut pair = Pair::linked();
    let (bulk, _) = pair.open(1);
    let (urgent, there) = pair.open(2);
    pair.host.machine.write(bulk, &[1; 64 << 10]);
    let begun = pair.host.say(1);
    pair.host.machine.write(bulk, &[1; 64 << 10]);
    pair.host.machine.write(urgent, b"now");
    let next = pair.host.say(3 * PAYLOAD_MAX);
    let rest = pair.host.say(PAYLOAD_MAX + 100);
    pair.guest.hear(&[begun, next, rest].concat());
    assert!(!pair.host.say(1).is_empty(), "bulk is still being sent");
    assert_eq!(pair.guest.read_all(there).0, b"now");
}

#[test]
fn a_stream_left_unfinished_is_reset_at_the_other_end() {
    let mut pair = Pair::linked();
    let (here, there) = pair.open(1);
    pair.guest.machine.write(there, b"half a sent");
    pair.guest.machine.abandon(there);
    pair.settle();
    assert_eq!(pair.host.read_all(here), (vec![], Read::Reset));
    assert_eq!(pair.host.machine.write(here, b"?"), Written::Broken);
}

#[test]
fn a_refusal_carries_its_reason() {
    let mut pair = Pair::linked();
    let here = pair.host.machine.open(9).unwrap();
    pair.settle();
    let (there, _) = pair.guest.incoming().pop().unwrap();
    pair.guest.machine.refuse(there, "nobody listens");
    pair.settle();
    assert!(pair.host.events.contains(&Event::Refused(here, "nobody listens".into())));
    assert_eq!(pair.host.machine.is_open(here), None);
}

#[test]
fn after_a_quiesce_there_is_silence_until_the_next_attach() {
    let mut pair = Pair::linked();
    let (here, there) = pair.open(1);
    pair.guest.machine.write(there, b"late");
    pair.host.machine.quiesce();
    pair.settle();
    assert!(pair.host.events.contains(&Event::Quiesced));
    assert_eq!(pair.guest.machine.write(there, b"?"), Written::Broken);
    assert_eq!(pair.host.machine.open(1), None);
    assert!(pair.host.say(1).is_empty() && pair.guest.say(1).is_empty());
    pair.host.machine.attach(99);
    pair.settle();
    assert_eq!(pair.host.machine.read(here, 1, |_| ()), Read::Reset);
    pair.open(1);
}

#[test]
fn hellos_repeated_before_the_answer_make_one_link() {
    let mut pair = Pair { host: End::new(Machine::host(secret())), guest: End::new(Machine::guest(None)) };
    pair.host.machine.attach(3);
    let first = pair.host.say(usize::MAX);
    let mut later = Vec::new();
    for _ in 0..3 {
        pair.host.machine.repeat_hello();
        later.extend(pair.host.say(usize::MAX));
    }
    pair.guest.hear(&first);
    let early = pair.guest.say(usize::MAX);
    pair.guest.hear(&later[..later.len() - 5]);
    pair.host.hear(&early);
    let here = pair.host.machine.open(1).unwrap();
    pair.guest.hear(&later[later.len() - 5..]);
    pair.settle();
    let (there, _) = pair.guest.incoming().pop().unwrap();
    pair.guest.machine.accept(there);
    pair.settle();
    assert_eq!(pair.host.machine.is_open(here), Some(true));
}

#[test]
fn a_host_without_the_secret_is_not_answered() {
    let mut pair =
        Pair { host: End::new(Machine::host(Secret::new([1; 32]))), guest: End::new(Machine::guest(Some(secret()))) };
    pair.host.machine.attach(3);
    pair.settle();
    assert_eq!((pair.host.machine.phase(), pair.guest.machine.phase()), (Phase::Seeking, Phase::Seeking));
}

#[test]
fn a_peer_beyond_the_window_loses_the_link_and_nothing_is_kept() {
    let mut pair = Pair::linked();
    let (here, _) = pair.open(1);
    // A host that ignores credit: the same link, spoken by hand.
    let mut greedy = Pair::linked();
    let (greedy_here, greedy_there) = greedy.open(1);
    for _ in 0..2 * WINDOW as usize / PAYLOAD_MAX {
        greedy.host.machine.write(greedy_here, &[0; PAYLOAD_MAX]);
        greedy.settle();
        greedy.guest.read_all(greedy_there);
    }
    greedy.host.machine.write(greedy_here, b"the tags have moved on");
    let foreign = greedy.host.say(usize::MAX);
    pair.guest.hear(&foreign);
    assert!(pair.guest.events.contains(&Event::Lost));
    assert_eq!(pair.guest.machine.phase(), Phase::Seeking);
    assert_eq!(pair.host.machine.is_open(here), Some(true));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Random writes, reads and chunk sizes on several streams: each arrives whole and in order.
    #[test]
    fn any_schedule_delivers_everything(seed: u64) {
        let mut dice = Dice(seed);
        let mut pair = Pair::linked();
        let keys: Vec<(Key, Key)> = (1..5).map(|port| pair.open(port)).collect();
        let (mut sent, mut got) = (HashMap::<Key, Vec<u8>>::new(), HashMap::<Key, Vec<u8>>::new());
        for _ in 0..400 {
            let (here, there) = keys[dice.roll(keys.len())];
            let text: Vec<u8> = (0..dice.roll(50_000)).map(|at| (at * 31 + dice.roll(2)) as u8).collect();
            match dice.roll(4) {
                0 => if let Written::Bytes(size) = pair.host.machine.write(here, &text) {
                    sent.entry(there).or_default().extend(&text[..size]);
                },
                1 => got.entry(there).or_default().extend(pair.guest.read_all(there).0),
                2 => { let bytes = pair.host.say(dice.roll(70_000)); pair.guest.hear(&bytes) },
                _ => { let bytes = pair.guest.say(dice.roll(100)); pair.host.hear(&bytes) },
            }
        }
        for (_, there) in keys {
            loop {
                pair.settle();
                let (bytes, _) = pair.guest.read_all(there);
                if bytes.is_empty() { break }
                got.entry(there).or_default().extend(bytes);
            }
            prop_assert!(sent.get(&there).unwrap_or(&vec![]) == got.get(&there).unwrap_or(&vec![]));
        }
    }

    /// Whatever a stranger says, the guest neither panics nor links.
    #[test]
    fn noise_makes_no_link(noise in prop::collection::vec(prop_oneof![Just(0xD7u8), Just(0x4D), Just(1), Just(0), any::<u8>()], 0..3_000)) {
        let mut guest = End::new(Machine::guest(Some(secret())));
        guest.hear(&noise);
        prop_assert_eq!(guest.machine.phase(), Phase::Seeking);
        prop_assert!(guest.bytes.len() < 100);
    }
}
