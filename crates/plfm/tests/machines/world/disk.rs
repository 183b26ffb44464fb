//! A disk of its own that a test can fill.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::{World, ran, until};

/// Mounted until the test ends.
pub struct Disk {
    at: PathBuf,
    filling: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Disk {
    /// A sparse file with a file system on it. Why not, where this host mounts none.
    pub fn mount(world: &World, at: &str, mebibytes: u64) -> Result<Self, String> {
        let (file, at) = (world.path("disk"), world.path(at));
        File::create(&file).and_then(|file| file.set_len(mebibytes << 20)).unwrap();
        fs::create_dir(&at).unwrap();
        let made = ran(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-m", "0"]).arg(&file));
        let mounted = ran(Command::new("mount").args(["-o", "loop"]).args([&file, &at]));
        if mounted.code == Some(0) {
            Ok(Self { at, filling: None })
        } else {
            Err(format!("{}{}", made.err, mounted.err))
        }
    }

    /// Takes all but this much.
    pub fn fill(&self, but_mebibytes: u64) {
        let take = (self.free() >> 20).saturating_sub(but_mebibytes);
        let taken = ran(Command::new("fallocate").args(["-l", &format!("{take}MiB")]).arg(self.at.join("filler")));
        assert_eq!(taken.code, Some(0), "{}", taken.err);
    }

    /// Takes every byte, those too that others give back, until it is cleared.
    pub fn keep_full(&mut self) {
        self.fill(1);
        let (on, mut file) = (Arc::new(AtomicBool::new(true)), File::create(self.at.join("rest")).unwrap());
        let full = on.clone();
        let filler = thread::spawn(move || {
            while full.load(Ordering::Relaxed) {
                // A block or nothing: part of one would be kept open for others.
                if file.write_all(&[0; 4096]).is_err() {
                    thread::yield_now();
                }
            }
        });
        self.filling = Some((on, filler));
        until("the disk is full", || (self.free() < 4096).then_some(()));
    }

    pub fn clear(&mut self) {
        if let Some((on, filler)) = self.filling.take() {
            on.store(false, Ordering::Relaxed);
            filler.join().unwrap();
        }
        ["filler", "rest"].iter().for_each(|name| drop(fs::remove_file(self.at.join(name))));
    }

    fn free(&self) -> u64 {
        let out = ran(Command::new("df").args(["-B1", "--output=avail"]).arg(&self.at)).out;
        out.split_whitespace().last().unwrap().parse().unwrap()
    }
}

impl Drop for Disk {
    /// What still runs on it when a test has failed holds it no longer than it runs.
    fn drop(&mut self) {
        self.clear();
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}
