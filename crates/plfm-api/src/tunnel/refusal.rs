//! What an answer other than 101 means.

use http::{Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use plfm_core::ids::{InstanceId, NodeId};

use super::TunnelError;
use crate::problem::Problem;

/// A problem document has a few hundred bytes.
const PROBLEM_BYTES_MAX: usize = 16 * 1024;

pub async fn read(answer: Response<Incoming>, node: NodeId, instance: InstanceId, port: u16) -> TunnelError {
    let (status, detail) = (answer.status(), detail(answer).await);
    match status {
        StatusCode::NOT_FOUND => TunnelError::NotHere { instance, node },
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => TunnelError::PortClosed { instance, port, detail },
        _ => TunnelError::Refused { instance, node, status: status.as_u16(), detail },
    }
}

/// The problem's detail where there is one, else the status in words.
async fn detail(answer: Response<Incoming>) -> String {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), PROBLEM_BYTES_MAX).collect().await.ok();
    let problem = body.and_then(|body| serde_json::from_slice::<Problem>(&body.to_bytes()).ok());
    problem.map_or_else(|| status.canonical_reason().unwrap_or("no reason given").to_owned(), |problem| problem.detail)
}
