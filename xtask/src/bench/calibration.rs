//! How fast the machine is just now: figures of two runs compare only as far as these do.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::Context;
use ring::digest::{SHA256, digest};

use super::row::{Better, Samples};

const ROUNDS: usize = 10;
const HASHED_BYTES: usize = 64 << 20;
const SYNCS: usize = 50;
const PAGE: [u8; 4096] = [1; 4096];
const ROUND_TRIPS: usize = 2_000;

/// One processor, the disk of `dir`, the network stack, and who else is here.
pub fn measure(dir: &Path) -> anyhow::Result<Vec<Samples>> {
    let load = load()?;
    let (disk, loopback) =
        (fsync(dir).context("cannot measure the disk")?, loopback().context("cannot measure loopback")?);
    Ok(vec![
        samples("calibration.sha256", "MB/s", Better::Higher, sha256()),
        samples("calibration.fsync", "/s", Better::Higher, disk),
        samples("calibration.loopback", "ms", Better::Lower, loopback),
        samples("calibration.load", "", Better::Lower, vec![load]),
    ])
}

fn samples(name: &str, unit: &str, better: Better, samples: Vec<f64>) -> Samples {
    Samples { name: name.to_owned(), unit: unit.to_owned(), better, samples, peer: None, peer_samples: Vec::new() }
}

fn sha256() -> Vec<f64> {
    let bytes = vec![1; HASHED_BYTES];
    (0..ROUNDS).map(|_| HASHED_BYTES as f64 / 1e6 / timed(|| digest(&SHA256, &bytes)).1).collect()
}

/// A page and its sync, as a log does it.
fn fsync(dir: &Path) -> io::Result<Vec<f64>> {
    let path = dir.join("bench-fsync");
    let file = File::create(&path)?;
    let write = |_| file.write_all_at(&PAGE, 0).and_then(|()| file.sync_data());
    let rates = (0..ROUNDS).map(|_| {
        let (done, seconds) = timed(|| (0..SYNCS).try_for_each(write));
        done.map(|()| SYNCS as f64 / seconds)
    });
    let rates = rates.collect();
    fs::remove_file(path)?;
    rates
}

fn loopback() -> io::Result<Vec<f64>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let echo = thread::spawn(move || {
        let mut word = [0; 64];
        while far.read_exact(&mut word).and_then(|()| far.write_all(&word)).is_ok() {}
    });
    let mut word = [1; 64];
    let mut round_trip = || near.write_all(&word).and_then(|()| near.read_exact(&mut word));
    let times = (0..ROUND_TRIPS).map(|_| {
        let (done, seconds) = timed(&mut round_trip);
        done.map(|()| seconds * 1e3)
    });
    let times = times.collect();
    drop(near);
    drop(echo.join());
    times
}

/// Of the last minute.
fn load() -> anyhow::Result<f64> {
    let averages = fs::read_to_string("/proc/loadavg")?;
    let first = averages.split_whitespace().next().context("/proc/loadavg is empty")?;
    Ok(first.parse()?)
}

/// What the work gives, and the seconds it took.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let begun = Instant::now();
    (work(), begun.elapsed().as_secs_f64())
}
