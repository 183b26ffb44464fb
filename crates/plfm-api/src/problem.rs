//! What an answer says that is none (RFC 9457): from the server, a node's door or an edge, in one form.

use http::{Response, StatusCode, header};
use plfm_core::ids::RequestId;
use serde::{Deserialize, Serialize};

const MEDIA_TYPE: &str = "application/problem+json";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    pub code: String,
    /// By which the logs know it; zero where nobody counts requests.
    pub request_id: RequestId,
    pub retryable: bool,
    /// What to type next.
    #[serde(default)]
    pub hint: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<ProblemDetail>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProblemDetail {
    pub field: String,
    pub message: String,
}

impl Problem {
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_owned(),
            request_id: RequestId::new(Default::default()),
            retryable: matches!(status.as_u16(), 429 | 502 | 503 | 504),
            hint: String::new(),
            details: Vec::new(),
        }
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    pub fn into_response<B: From<Vec<u8>>>(self) -> Response<B> {
        let body = serde_json::to_vec(&self).expect("strings and numbers have a JSON form");
        let response = Response::builder().status(self.status).header(header::CONTENT_TYPE, MEDIA_TYPE);
        // What failed now may be there in a moment.
        let response = response.header(header::CACHE_CONTROL, "no-store").body(B::from(body));
        response.expect("the status is one, and the headers are plain ASCII")
    }
}
