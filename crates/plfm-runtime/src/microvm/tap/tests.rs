use std::fs::File;
use std::os::unix::fs::MetadataExt;

use nix::sched::{CloneFlags, unshare};

use super::*;

nix::ioctl_write_ptr_bad!(set_interface, libc::TUNSETIFF, libc::ifreq);

/// A new tap in the network of this thread.
pub fn open(name: &str) -> io::Result<OwnedFd> {
    let tun = File::options().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: all zeros is a request without a name and without flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: the descriptor is open and the request is a whole `ifreq` that outlives the call.
    unsafe { set_interface(tun.as_raw_fd(), &raw const request) }?;
    Ok(tun.into())
}

#[test]
fn a_tap_that_is_handed_over_stays_and_can_be_opened_again() {
    // A thread of its own: it changes its network for good.
    let done = std::thread::spawn(|| {
        if unshare(CloneFlags::CLONE_NEWNET).is_err() {
            return eprintln!("skipped: a_tap_that_is_handed_over_stays_and_can_be_opened_again: it needs root");
        }
        let NamedTap { name, network } = hand_over(open("plfm0").unwrap(), 1_900_000_001).unwrap();
        assert_eq!(name, "plfm0");
        let inode = |path: &str| std::fs::metadata(path).unwrap().ino();
        let theirs = format!("/proc/self/fd/{}", network.as_raw_fd());
        assert_eq!(inode(&theirs), inode("/proc/thread-self/ns/net"), "it is in this network");
        open("plfm0").expect("nobody holds it");
    });
    done.join().unwrap();
}
