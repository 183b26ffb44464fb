//! Is it there, and what can it do.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use plfm_api::views::Capabilities;

use crate::serve::Shared;

pub async fn healthz() -> &'static str {
    "ok\n"
}

pub async fn capabilities(State(shared): State<Arc<Shared>>) -> Json<Capabilities> {
    let domain = shared.writer.state().cluster.as_ref().map(|cluster| cluster.domain.clone()).unwrap_or_default();
    Json(Capabilities { version: env!("CARGO_PKG_VERSION").to_owned(), api: "v1".to_owned(), domain })
}
