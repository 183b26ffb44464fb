//! What the edge itself answers: a problem document that a person can read.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use plfm_api::problem::Problem;
use plfm_core::facts::Facts;
use plfm_core::ids::RequestId;

use super::backends::NoBackend;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no app is served under `{0}`")]
    UnknownHost(String),
    /// The connection was made for another name.
    #[error("this connection is for `{connected}`, not for `{asked}`")]
    OtherHost { connected: String, asked: String },
    #[error("`{app}` has no instance that is ready")]
    NoneReady { app: String },
    #[error("no instance of `{app}` takes a connection")]
    NoneReached { app: String },
    #[error("an instance of `{app}` ended the connection before its answer")]
    Cut { app: String },
}

impl Refusal {
    pub fn no_backend(app: &str, why: NoBackend) -> Self {
        let app = app.to_owned();
        match why {
            NoBackend::NoneReady => Self::NoneReady { app },
            NoBackend::NoneReached => Self::NoneReached { app },
        }
    }

    pub const fn status(&self) -> StatusCode {
        match self {
            Self::UnknownHost(_) => StatusCode::NOT_FOUND,
            Self::OtherHost { .. } => StatusCode::MISDIRECTED_REQUEST,
            Self::NoneReady { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoneReached { .. } | Self::Cut { .. } => StatusCode::BAD_GATEWAY,
        }
    }

    const fn code(&self) -> &'static str {
        match self {
            Self::UnknownHost(_) => "route_not_found",
            Self::OtherHost { .. } => "misdirected",
            Self::NoneReady { .. } => "no_backend",
            Self::NoneReached { .. } => "backend_unreachable",
            Self::Cut { .. } => "backend_cut",
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::UnknownHost(_) => "`plfm status` shows the names of your apps".to_owned(),
            Self::OtherHost { .. } => "connect again for this name".to_owned(),
            Self::NoneReady { app } | Self::NoneReached { app } => format!("`plfm explain {app}` says why"),
            Self::Cut { app } => format!("`plfm logs {app}` shows what it has written"),
        }
    }

    pub fn answer(&self, client: SocketAddr) -> Response<Full<Bytes>> {
        let request_id = fresh_request();
        tracing::info!(%client, request = %request_id, refusal = %self, "the edge answers itself");
        let problem = Problem::new(self.status(), self.code(), self.to_string()).hint(self.hint());
        Problem { request_id, ..problem }.into_response()
    }
}

pub fn fresh_request() -> RequestId {
    let mut entropy = [0; 16];
    getrandom::fill(&mut entropy).expect("the kernel gives random bytes once it has booted");
    Facts { now: crate::time::now(), entropy: u128::from_ne_bytes(entropy), ..Facts::default() }.ids().fresh()
}
