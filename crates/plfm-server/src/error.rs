//! What the API says when it cannot do what was asked, and why a server does not start.

use std::io;
use std::path::{Path, PathBuf};

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use plfm_api::problem::{Problem, ProblemDetail};
use plfm_core::manifest::ManifestError;
use plfm_core::refusal::{Refusal, RefusalClass};

use crate::routes;
use crate::writer::SubmitError;

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot use {path}")]
    File { path: PathBuf, source: io::Error },
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    #[error("cannot set up TLS")]
    Tls(#[source] plfm_api::tls::TlsError),
    #[error("cannot open the log {path}")]
    Log { path: PathBuf, source: plfm_store::StoreError },
    #[error("cannot begin to write the log")]
    Writer(#[from] SubmitError),
    #[error("{0} is gone: without it this would be another cluster, and its nodes and apps would be lost to it")]
    Gone(PathBuf),
    #[error("{path} is the log of another cluster, {found}; this one's is {known}")]
    OtherLog { path: PathBuf, found: String, known: String },
    #[error("cannot read {path}")]
    Key { path: PathBuf, source: rcgen::Error },
    #[error("another plfm server runs on the data directory {0}")]
    InUse(PathBuf),
    #[error("cannot listen on {address}")]
    Listen { address: String, source: io::Error },
}

impl ServerError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { path: path.to_owned(), source }
    }
}

/// Named by the request it answers when it goes out.
#[derive(Debug)]
pub struct ApiError(pub Box<Problem>);

impl ApiError {
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(status, code, detail).hint(hint)))
    }

    pub fn not_found(what: &str, name: impl std::fmt::Display) -> Self {
        let hint = "list what there is with `plfm status` or `plfm instances`";
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no {what} `{name}`"), hint)
    }

    pub fn invalid(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_argument", detail, hint)
    }

    pub fn manifest(errors: &[ManifestError]) -> Self {
        let detail = format!("the manifest has {} error(s)", errors.len());
        let mut error = Self::new(StatusCode::BAD_REQUEST, "invalid_manifest", detail, "mend the manifest");
        let line = |error: &ManifestError| ProblemDetail {
            field: format!("{}:{}", error.line, error.path),
            message: format!("{}: {}", error.code, error.message),
        };
        error.0.details = errors.iter().map(line).collect();
        error
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        Problem { request_id: routes::current_request(), ..*self.0 }.into_response()
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.class() {
            RefusalClass::Invalid => StatusCode::BAD_REQUEST,
            RefusalClass::Unauthorized => StatusCode::FORBIDDEN,
            RefusalClass::NotFound => StatusCode::NOT_FOUND,
            RefusalClass::Conflict | RefusalClass::Stale => StatusCode::CONFLICT,
            RefusalClass::Precondition => StatusCode::PRECONDITION_FAILED,
            RefusalClass::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut error = Self::new(status, refusal.code(), refusal.to_string(), refusal.hint());
        if let Refusal::QuotaExceeded(excess) = &refusal {
            let field = excess.dimension.code().to_owned();
            error.0.details.push(ProblemDetail { field, message: excess.to_string() });
        }
        error
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Refused(refusal) => refusal.into(),
            SubmitError::Busy | SubmitError::Stopped => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", error.to_string(), "try again in a moment")
            }
            SubmitError::Store(_) => {
                let hint = "look at the disk of the server, then try again";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "log_unwritable", error.to_string(), hint)
            }
        }
    }
}
