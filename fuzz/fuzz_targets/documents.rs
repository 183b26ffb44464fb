//! Reports of a node: JSON of someone who has a certificate, and may be broken into.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plfm_api::documents::{PlanMessage, Report};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(report) = serde_json::from_slice::<Report>(bytes) {
        let json = serde_json::to_vec(&report).expect("a report has a JSON form");
        serde_json::from_slice::<Report>(&json).expect("its own form is read");
    }
    let _ = serde_json::from_slice::<PlanMessage>(bytes);
});
