//! Why there is no image, and which reason code that is.

use std::io;
use std::path::PathBuf;

use plfm_core::digest::Digest;
use plfm_core::reason::{Failure, Reason, chain};

use crate::erofs;
use crate::layer::Fault;
use crate::platform::Platform;

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("{0}")]
    Reference(plfm_core::manifest::Refusal),
    #[error("`{0}` does not name one content: a digest is needed")]
    NotPinned(String),
    #[error("cannot fetch {what} from {host}: {why}")]
    Pull { what: String, host: String, why: String },
    #[error("{host} has no {what}")]
    NotFound { what: String, host: String },
    #[error("{host} refuses {what}: {why}")]
    Unauthorized { what: String, host: String, why: &'static str },
    #[error("cannot read {what} from the image layout")]
    Layout {
        what: String,
        #[source]
        cause: io::Error,
    },
    #[error("there is no image layout at {}", .0.display())]
    NoLayout(PathBuf),
    #[error("the image layout has no {0}")]
    LayoutLacks(String),
    #[error("{what} {expected} has other bytes: they hash to {found}")]
    Digest { what: &'static str, expected: Digest, found: Digest },
    #[error("{what} {digest} has {size} bytes in its manifest, but ended after {found}")]
    Short { what: &'static str, digest: Digest, size: u64, found: u64 },
    #[error("{what} {digest} has {size} bytes in its manifest, but there are more")]
    Long { what: &'static str, digest: Digest, size: u64 },
    #[error("{what} was not fetched within {seconds} s")]
    Timeout { what: String, seconds: u64 },
    #[error("the image has more than {limit} {what}")]
    TooLarge { what: &'static str, limit: u64 },
    #[error("layer {digest} unpacks to more than {ratio} times its size")]
    Ratio { digest: Digest, ratio: u64 },
    #[error("{what} is not valid: {why}")]
    Document { what: String, why: String },
    #[error("the image has no layers")]
    NoLayers,
    #[error("layer {digest} has the media type `{media_type}`, which is none of tar, tar+gzip and tar+zstd")]
    MediaType { digest: Digest, media_type: String },
    #[error("layer {digest} is not valid: {fault}")]
    Layer {
        digest: Digest,
        #[source]
        fault: Fault,
    },
    #[error("layer {digest} unpacks to {found}, but the configuration says {expected}")]
    DiffId { digest: Digest, expected: Digest, found: Digest },
    #[error("the image is not built for {wanted}, only for {}", list(.available))]
    Platform { wanted: Platform, available: Vec<Platform> },
    #[error("the disk is full")]
    DiskFull,
    #[error("cannot {what}")]
    Store {
        what: &'static str,
        #[source]
        cause: io::Error,
    },
    #[error("cannot build the image of a layer")]
    Build(#[source] erofs::Error),
    #[error("building an image was abandoned")]
    Abandoned,
}

impl ImageError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Reference(_) | Self::NotPinned(_) | Self::Pull { .. } | Self::NotFound { .. } => {
                Reason::ImagePullFailed
            }
            Self::Unauthorized { .. } | Self::Layout { .. } | Self::LayoutLacks(_) | Self::NoLayout(_) => {
                Reason::ImagePullFailed
            }
            Self::Digest { .. } | Self::Short { .. } | Self::Long { .. } => Reason::ImagePullFailed,
            Self::Timeout { .. } => Reason::ImagePullTimeout,
            Self::TooLarge { .. } | Self::Ratio { .. } => Reason::ImageTooLarge,
            Self::Document { .. } | Self::NoLayers | Self::MediaType { .. } => Reason::ImageLayerInvalid,
            Self::Layer { .. } | Self::DiffId { .. } => Reason::ImageLayerInvalid,
            Self::Platform { .. } => Reason::ImagePlatformUnavailable,
            Self::DiskFull => Reason::DiskFull,
            Self::Store { .. } | Self::Build(_) | Self::Abandoned => Reason::RootfsBuildFailed,
        }
    }

    pub fn failure(&self) -> Failure {
        let detail = match self {
            // These say what was tried; why it failed stands in the cause.
            Self::Layout { .. } | Self::Store { .. } | Self::Build(_) => chain(self),
            _ => self.to_string(),
        };
        Failure::new(self.reason(), detail)
    }

    /// Something with our own files went wrong; a full disk is its own case wherever it shows.
    pub fn store(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| if is_full(&cause) { Self::DiskFull } else { Self::Store { what, cause } }
    }

    pub fn build(error: erofs::Error) -> Self {
        match error {
            erofs::Error::Write(cause) if is_full(&cause) => Self::DiskFull,
            error => Self::Build(error),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn list(platforms: &[Platform]) -> String {
    let names: Vec<_> = platforms.iter().map(Platform::to_string).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
