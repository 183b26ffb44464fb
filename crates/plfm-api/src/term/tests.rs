use expect_test::{Expect, expect};
use ulid::Ulid;

use super::*;

fn frames() -> Vec<Frame> {
    let hello = Hello {
        v: VERSION,
        cols: 80,
        rows: 24,
        command: vec!["ls".to_owned(), "-l".to_owned()],
        tty: true,
        stdin: true,
        env: BTreeMap::from([("TERM".to_owned(), "xterm".to_owned())]),
    };
    let instance_id = InstanceId::new(Ulid::from_parts(1, 2));
    vec![
        Frame::Stdin(b"yes\n".to_vec()),
        Frame::Stdout { seq: 258, bytes: b"out".to_vec() },
        Frame::Stderr { seq: 0, bytes: Vec::new() },
        Frame::Replay { seq: 7, bytes: vec![0xff] },
        Frame::Control(Control::Hello(hello)),
        Frame::Control(Control::Welcome { v: 1, instance_id, process_type: "web".to_owned(), tty: true }),
        Frame::Control(Control::Resize { cols: 100, rows: 50 }),
        Frame::Control(Control::Signal { name: Signal::Int }),
        Frame::Control(Control::StdinEof),
        Frame::Exit(Exit { exit_code: 3, signal: None, reason: "exited".to_owned() }),
    ]
}

fn check(frame: &Frame, expected: Expect) {
    expected.assert_eq(&frame.encode().escape_ascii().to_string().replace("\\\"", "\""));
}

#[test]
fn frames_come_back_as_they_went() {
    for frame in frames() {
        assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }
}

#[test]
fn the_bytes_are_a_promise() {
    let frames = frames();
    check(&frames[0], expect![[r#"\x01yes\n"#]]);
    check(&frames[1], expect![[r#"\x02\x00\x00\x00\x00\x00\x00\x01\x02out"#]]);
    check(
        &frames[4],
        expect![[
            r#"\x10{"type":"hello","v":1,"cols":80,"rows":24,"command":["ls","-l"],"tty":true,"stdin":true,"env":{"TERM":"xterm"}}"#
        ]],
    );
    check(
        &frames[5],
        expect![[
            r#"\x10{"type":"welcome","v":1,"instance_id":"inst_00000000010000000000000002","process_type":"web","tty":true}"#
        ]],
    );
    check(&frames[7], expect![[r#"\x10{"type":"signal","name":"INT"}"#]]);
    check(&frames[8], expect![[r#"\x10{"type":"stdin_eof"}"#]]);
    check(&frames[9], expect![[r#"\x11{"type":"exit","exit_code":3,"reason":"exited"}"#]]);
}

#[test]
fn every_prefix_is_a_frame_or_an_error() {
    for frame in frames() {
        let bytes = frame.encode();
        for cut in 0..bytes.len() {
            let text = matches!(frame, Frame::Control(_) | Frame::Exit(_));
            let prefix = Frame::decode(&bytes[..cut]);
            assert!(!text || prefix.is_err(), "{cut} bytes of {frame:?}");
        }
    }
}

#[test]
fn a_later_control_is_passed_over_and_a_later_type_is_not() {
    let later = [&[0x10], br#"{"type":"sparkle","n":1}"#.as_slice()].concat();
    assert_eq!(Frame::decode(&later), Ok(Frame::Control(Control::Unknown)));
    assert_eq!(Frame::decode(&[0x7f]), Err(FrameError::UnknownType(0x7f)));
    assert_eq!(Frame::decode(&vec![1; FRAME_BYTES_MAX + 10]), Err(FrameError::TooBig(FRAME_BYTES_MAX + 9)));
}
