//! Why a node does not start or cannot go on.

use std::io;
use std::path::{Path, PathBuf};

use plfm_api::client::ApiError;

#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("cannot use {path}")]
    File { path: PathBuf, source: io::Error },
    #[error("this host cannot be a node")]
    Capacity(#[source] io::Error),
    #[error("another plfm node runs on the data directory {0}")]
    InUse(PathBuf),
    #[error("{path} is not what a node wrote: {detail}")]
    Damaged { path: PathBuf, detail: String },
    #[error("cannot prepare the machines")]
    Runtime(#[from] plfm_runtime::RuntimeError),
    #[error("cannot open the image store")]
    Images(#[from] plfm_image::ImageError),
    #[error("cannot set up TLS")]
    Tls(#[from] plfm_api::tls::TlsError),
    #[error("cannot set up a client of the server")]
    Client(#[from] reqwest::Error),
    #[error("cannot join")]
    Join(#[source] ApiError),
    #[error("this node belongs to no cluster yet")]
    NotJoined,
    #[error("`{0}` is not a join command: it has the form TOKEN@HOST:PORT#FINGERPRINT")]
    JoinText(String),
    #[error("this node has been decommissioned; what ran here is removed")]
    Dismissed,
    #[error("the server refuses: {detail}")]
    Refused { detail: String, hint: String },
    #[error("cannot tell which address of this host leads to the server {server}")]
    NoWay { server: String, source: io::Error },
    #[error("cannot listen on {address}")]
    Listen { address: String, source: io::Error },
}

impl NodeError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { path: path.to_owned(), source }
    }
}
