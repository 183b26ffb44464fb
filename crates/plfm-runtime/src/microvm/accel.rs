//! What runs the guest's instructions, and how long that may take.

use std::time::Duration;

use plfm_core::event::Isolation;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accel {
    Kvm,
    Tcg,
}

impl Accel {
    pub const fn isolation(self) -> Isolation {
        match self {
            Self::Kvm => Isolation::Vm,
            Self::Tcg => Isolation::Emulated,
        }
    }
}

/// Every limit on what a guest does is stated for hardware virtualisation; an emulated guest gets this many times as long.
pub const EMULATED_FACTOR: u32 = 10;

/// P-VM-20: from the start of the machine to the end of its configuration.
pub const HELLO_WAIT: Duration = Duration::from_secs(5);

/// A limit that is right for `vm`, for a machine of `class`.
pub fn patience(class: Isolation, limit: Duration) -> Duration {
    match class {
        Isolation::Emulated => limit * EMULATED_FACTOR,
        Isolation::Process | Isolation::Vm => limit,
    }
}

/// The rate of this host's time stamp counter, which an emulated guest's counter follows: a wrong value would make its clock drift.
pub async fn measure_tsc_khz() -> u64 {
    let (ticks, nanos) = (ticks(), monotonic_raw_nanos());
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (ticks, nanos) = (self::ticks() - ticks, monotonic_raw_nanos() - nanos);
    (u128::from(ticks) * 1_000_000 / u128::from(nanos.max(1))) as u64
}

#[cfg(target_arch = "x86_64")]
fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and it touches no memory.
    unsafe { std::arch::x86_64::_rdtsc() }
}

fn monotonic_raw_nanos() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicRaw);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
