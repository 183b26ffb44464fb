//! `pause`: from the call until all that a machine is is synced and its monitor has ended; `resume`: until its guest answers again.

use std::time::Instant;

use plfm_core::units::Mebibytes;
use plfm_runtime::Runtime;

use super::{House, milliseconds, row};

const ROUNDS: usize = 12;
const MEMORY: Mebibytes = Mebibytes(256);

pub async fn measure(house: &House, wanted: &impl Fn(&str) -> bool) {
    let id = house.booted(2, MEMORY).await.id;
    let (mut pauses, mut resumes) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        house.runtime.pause(id).await.unwrap();
        pauses.push(milliseconds(begun));
        let begun = Instant::now();
        house.runtime.resume(id, None).await.unwrap();
        house.answers(id).await;
        resumes.push(milliseconds(begun));
    }
    house.runtime.destroy(id).await.unwrap();
    for (name, samples) in [("pause", &pauses), ("resume", &resumes)] {
        if wanted(name) {
            row(name, "ms", samples);
        }
    }
}
