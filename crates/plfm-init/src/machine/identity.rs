//! What makes this machine another than its twins: randomness, the time, a name.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use nix::unistd::sethostname;

use super::BootError;
use crate::daemon::ENTROPY_MAX;

/// `linux/random.h`: `_IOW('R', 0x03, int[2])` and `_IO('R', 0x07)`.
const RNDADDENTROPY: libc::Ioctl = nix::request_code_write!(b'R', 3, 8);
const RNDRESEEDCRNG: libc::Ioctl = nix::request_code_none!(b'R', 7);
const SECOND_NS: u64 = 1_000_000_000;

/// A time of zero and an empty name leave what is there.
pub fn take(entropy: &[u8], realtime_ns: u64, hostname: &str) -> Result<(), BootError> {
    seed(entropy).map_err(BootError::of("seed the random number generator"))?;
    if realtime_ns > 0 {
        set_clock(realtime_ns).map_err(BootError::of("set the clock"))?;
    }
    if !hostname.is_empty() {
        sethostname(hostname).map_err(BootError::of(format!("set the hostname to {hostname}")))?;
    }
    Ok(())
}

fn set_clock(realtime_ns: u64) -> nix::Result<()> {
    let time = TimeSpec::new((realtime_ns / SECOND_NS) as i64, (realtime_ns % SECOND_NS) as i64);
    clock_settime(ClockId::CLOCK_REALTIME, time)
}

/// `struct rand_pool_info`, with as many bytes as we ever give.
#[repr(C)]
struct Pool {
    entropy_bits: libc::c_int,
    size: libc::c_int,
    bytes: [u8; ENTROPY_MAX],
}

/// Mixes the host's randomness in, credits it, and makes the generator use it at once.
fn seed(entropy: &[u8]) -> io::Result<()> {
    let size = entropy.len().min(ENTROPY_MAX);
    let mut pool = Pool { entropy_bits: (size * 8) as libc::c_int, size: size as libc::c_int, bytes: [0; ENTROPY_MAX] };
    pool.bytes[..size].copy_from_slice(&entropy[..size]);
    let random = OpenOptions::new().write(true).open("/dev/urandom")?;
    // SAFETY: RNDADDENTROPY reads a `rand_pool_info` and `size` bytes after its two numbers; `pool` is laid out so and outlives the call.
    let added = unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, &raw const pool) };
    // SAFETY: RNDRESEEDCRNG takes no argument.
    let reseeded = unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG) };
    if added == 0 && reseeded == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
