//! Frames of a terminal, from both ends of a WebSocket.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plfm_api::term::Frame;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(frame) = Frame::decode(bytes) {
        assert_eq!(Frame::decode(&frame.encode()).expect("its own form is read"), frame);
    }
});
