//! Disks by serial or by their order, layers below, one writable file system on top.
//!
//! ```text
//!   img0, img1, … (EROFS, read-only) ─▶ /layers/0, /layers/1, …  ┐
//!   rw (ext4), or memory             ─▶ /rw/{upper,work}         ┴─▶ /newroot (overlay)
//! ```

use std::fs;
use std::io;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount, umount};

use super::{BootError, cmdline};

pub const NEWROOT: &str = "/newroot";
const RW: &str = "/rw";
const LAYERS: &str = "/layers";
const BLOCK: &str = "/sys/block";
/// A driver shows its disks while it is loaded; one that is later than this will not come.
const DISK_WAIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);
/// Dying processes hold their files a little longer.
const RELEASE_WAIT: Duration = Duration::from_secs(2);

/// Mounts everything, the overlay last.
pub fn assemble(images: u32, rw: Option<&str>) -> Result<(), BootError> {
    let lower = (0..images).map(layer).collect::<Result<Vec<_>, _>>()?;
    writable(rw)?;
    let lower = if lower.is_empty() { vec![empty_layer()?] } else { lower };
    for dir in [format!("{RW}/upper"), format!("{RW}/work"), NEWROOT.to_owned()] {
        fs::create_dir_all(&dir).map_err(BootError::of(format!("make {dir}")))?;
    }
    let options = overlay_options(&lower);
    mount(Some("overlay"), NEWROOT, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .map_err(BootError::of(format!("mount an overlay of {} layers", lower.len())))
}

/// Upper layers come first.
fn overlay_options(lower: &[String]) -> String {
    let lower: Vec<&str> = lower.iter().rev().map(String::as_str).collect();
    format!("lowerdir={},upperdir={RW}/upper,workdir={RW}/work", lower.join(":"))
}

fn layer(number: u32) -> Result<String, BootError> {
    let (serial, at) = (format!("img{number}"), format!("{LAYERS}/{number}"));
    let device = find(&serial)?;
    fs::create_dir_all(&at).map_err(BootError::of(format!("make {at}")))?;
    let read_only = MsFlags::MS_RDONLY | MsFlags::MS_NOATIME;
    mount(Some(&device), at.as_str(), Some("erofs"), read_only, None::<&str>)
        .map_err(BootError::of(format!("mount image disk {serial}")))?;
    Ok(at)
}

fn writable(serial: Option<&str>) -> Result<(), BootError> {
    fs::create_dir_all(RW).map_err(BootError::of(format!("make {RW}")))?;
    let Some(serial) = serial else {
        return mount(Some("tmpfs"), RW, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
            .map_err(BootError::of("mount memory to write to"));
    };
    let device = find(serial)?;
    mount(Some(&device), RW, Some("ext4"), MsFlags::MS_NOATIME, None::<&str>)
        .map_err(BootError::of(format!("mount writable disk {serial}")))
}

/// An overlay needs a lower layer, and a machine need not have an image.
fn empty_layer() -> Result<String, BootError> {
    let at = format!("{LAYERS}/empty");
    fs::create_dir_all(&at).map_err(BootError::of(format!("make {at}")))?;
    Ok(at)
}

/// The device with this serial; the order of devices is not promised, unless the host has promised it.
pub fn find(serial: &str) -> Result<PathBuf, BootError> {
    if let Some(device) = cmdline::device(serial)? {
        return Ok(device);
    }
    let until = Instant::now() + DISK_WAIT;
    loop {
        let devices = fs::read_dir(BLOCK).map_err(BootError::of(format!("list {BLOCK}")))?;
        let is_it = |entry: &fs::DirEntry| {
            fs::read_to_string(entry.path().join("serial")).is_ok_and(|found| found.trim() == serial)
        };
        if let Some(found) = devices.flatten().find(is_it) {
            return Ok(PathBuf::from("/dev").join(found.file_name()));
        }
        if Instant::now() >= until {
            return Err(BootError { what: format!("find disk {serial}"), cause: io::ErrorKind::NotFound.into() });
        }
        sleep(POLL);
    }
}

/// From the top down, when nothing runs any more. What can't be unmounted is synced at least.
pub fn release() {
    let layers = (0..crate::daemon::IMAGES_MAX).map(|number| format!("{LAYERS}/{number}"));
    for at in [NEWROOT, RW].map(str::to_owned).into_iter().chain(layers) {
        unmount(&at);
    }
}

/// As soon as nobody holds it, if that is soon.
pub fn unmount(at: &str) {
    let until = Instant::now() + RELEASE_WAIT;
    while umount(at) == Err(nix::errno::Errno::EBUSY) && Instant::now() < until {
        sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_layers_lie_on_top() {
        let lower = ["/layers/0".to_owned(), "/layers/1".to_owned()];
        assert_eq!(overlay_options(&lower), "lowerdir=/layers/1:/layers/0,upperdir=/rw/upper,workdir=/rw/work");
    }
}
