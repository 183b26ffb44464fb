//! Snapshots and forks in E2B's words (W-SNAP): there a snapshot is a template, named `namespace/name:tag`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::StatusCode;
use plfm_api::views::{self, SnapshotState, SnapshotView, sandbox_id, sandbox_name};
use plfm_core::ids::{InstanceId, OrgId};
use plfm_core::state::State as Fold;
use plfm_core::units::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::snapshots as ours;
use super::{NEXT_TOKEN, TIMEOUT_V1, own_org, sandbox, seconds, there, whole};
use crate::ApiError;
use crate::identity::Caller;
use crate::serve::Shared;

/// There is one build of each name: a newer one takes its place.
const TAG: &str = "default";
const LIMIT_MAX: usize = 100;

#[derive(Default, Deserialize)]
pub struct Take {
    name: Option<String>,
    memory: Option<bool>,
}

#[derive(Default, Deserialize)]
pub struct Fork {
    timeout: Option<i64>,
    count: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wanted {
    #[serde(rename = "sandboxID")]
    sandbox: Option<String>,
    name: Option<String>,
    limit: Option<usize>,
    next_token: Option<String>,
}

#[derive(Serialize)]
struct Snapshot {
    #[serde(rename = "snapshotID")]
    id: String,
    names: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Forked {
    Sandbox(super::Sandbox),
    Error { code: u16, message: String },
}

pub async fn take(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    request: Option<Json<Take>>,
) -> Result<Response, ApiError> {
    let state = shared.writer.state();
    let org = own_org(&shared, &caller)?;
    let source = there(&state, org, &name)?;
    let Take { name, memory } = request.map(|Json(request)| request).unwrap_or_default();
    whole(memory)?;
    let name = name.map(|name| plain(&state, org, &name).map(str::to_owned).ok_or_else(|| unfit(&name))).transpose()?;
    let (_, view) = ours::take(&shared, &caller, source.id, name).await?;
    Ok((StatusCode::CREATED, Json(snapshot(&state, org, &view))).into_response())
}

/// A fork that failed is a line of the answer, and no failure of the call (W-SNAP-4).
pub async fn fork(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    request: Option<Json<Fork>>,
) -> Result<Response, ApiError> {
    let state = shared.writer.state();
    let source = there(&state, own_org(&shared, &caller)?, &name)?;
    let Fork { timeout, count } = request.map(|Json(request)| request).unwrap_or_default();
    let timeout = Duration::from_secs(timeout.map_or(TIMEOUT_V1, seconds));
    let (_, forks) = ours::fork(&shared, &caller, source.id, count.unwrap_or(1), timeout).await?;
    let forked = |fork: Result<views::SandboxView, ApiError>| match fork {
        Ok(view) => Forked::Sandbox(sandbox(&shared, &view)),
        Err(ApiError(problem)) => {
            Forked::Error { code: problem.status, message: format!("{} ({})", problem.detail, problem.hint) }
        }
    };
    Ok((StatusCode::CREATED, Json(forks.into_iter().map(forked).collect::<Vec<_>>())).into_response())
}

pub async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, ApiError> {
    let state = shared.writer.state();
    let org = own_org(&shared, &caller)?;
    let Wanted { sandbox, name, limit, next_token } = wanted;
    let of = sandbox.map(|text| sandbox_id(&text).map(sandbox_name).unwrap_or_default());
    let name = name.map(|name| plain(&state, org, &name).unwrap_or_default().to_owned());
    let is_wanted = |view: &SnapshotView| {
        let is_of = of.as_ref().is_none_or(|of| view.of == *of);
        view.state == SnapshotState::Ready && is_of && name.as_ref().is_none_or(|name| view.name == *name)
    };
    let limit = limit.unwrap_or(LIMIT_MAX);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(ApiError::invalid(format!("`limit` is 1 to {LIMIT_MAX}"), "correct the request"));
    }
    let foreign = || ApiError::invalid("`nextToken` is none of ours", "begin without one");
    let after = next_token.map(|token| cursor(&token).ok_or_else(foreign)).transpose()?;
    let all = views::snapshots(&state, org).into_iter().filter(is_wanted);
    // The newest first; what is gone meanwhile does not matter.
    let mut rest = all.skip_while(|view| after.is_some_and(|after| key(view) >= after)).peekable();
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let token = |view: &SnapshotView| format!("{}-{}", view.created_at.0, sandbox_name(view.id)).try_into().ok();
    let next = page.last().filter(|_| rest.peek().is_some()).and_then(token);
    let mut response = Json(page.iter().map(|view| snapshot(&state, org, view)).collect::<Vec<_>>()).into_response();
    response.headers_mut().extend(next.map(|token| (NEXT_TOKEN, token)));
    Ok(response)
}

/// Templates of images are not removed here.
pub async fn remove(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let state = shared.writer.state();
    let org = own_org(&shared, &caller)?;
    let id = ours::found(&state, org, plain(&state, org, &name).unwrap_or(&name))?;
    ours::release(&shared, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a sandbox is asked to be made of, as the platform calls it.
pub fn made_of(state: &Fold, org: OrgId, text: &str) -> String {
    ours::made_of(plain(state, org, text).unwrap_or(text))
}

fn snapshot(state: &Fold, org: OrgId, view: &SnapshotView) -> Snapshot {
    let namespace = state.orgs.get(&org).map(|org| org.name.as_str()).unwrap_or_default();
    let is_named = view.name != sandbox_name(view.id);
    let id = if is_named { format!("{namespace}/{}:{TAG}", view.name) } else { format!("{}:{TAG}", view.name) };
    Snapshot { names: is_named.then(|| id.clone()).into_iter().collect(), id }
}

/// Without the org's own namespace and the one tag that there is; none where there is another.
fn plain<'a>(state: &Fold, org: OrgId, text: &'a str) -> Option<&'a str> {
    let namespace = state.orgs.get(&org).map(|org| org.name.as_str()).unwrap_or_default();
    let name = match text.split_once('/') {
        Some((space, name)) => Some(name).filter(|_| space == namespace)?,
        None => text,
    };
    match name.split_once(':') {
        Some((name, tag)) => Some(name).filter(|_| tag == TAG),
        None => Some(name),
    }
}

fn unfit(name: &str) -> ApiError {
    let name: String = name.chars().take(80).collect();
    let detail = format!("`{name}` cannot be the name of a snapshot here");
    ApiError::invalid(detail, "leave out the namespace, or name the org's own, and the tag, or say `default`")
}

type Key = (Timestamp, InstanceId);

fn key(view: &SnapshotView) -> Key {
    (view.created_at, view.id)
}

fn cursor(token: &str) -> Option<Key> {
    let (at, id) = token.split_once('-')?;
    Some((Timestamp(at.parse().ok()?), sandbox_id(id)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_its_namespace_and_the_one_tag() {
        let state = Fold::default();
        let org = OrgId::from(ulid::Ulid::nil());
        let plain = |text| plain(&state, org, text);
        assert_eq!(
            (plain("ready"), plain("ready:default"), plain("/ready:default")),
            (Some("ready"), Some("ready"), Some("ready"))
        );
        assert_eq!((plain("ready:v2"), plain("ready:"), plain("other/ready")), (None, None, None));
    }

    #[test]
    fn a_token_is_what_was_shown_last() {
        let id = InstanceId::from(ulid::Ulid::from_parts(7, 9));
        assert_eq!(cursor(&format!("12-{}", sandbox_name(id))), Some((Timestamp(12), id)));
        assert_eq!((cursor(""), cursor("12"), cursor("x-y"), cursor("12-")), (None, None, None, None));
    }
}
