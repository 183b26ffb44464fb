//! A layer: a tar of a stranger becomes a file system image, or a refusal; never more bytes than the limits allow.
#![no_main]

use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use plfm_core::digest::Digest;
use plfm_image::layer::{self, Job};
use plfm_image::limits::Budget;
use plfm_image::manifest::Descriptor;
use plfm_image::Limits;

fuzz_target!(|bytes: &[u8]| {
    let blob = Descriptor {
        media_type: "application/vnd.oci.image.layer.v1.tar".to_owned(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime is made");
    runtime.block_on(async {
        let tmp = tempfile::tempdir().expect("a directory is made");
        let budget = Arc::new(Budget::new(&Limits::default()));
        let job = Job { diff_id: blob.digest, blob, tmp: tmp.path().to_owned(), budget };
        let (sink, verdict) = layer::start(job);
        let send = async move { sink.send(Bytes::copy_from_slice(bytes)).await };
        let (_, verdict) = tokio::join!(send, verdict);
        let left = std::fs::read_dir(tmp.path()).expect("the directory is there").count();
        assert_eq!(left, usize::from(verdict.is_ok()), "a refused layer leaves nothing");
    });
});
