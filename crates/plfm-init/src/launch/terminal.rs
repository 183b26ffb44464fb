//! Pseudo-terminals.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::pty::{Winsize, grantpt, posix_openpt, ptsname_r, unlockpt};

/// As the protocols bound it; the kernel would take more.
const CELLS_MAX: u32 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub cols: u16,
    pub rows: u16,
}

impl Size {
    /// A terminal has at least one cell and no more than anyone can see.
    pub fn new(cols: u32, rows: u32) -> Self {
        Self { cols: cols.clamp(1, CELLS_MAX) as u16, rows: rows.clamp(1, CELLS_MAX) as u16 }
    }
}

/// This side of a new terminal, and the path of the other as the workload sees it.
pub fn open(size: Size) -> nix::Result<(OwnedFd, CString)> {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let path = CString::new(ptsname_r(&master)?).map_err(|_| Errno::EINVAL)?;
    let fd = master
        .as_fd()
        .try_clone_to_owned()
        .map_err(|cause| Errno::from_raw(cause.raw_os_error().unwrap_or(libc::EIO)))?;
    resize(&fd, size).map_err(|cause| Errno::from_raw(cause.raw_os_error().unwrap_or(libc::EIO)))?;
    Ok((fd, path))
}

/// The foreground process hears of it by SIGWINCH.
pub fn resize(master: &impl AsRawFd, size: Size) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one `winsize`, which outlives the call.
    let done = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
