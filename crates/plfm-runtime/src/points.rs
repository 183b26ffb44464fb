//! The moments of a machine's life at which a crash is tried out, each just after something has come to be on the host.
//!
//! With the feature `points`, a process stops itself (SIGSTOP) at the one that `PLFM_STOP_AT` names, and a test kills whom it likes.
//! Without it, nothing is here.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// A machine's directory has its disk, and not yet its name.
    DiskMade,
    /// It has its name.
    MachineNamed,
    /// The memory of a picture is the machine's.
    MemoryLinked,
    /// A start is written down, and has no process.
    StartNoted,
    ProcessStarted,
    ProcessNoted,
    /// The monitor says that the machine runs.
    Runs,
    /// The guest has answered.
    Answered,
    /// What was kept of a machine that has gone on has not its name any more.
    PauseForgotten,
    /// The guest is halted, its memory and devices are written.
    Saved,
    /// And so is its disk.
    DiskKept,
    /// After a snapshot it goes on.
    WentOn,
    /// The picture has its name.
    PictureNamed,
    /// The monitor has ended.
    Ended,
    /// A machine's directory has another's name.
    HandedOver,
    /// The directory of a machine that goes has no machine's name.
    MachineGone,
    SnapshotGone,
}

/// Names the point.
pub const STOP_AT: &str = "PLFM_STOP_AT";

impl Point {
    #[cfg(feature = "points")]
    pub fn pass(self) {
        if std::env::var(STOP_AT).is_ok_and(|name| name == format!("{self:?}")) {
            // To this thread, which goes no further; the others stop with it.
            nix::sys::signal::raise(nix::sys::signal::SIGSTOP).expect("a process may stop itself");
        }
    }

    #[cfg(not(feature = "points"))]
    pub const fn pass(self) {}
}
