//! The frame, prefix by prefix and from random bytes.

use bytes::BytesMut;
use proptest::prelude::*;

use crate::channel::frame::{self, Corrupt, HEAD, Kind, PAD, PAYLOAD_MAX, Tags};

#[test]
fn the_layout_is_the_one_on_paper() {
    let mut out = BytesMut::new();
    frame::encode(Kind::Data, 0x0102_0304, 0xA1B2_C3D4, b"hi", &mut out);
    let paper = [0xD7, 0x4D, 4, 0, 1, 2, 3, 4, 0, 0, 0, 2, 0xA1, 0xB2, 0xC3, 0xD4, b'h', b'i', 0x5E, 0x4D, 0x3C, 0x2B];
    assert_eq!(out[..], paper);
    assert_eq!(PAD, 32_788);
}

#[test]
fn every_prefix_of_every_kind_waits_for_more() {
    for kind in Kind::ALL {
        let mut whole = BytesMut::new();
        frame::encode(kind, 5, 77, &[9; 40], &mut whole);
        for cut in 0..whole.len() {
            let head = frame::head(&whole[..cut]).unwrap();
            assert_eq!(head.is_some(), cut >= HEAD, "{kind:?} at {cut}");
            assert!(head.is_none_or(|head| frame::complete(&head, &whole[..cut]) == Ok(false)), "{kind:?} at {cut}");
        }
        let head = frame::head(&whole).unwrap().unwrap();
        assert_eq!((head.kind, head.stream, head.len, head.tag), (kind, 5, 40, 77));
        assert_eq!(frame::complete(&head, &whole), Ok(true));
    }
}

#[test]
fn zeros_complete_any_half_frame_and_spoil_it() {
    let mut whole = BytesMut::new();
    frame::encode(Kind::Data, 1, 0, &[1; 100], &mut whole);
    for cut in 0..whole.len() {
        let mut bytes = whole[..cut].to_vec();
        bytes.extend([0; PAD]);
        let spoiled = match frame::head(&bytes) {
            Ok(Some(head)) => frame::complete(&head, &bytes) == Err(Corrupt) || head.len != 100,
            Ok(None) => false,
            Err(Corrupt) => true,
        };
        assert!(spoiled, "cut at {cut}");
    }
}

#[test]
fn no_tag_is_all_ones() {
    for nonce in [0x0000_0000_FFFF_FFFF, 0xFFFF_FFFF_0000_0000, 0x0000_0001_FFFF_FFFE, 0xFFFF_FFFE] {
        let mut tags = Tags::of(nonce);
        assert!((0..4).all(|_| tags.take() != u32::MAX), "{nonce:x}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_answered_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(Some(head)) = frame::head(&bytes) {
            prop_assert!(head.len <= PAYLOAD_MAX);
            let _ = frame::complete(&head, &bytes);
        }
    }

    #[test]
    fn what_is_encoded_is_decoded(stream: u32, tag in 0..u32::MAX, payload in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let mut out = BytesMut::new();
        frame::encode(Kind::Data, stream, tag, &payload, &mut out);
        let head = frame::head(&out).unwrap().unwrap();
        prop_assert_eq!((head.stream, head.tag, head.len), (stream, tag, payload.len()));
        prop_assert_eq!(frame::complete(&head, &out), Ok(true));
        prop_assert_eq!(&out[HEAD..HEAD + payload.len()], &payload[..]);
    }
}
