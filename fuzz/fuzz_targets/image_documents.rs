//! What a registry says of an image: manifest or index, configuration, and the reference someone wrote.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plfm_core::digest::Digest;
use plfm_image::manifest::{Config, Document};
use plfm_image::{ImageRef, Limits};

fuzz_target!(|bytes: &[u8]| {
    let digest = Digest::of(bytes);
    if let Ok(Document::Manifest(manifest)) = Document::parse(&digest, bytes) {
        let _ = manifest.check(&Limits::default());
    }
    let _ = Config::parse(&digest, bytes, 1);
    if let Some(reference) = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<ImageRef>().ok()) {
        assert_eq!(reference.to_string().parse::<ImageRef>().expect("its own form is read"), reference);
    }
});
