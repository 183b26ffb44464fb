//! What can go wrong with a machine, and what that is called in a report.

use std::io;

use plfm_core::ids::{BootId, InstanceId, SnapshotId};
use plfm_core::reason::Reason;

#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("machine {0} does not exist")]
    NoSuchMachine(InstanceId),
    #[error("machine {0} exists with another specification")]
    SpecDiffers(InstanceId),
    #[error("machine {0} exists")]
    AlreadyExists(InstanceId),
    #[error("machine {id} cannot be made: {why}")]
    BadSpec { id: InstanceId, why: &'static str },
    #[error("machine {id} already runs as {boot}")]
    AlreadyRuns { id: InstanceId, boot: BootId },
    #[error("machine {0} does not run")]
    NotRunning(InstanceId),
    #[error("cannot make the disk of {id}")]
    Disk {
        id: InstanceId,
        #[source]
        source: io::Error,
    },
    #[error("cannot open image {index} of {id}")]
    Image {
        id: InstanceId,
        index: usize,
        #[source]
        source: io::Error,
    },
    #[error("cannot open volume {index} of {id}")]
    Volume {
        id: InstanceId,
        index: usize,
        #[source]
        source: io::Error,
    },
    #[error("cannot start the machine of {id}")]
    Start {
        id: InstanceId,
        #[source]
        source: io::Error,
    },
    #[error("the machine of {0} was killed and does not end")]
    WillNotEnd(InstanceId),
    #[error("cannot {operation} the machine of {id}")]
    Io {
        operation: &'static str,
        id: InstanceId,
        #[source]
        source: io::Error,
    },
    #[error("this runtime cannot {0}")]
    Unsupported(&'static str),
    #[error("there is no snapshot {0}")]
    NoSuchSnapshot(SnapshotId),
    #[error("snapshot {0} exists")]
    SnapshotExists(SnapshotId),
    #[error("machine {0} is not paused")]
    NotPaused(InstanceId),
    #[error("machine {id} cannot go on from there: {why}")]
    Misfit { id: InstanceId, why: &'static str },
    #[error("cannot keep what the machine of {id} is")]
    Snapshot {
        id: InstanceId,
        #[source]
        source: io::Error,
    },
    #[error("the machine of {id} does not go on")]
    Restore {
        id: InstanceId,
        #[source]
        source: io::Error,
    },
    #[error("cannot connect to port {port} of {id}")]
    Connect {
        id: InstanceId,
        port: u32,
        #[source]
        source: io::Error,
    },
    /// The node can't run machines at all.
    #[error("cannot prepare {what}")]
    Unprepared {
        what: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl RuntimeError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Disk { source, .. }
            | Self::Io { source, .. }
            | Self::Start { source, .. }
            | Self::Snapshot { source, .. }
                if is_full(source) =>
            {
                Reason::DiskFull
            }
            Self::Disk { .. } | Self::Image { .. } => Reason::RootfsBuildFailed,
            Self::Volume { .. } => Reason::VolumeAttachFailed,
            Self::Connect { .. } => Reason::ConfigHandshakeFailed,
            Self::Snapshot { .. } | Self::SnapshotExists(_) => Reason::SnapshotFailed,
            Self::Restore { .. } | Self::Misfit { .. } | Self::NoSuchSnapshot(_) | Self::NotPaused(_) => {
                Reason::RestoreFailed
            }
            Self::BadSpec { .. } | Self::Unsupported(_) => Reason::SpecUnsupported,
            _ => Reason::VmmStartFailed,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
