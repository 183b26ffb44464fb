//! The one byte stream between host and guest: whatever the guest sends, the host's end neither panics nor grows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plfm_api::channel::{Mux, Secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SECRET: [u8; Secret::BYTES] = [7; Secret::BYTES];

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime is made").block_on(async {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (_opener, host) = Mux::host(near, Secret::new(SECRET));
        let (mut heard, mut said) = tokio::io::split(far);
        let talk = async move {
            let _ = said.write_all(bytes).await;
            let _ = said.shutdown().await;
        };
        let listen = async move { tokio::io::copy(&mut (&mut heard).take(1 << 20), &mut tokio::io::sink()).await };
        let _ = tokio::join!(host, talk, listen);
    });
});
