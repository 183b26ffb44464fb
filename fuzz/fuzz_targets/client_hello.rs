//! The first word of whoever connects to the edge: the parser neither panics nor grows, and asks for more only while it is a prefix.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plfm_api::client_hello::{BYTES_MAX, parse};

fuzz_target!(|bytes: &[u8]| {
    let bytes = &bytes[..bytes.len().min(BYTES_MAX)];
    let whole = parse(bytes);
    for cut in [bytes.len() / 2, bytes.len().saturating_sub(1)] {
        // What a prefix says is final, more bytes do not change it.
        match parse(&bytes[..cut]) {
            Ok(None) => {}
            said => assert_eq!(said, whole),
        }
    }
});
