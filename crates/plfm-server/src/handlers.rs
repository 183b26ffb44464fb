//! What answers each route, one file per kind of resource.

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream, StreamExt};
use http::header;
use plfm_core::ids::OrgId;
use plfm_core::state::State;
use serde::Serialize;

use crate::ApiError;
use crate::identity::Caller;

pub mod apps;
pub mod deploys;
pub mod e2b;
pub mod events;
pub mod instances;
pub mod keys;
pub mod nodes;
pub mod orgs;
pub mod platform;
pub mod sandboxes;
pub mod snapshots;
pub mod templates;
pub mod volumes;

/// The org that a path names, if the caller may know of it.
fn org(state: &State, caller: &Caller, name: &str) -> Result<OrgId, ApiError> {
    let org = state.org_named(name).filter(|org| caller.sees(*org));
    org.ok_or_else(|| ApiError::not_found("org", name))
}

/// One JSON document a line, each sent as it comes.
fn ndjson<T: Serialize>(items: impl Stream<Item = T> + Send + 'static) -> Response {
    let lines = items.map(|item| {
        let mut line = serde_json::to_vec(&item)?;
        line.push(b'\n');
        Ok::<_, serde_json::Error>(Bytes::from(line))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// What `next` makes of the state, each time it has something new; ends when the server stops.
fn whenever<S, T, F, N>(start: S, next: N) -> impl Stream<Item = T>
where
    N: FnMut(S) -> F,
    F: Future<Output = Option<(T, S)>>,
{
    stream::unfold(start, next)
}
