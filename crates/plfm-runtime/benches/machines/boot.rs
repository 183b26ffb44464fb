//! `boot.hello`: from nothing to the guest's answer to the host's hello, beside a QEMU by hand with the same kernel and initramfs.
//!
//! Ours makes the machine's directory, disk, user, cgroup and jail, and attaches an image; the peer has a console and the port, no more.
//! They boot by turns.

use std::time::Instant;

use plfm_core::units::Mebibytes;
use plfm_runtime::Runtime;

use super::byhand::ByHand;
use super::{House, milliseconds, row_beside};

const ROUNDS: u128 = 12;
const MEMORY: Mebibytes = Mebibytes(256);

pub async fn measure(house: &House) {
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        mine.push(ours(house, round).await);
        let begun = Instant::now();
        let _peer = ByHand::boot(house, MEMORY).await;
        theirs.push(milliseconds(begun));
    }
    row_beside("boot.hello", "ms", &mine, "QEMU by hand", &theirs);
}

async fn ours(house: &House, round: u128) -> f64 {
    let begun = Instant::now();
    let spec = house.booted(round, MEMORY).await;
    let time = milliseconds(begun);
    house.runtime.destroy(spec.id).await.unwrap();
    time
}
