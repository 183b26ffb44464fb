//! `plfm.toml` of a tenant. What is accepted reads the same after a way through its canonical form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plfm_core::manifest::Manifest;

fuzz_target!(|bytes: &[u8]| {
    match Manifest::parse(bytes) {
        Ok(manifest) => {
            let json = serde_json::to_vec(&manifest).expect("a manifest has a JSON form");
            assert_eq!(serde_json::from_slice::<Manifest>(&json).expect("its own form is read"), manifest);
        }
        Err(errors) => assert!(!errors.is_empty(), "a refusal says why"),
    }
});
