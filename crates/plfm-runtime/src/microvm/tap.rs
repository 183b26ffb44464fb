//! A tap for a monitor that opens it by its name, in the network in which it is.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::libc;

/// Not in every C library's headers (linux/if_tun.h).
const TUNGETDEVNETNS: u64 = nix::request_code_none!('T', 227);

nix::ioctl_read_bad!(get_interface, libc::TUNGETIFF, libc::ifreq);
nix::ioctl_write_int_bad!(set_persist, libc::TUNSETPERSIST);
nix::ioctl_write_int_bad!(set_owner, libc::TUNSETOWNER);
nix::ioctl_none_bad!(get_network, TUNGETDEVNETNS);

pub struct NamedTap {
    pub name: String,
    pub network: OwnedFd,
}

/// Closes the descriptor: one at a time may hold a tap. It stays for its new owner, until its network ends.
pub fn hand_over(tap: OwnedFd, owner: u32) -> io::Result<NamedTap> {
    let fd = tap.as_raw_fd();
    // SAFETY: all zeros is a request without a name and without flags.
    let mut interface: libc::ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, and the kernel fills in a whole `ifreq`, its name with a final zero.
    let (name, network) = unsafe {
        get_interface(fd, &raw mut interface)?;
        set_owner(fd, owner as libc::c_int)?;
        set_persist(fd, 1)?;
        (CStr::from_ptr(interface.ifr_name.as_ptr()), OwnedFd::from_raw_fd(get_network(fd)?))
    };
    Ok(NamedTap { name: name.to_string_lossy().into_owned(), network })
}

#[cfg(test)]
pub mod tests;
