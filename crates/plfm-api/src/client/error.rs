//! Why the API did not do what was asked, and what to type next.

use std::error::Error;

use crate::problem::Problem;
use crate::tls::TlsError;

#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("`{0}` is not the URL of an API: it has the form https://host:port")]
    Url(String),
    #[error("cannot trust the cluster's CA")]
    Tls(#[source] TlsError),
    #[error("cannot set up a client")]
    Setup { source: reqwest::Error },
    #[error("cannot reach the API at {at}: {why}")]
    Unreachable { at: String, why: String },
    /// Someone answers there, but not the cluster whose CA is trusted.
    #[error("the API at {at} is not of the trusted cluster: {why}")]
    Untrusted { at: String, why: String },
    /// The cluster answers, and is not known by the name that was called.
    #[error("the API at {at} goes by other names: {why}")]
    WrongName { at: String, why: String },
    #[error("the API at {at} did not answer in time")]
    Silent { at: String },
    #[error("the answer of the API was cut off")]
    Cut { source: reqwest::Error },
    #[error("the answer of the API was cut off")]
    StreamCut { source: std::io::Error },
    /// The API has said what is wrong.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    #[error("the API answers {what} with status {status} and not in its own words")]
    Foreign { what: String, status: u16 },
    #[error("the API answers {what} with something else than was asked for")]
    Unexpected { what: String, source: serde_json::Error },
}

impl ApiError {
    /// Stable, for programs.
    pub fn code(&self) -> &str {
        match self {
            Self::Url(_) => "invalid_api_url",
            Self::Tls(_) | Self::Setup { .. } => "client_setup",
            Self::Unreachable { .. } => "unreachable",
            Self::Untrusted { .. } => "untrusted",
            Self::WrongName { .. } => "wrong_name",
            Self::Silent { .. } => "timeout",
            Self::Cut { .. } | Self::StreamCut { .. } => "cut_off",
            Self::Problem(problem) => &problem.code,
            Self::Foreign { .. } | Self::Unexpected { .. } => "unexpected_answer",
        }
    }

    /// What to type or do next.
    pub fn hint(&self) -> &str {
        match self {
            Self::Url(_) => "set --api-url or PLFM_API_URL",
            Self::Tls(_) => "name the cluster's CA with --ca-file or PLFM_CA_FILE",
            Self::Unreachable { .. } => {
                "start a cluster here with `plfm dev`, or name another with --api-url or PLFM_API_URL"
            }
            Self::Untrusted { .. } => "name the CA of that cluster with --ca-file or PLFM_CA_FILE",
            Self::WrongName { .. } => "call it by a name that it was started with: `plfm server --host NAME`",
            Self::Silent { .. } | Self::Cut { .. } | Self::StreamCut { .. } => "try again",
            Self::Problem(problem) => &problem.hint,
            Self::Foreign { .. } => "check that --api-url or PLFM_API_URL is the URL of a plfm server",
            Self::Setup { .. } => "check the profile, or name the API with --api-url and --ca-file",
            Self::Unexpected { .. } => "check with `plfm version` that client and server are of one version",
        }
    }

    /// Of an answer, if there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Problem(problem) => Some(problem.status),
            Self::Foreign { status, .. } => Some(*status),
            _ => None,
        }
    }

    pub fn request_id(&self) -> Option<String> {
        match self {
            Self::Problem(problem) => Some(problem.request_id.to_string()),
            _ => None,
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Problem(problem) => problem.retryable,
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Cut { .. } | Self::StreamCut { .. } => true,
            Self::Foreign { status, .. } => matches!(status, 429 | 502..=504),
            _ => false,
        }
    }

    /// What has gone wrong on the way.
    pub fn of(source: reqwest::Error) -> Self {
        let at = source.url().map_or_else(|| "an unknown address".to_owned(), |url| url.origin().ascii_serialization());
        let source = source.without_url();
        // Between the error and its root are only the names of the layers it came through.
        let why = causes(&source).last().map(ToString::to_string).unwrap_or_default();
        let tls = causes(&source).find_map(|cause| cause.downcast_ref::<rustls::Error>());
        if let Some(tls) = tls.filter(|_| source.is_connect()) {
            if is_about_the_name(tls) { Self::WrongName { at, why } } else { Self::Untrusted { at, why } }
        } else if source.is_connect() {
            Self::Unreachable { at, why }
        } else if source.is_timeout() {
            Self::Silent { at }
        } else {
            Self::Cut { source }
        }
    }
}

fn is_about_the_name(error: &rustls::Error) -> bool {
    use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
    matches!(error, rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
}

/// The chain of an error; an `io::Error` hides what it wraps from `source`.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error = *error;
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        wrapped.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source())
    })
}
