//! Files of the sandbox (W-FS, W-DL, W-UL, W-PATH): [`acts`] does what is asked of them where the image is `/`, [`entry`] describes
//! them, [`service`] and [`web`] speak of them in envd's two forms.
//!
//! The daemon is root; what is made belongs to the acting user.

use std::io;

use connectrpc::ConnectError;
use http::StatusCode;
use tokio::sync::oneshot;

use crate::daemon::Daemon;
use crate::users::{self, Account};

mod acts;
mod entry;
mod service;
pub mod web;

pub use service::Files;

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("invalid username: '{0}'")]
    NoUser(String),
    #[error("path not found: {0}")]
    NotFound(String),
    #[error("not a directory: {0}")]
    NotADirectory(String),
    #[error("not a regular file: {0}")]
    NotAFile(String),
    #[error("already there: {0}")]
    Exists(String),
    #[error("symbolic links lead in a circle: {0}")]
    Circle(String),
    #[error("no space is left for {0}")]
    NoSpace(String),
    #[error("more than {most} entries in {path}")]
    TooMany { path: String, most: usize },
    #[error("{0}")]
    Malformed(String),
    #[error("{path}: {cause}")]
    Io { path: String, cause: io::Error },
}

impl FileError {
    pub fn of(path: &str, cause: io::Error) -> Self {
        let path = path.to_owned();
        match cause.kind() {
            io::ErrorKind::NotFound => Self::NotFound(path),
            io::ErrorKind::NotADirectory => Self::NotADirectory(path),
            io::ErrorKind::IsADirectory => Self::NotAFile(path),
            io::ErrorKind::AlreadyExists => Self::Exists(path),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace(path),
            _ if cause.raw_os_error() == Some(nix::libc::ELOOP) => Self::Circle(path),
            _ => Self::Io { path, cause },
        }
    }

    pub const fn status(&self) -> StatusCode {
        match self {
            Self::NoUser(_) => StatusCode::UNAUTHORIZED,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::NoSpace(_) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl From<FileError> for ConnectError {
    fn from(error: FileError) -> Self {
        let message = error.to_string();
        match error {
            FileError::NoUser(_) => Self::unauthenticated(message),
            FileError::NotFound(_) => Self::not_found(message),
            FileError::NotADirectory(_) | FileError::NotAFile(_) | FileError::Malformed(_) => {
                Self::invalid_argument(message)
            }
            FileError::Exists(_) => Self::already_exists(message),
            FileError::Circle(_) => Self::failed_precondition(message),
            FileError::NoSpace(_) | FileError::TooMany { .. } => Self::resource_exhausted(message),
            FileError::Io { .. } => Self::internal(message),
        }
    }
}

/// Who acts, and from where names are meant.
async fn account(daemon: &Daemon, user: Option<String>) -> Result<Account, FileError> {
    let config = daemon.config().ok_or_else(|| FileError::Malformed("this machine is not configured".to_owned()))?;
    let user = user.filter(|user| !user.is_empty()).unwrap_or_else(|| config.user.clone());
    let name = user.clone();
    daemon.place.run(move || users::look_up(&user)).await.map_err(|_| FileError::NoUser(name))
}

/// On a thread of its own, where the image is `/`: a large tree must not keep processes from starting.
async fn there<T: Send + 'static>(
    daemon: &Daemon,
    act: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    let (answer, done) = oneshot::channel();
    let began = daemon.place.run(move || {
        // A thread begins where the one that starts it is.
        let thread = std::thread::Builder::new().name("files".into());
        thread.spawn(move || drop(answer.send(act()))).map(drop)
    });
    began.await.map_err(|cause| FileError::Io { path: "files".to_owned(), cause })?;
    done.await.unwrap_or_else(|_| Err(FileError::Malformed("the act was not finished".to_owned())))
}
