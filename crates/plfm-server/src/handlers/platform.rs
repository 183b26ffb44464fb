//! Is it there, and what can it do.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use plfm_api::views::Capabilities;

use crate::serve::Shared;

pub async fn healthz() -> &'static str {
    "ok\n"
}

/// As a monitoring system reads it.
pub async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    shared.look();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], shared.metrics.render())
}

pub async fn capabilities(State(shared): State<Arc<Shared>>) -> Json<Capabilities> {
    let domain = shared.writer.state().cluster.as_ref().map(|cluster| cluster.domain.clone()).unwrap_or_default();
    Json(Capabilities { version: env!("CARGO_PKG_VERSION").to_owned(), api: "v1".to_owned(), domain })
}
