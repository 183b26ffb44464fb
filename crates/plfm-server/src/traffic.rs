//! Requests for what is inside a sandbox, told apart by two headers (W-HOST-2), and passed on through the tunnel of its node.
//!
//! Whoever reaches the guest daemon has shown the sandbox's token here: the guest itself knows none.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use plfm_api::forward::forward;
use plfm_api::tunnel::{ENVD, Tunnel, TunnelError};
use plfm_api::views::{SandboxState, sandbox_id, sandbox_name};
use plfm_core::ids::InstanceId;
use plfm_core::reason::chain;
use plfm_core::state::Instance;
use serde_json::json;

use crate::identity::Caller;
use crate::routes::record;
use crate::serve::{NodeTunnel, Shared};

const SANDBOX: HeaderName = HeaderName::from_static("e2b-sandbox-id");
const PORT: HeaderName = HeaderName::from_static("e2b-sandbox-port");
const TOKEN: HeaderName = HeaderName::from_static("x-access-token");
const DIAL_AGAIN_MS: [u64; 4] = [100, 200, 300, 400];
/// The host's own ways into E2B's daemon, which ours does not have; said here too, whatever a guest answers (W-PX).
const INTERNAL: &[&str] = &["/init", "/freeze", "/unfreeze", "/collapse", "/fsfreeze", "/fsthaw"];

/// Why a request does not reach its sandbox.
#[derive(Debug)]
enum Unreachable {
    Malformed(&'static str),
    Internal,
    /// Unknown, killed, expired: SDKs look for these words (W-PX-1).
    Gone(String),
    NoToken,
    PortClosed {
        sandbox: InstanceId,
        port: u16,
    },
    Cut {
        sandbox: InstanceId,
        why: String,
    },
}

/// Takes what is for a sandbox, and leaves the rest to the API.
pub async fn divert(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if !headers.contains_key(SANDBOX) && !headers.contains_key(PORT) {
        return next.run(request).await;
    }
    let action = format!("{} {}", request.method(), request.uri().path());
    let passed = pass_on(&shared, request).await;
    if let Err(Unreachable::NoToken) = &passed {
        record(&shared, &Caller::Unknown, action, "unauthorized").await;
    }
    passed.unwrap_or_else(IntoResponse::into_response)
}

async fn pass_on(shared: &Arc<Shared>, request: Request) -> Result<Response, Unreachable> {
    let (sandbox, port) = target(request.headers())?;
    let gone = || Unreachable::Gone(sandbox_name(sandbox));
    let state = shared.writer.state();
    let instance = state.instances.get(&sandbox).filter(|it| runs(it)).ok_or_else(gone)?;
    if port == ENVD {
        admit(shared, sandbox, &request)?;
    }
    let tunnel = shared.tunnel(&state, instance).map_err(|_| gone())?;
    let link = open(&tunnel, sandbox, port).await.map_err(|error| match error {
        TunnelError::PortClosed { port, .. } => Unreachable::PortClosed { sandbox, port },
        TunnelError::NotHere { .. } => gone(),
        error => Unreachable::Cut { sandbox, why: chain(&error) },
    })?;
    let answer = forward(request, link, |beside| drop(tokio::spawn(beside))).await;
    let answer = answer.map_err(|error| Unreachable::Cut { sandbox, why: chain(&error) })?;
    Ok(answer.map(Body::new))
}

/// A server that was just started in the background listens in a moment (W-PX-7).
async fn open(tunnel: &NodeTunnel, sandbox: InstanceId, port: u16) -> Result<Tunnel, TunnelError> {
    for wait in DIAL_AGAIN_MS.map(Duration::from_millis) {
        match tunnel.open(sandbox, port).await {
            Err(TunnelError::PortClosed { .. }) => tokio::time::sleep(wait).await,
            opened => return opened,
        }
    }
    tunnel.open(sandbox, port).await
}

fn target(headers: &HeaderMap) -> Result<(InstanceId, u16), Unreachable> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let sandbox = text(&SANDBOX).ok_or(Unreachable::Malformed("the header E2b-Sandbox-Id is missing"))?;
    let port = text(&PORT).and_then(|port| port.parse().ok()).filter(|port| *port > 0);
    let port = port.ok_or(Unreachable::Malformed("the header E2b-Sandbox-Port is missing or no port"))?;
    let id = sandbox_id(sandbox);
    id.map(|id| (id, port)).ok_or_else(|| Unreachable::Gone(sandbox.chars().take(64).collect()))
}

fn runs(it: &Instance) -> bool {
    it.sandbox().is_some() && SandboxState::of(it.desired, it.status.phase) == SandboxState::Running
}

/// W-AUTH-1: everything but the question whether it lives.
fn admit(shared: &Shared, sandbox: InstanceId, request: &Request) -> Result<(), Unreachable> {
    let path = request.uri().path();
    if INTERNAL.contains(&path) {
        return Err(Unreachable::Internal);
    }
    let is_open = request.method() == Method::GET && path == "/health" || request.method() == Method::OPTIONS;
    let token = request.headers().get(TOKEN).and_then(|token| token.to_str().ok());
    let opens = is_open || token.is_some_and(|token| shared.vault.opens_sandbox(sandbox, token));
    if opens { Ok(()) } else { Err(Unreachable::NoToken) }
}

impl IntoResponse for Unreachable {
    fn into_response(self) -> Response {
        let plain =
            |status: StatusCode, message: &str| (status, json!({ "code": status.as_u16(), "message": message }));
        let bad = StatusCode::BAD_GATEWAY;
        let (status, body) = match self {
            Self::Malformed(why) => plain(StatusCode::BAD_REQUEST, why),
            Self::Internal => plain(StatusCode::NOT_FOUND, "there is no such path"),
            Self::NoToken => plain(StatusCode::UNAUTHORIZED, "the access token is missing or wrong"),
            Self::Gone(name) => {
                (bad, json!({ "sandboxId": name, "message": "The sandbox was not found", "code": bad.as_u16() }))
            }
            Self::PortClosed { sandbox, port } => {
                let (name, message) = (sandbox_name(sandbox), "The sandbox is running but port is not open");
                (bad, json!({ "sandboxId": name, "message": message, "port": port, "code": bad.as_u16() }))
            }
            Self::Cut { sandbox, why } => {
                tracing::info!(%sandbox, why, "a sandbox did not answer");
                let message = "The sandbox did not answer";
                (bad, json!({ "sandboxId": sandbox_name(sandbox), "message": message, "code": bad.as_u16() }))
            }
        };
        (status, Json(body)).into_response()
    }
}
