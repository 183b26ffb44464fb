//! The log as a stream.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Response;
use futures::StreamExt;
use futures::stream;
use plfm_api::views::EventLine;
use plfm_core::units::Seq;
use serde::Deserialize;

use super::{ndjson, whenever};
use crate::ApiError;
use crate::serve::Shared;

/// Events read from the store in one go.
const PAGE: usize = 500;

#[derive(Deserialize)]
pub struct Wanted {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    follow: bool,
}

pub async fn stream(State(shared): State<Arc<Shared>>, Query(wanted): Query<Wanted>) -> Result<Response, ApiError> {
    let published = shared.writer.watch();
    let pages = whenever((shared, published, Seq(wanted.after)), move |(shared, mut published, after)| async move {
        loop {
            let head = published.borrow_and_update().seq;
            if after < head {
                let page = shared.events(after, PAGE).await;
                let page =
                    page.inspect_err(|error| tracing::error!(error = error.0.detail, "an event stream ends")).ok()?;
                let last = page.last()?.seq;
                return Some((page, (shared, published, last)));
            }
            if !wanted.follow {
                return None;
            }
            published.changed().await.ok()?;
        }
    });
    Ok(ndjson(pages.flat_map(|page| stream::iter(page.iter().map(EventLine::from).collect::<Vec<_>>()))))
}
