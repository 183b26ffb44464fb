//! Snapshots and forks: taken, listed, let go, and waited for.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::Response;
use axum::{Extension, Json};
use http::StatusCode;
use plfm_api::views::{self, ForkRequest, ForksView, Items, SandboxView, SnapshotRequest, SnapshotState, SnapshotView};
use plfm_core::command::{Command, ForkSandbox};
use plfm_core::decide::decide;
use plfm_core::decide::snapshots::FORKS_MAX;
use plfm_core::ids::{InstanceId, OrgId};
use plfm_core::state::State as Fold;
use plfm_core::units::Seq;

use super::org;
use super::sandboxes::{PAUSE_MAX, fell_through, find, ready, seen, too_slow};
use crate::ApiError;
use crate::identity::Caller;
use crate::routes::{accepted, current_request, fresh};
use crate::serve::Shared;

pub async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Items<SnapshotView>>, ApiError> {
    let state = shared.writer.state();
    let org = org(&state, &caller, &name)?;
    Ok(Json(Items { items: views::snapshots(&state, org) }))
}

pub async fn take_one(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((name, sandbox)): Path<(String, String)>,
    Json(request): Json<SnapshotRequest>,
) -> Result<Response, ApiError> {
    let state = shared.writer.state();
    let (id, _) = find(&state, org(&state, &caller, &name)?, &sandbox)?;
    let (seq, view) = take(&shared, &caller, id, request.name).await?;
    Ok(accepted(StatusCode::CREATED, seq, view))
}

pub async fn release_one(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((name, snapshot)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let state = shared.writer.state();
    let org = org(&state, &caller, &name)?;
    let seq = release(&shared, &caller, found(&state, org, &snapshot)?).await?;
    Ok(accepted(StatusCode::OK, seq, serde_json::json!({ "ok": true })))
}

pub async fn fork_one(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((name, sandbox)): Path<(String, String)>,
    Json(request): Json<ForkRequest>,
) -> Result<Response, ApiError> {
    let state = shared.writer.state();
    let (id, _) = find(&state, org(&state, &caller, &name)?, &sandbox)?;
    let timeout = Duration::from_secs(request.timeout_seconds);
    let (seq, forks) = fork(&shared, &caller, id, request.count, timeout).await?;
    let (mut items, mut problems) = (Vec::new(), Vec::new());
    for fork in forks {
        fork.map_or_else(|error| problems.push(error.0), |view| items.push(view));
    }
    match problems.into_iter().next() {
        Some(problem) if items.is_empty() => Err(ApiError(problem)),
        problem => {
            let problem = problem.map(|problem| *problem);
            Ok(accepted(StatusCode::CREATED, seq, ForksView { items, problem }))
        }
    }
}

/// Until all of it is safe on disk.
pub(super) async fn take(
    shared: &Shared,
    caller: &Caller,
    of: InstanceId,
    name: Option<String>,
) -> Result<(Seq, SnapshotView), ApiError> {
    let snapshot = fresh();
    let command = Command::SnapshotSandbox { snapshot, of, name };
    let seq = shared.writer.submit(command, caller.actor()?, current_request()).await?;
    let view = |state: &Fold| views::snapshot(state, snapshot);
    match seen(shared, PAUSE_MAX, view, |view| view.state != SnapshotState::Creating).await {
        Some(Some(view)) if view.state == SnapshotState::Ready => Ok((seq, view)),
        Some(view) => Err(fell_through(view.and_then(|view| view.failure), "there is no snapshot")),
        None => Err(too_slow("snapshot_failed", format!("there is no snapshot after {PAUSE_MAX:?}"))),
    }
}

pub(super) async fn release(shared: &Shared, caller: &Caller, snapshot: InstanceId) -> Result<Seq, ApiError> {
    Ok(shared.writer.submit(Command::ReleaseSnapshot { snapshot }, caller.actor()?, current_request()).await?)
}

/// Each until it runs, or why it does not.
pub(super) async fn fork(
    shared: &Shared,
    caller: &Caller,
    of: InstanceId,
    count: u32,
    timeout: Duration,
) -> Result<(Seq, Vec<Result<SandboxView, ApiError>>), ApiError> {
    let snapshot = fresh();
    // One more than are allowed is enough to be refused.
    let forks: Vec<_> = (0..=FORKS_MAX).take(count as usize).map(|_| fresh()).collect();
    let wanted = ForkSandbox { of, snapshot, forks: forks.clone(), timeout };
    let seq = shared.writer.submit(Command::ForkSandbox(wanted.clone()), caller.actor()?, current_request()).await?;
    let wait = async |fork: &InstanceId| {
        if !shared.writer.state().instances.contains_key(fork) {
            return Err(no_room(shared, &wanted));
        }
        ready(shared, *fork).await.map_err(|error| not_taken(shared, snapshot).unwrap_or(error))
    };
    Ok((seq, futures::future::join_all(forks.iter().map(wait)).await))
}

/// What one more would be refused for.
fn no_room(shared: &Shared, wanted: &ForkSandbox) -> ApiError {
    let one = ForkSandbox { snapshot: fresh(), forks: vec![fresh()], ..wanted.clone() };
    let refused = decide(&shared.writer.state(), Command::ForkSandbox(one), &shared.writer.facts());
    refused.err().map_or_else(
        || {
            let detail = "there was no room for it";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_room", detail, "try again")
        },
        ApiError::from,
    )
}

/// Why nothing could go on from it.
fn not_taken(shared: &Shared, snapshot: InstanceId) -> Option<ApiError> {
    let failure = views::snapshot(&shared.writer.state(), snapshot)?.failure?;
    Some(fell_through(Some(failure), "the sandbox could not be forked"))
}

/// What a sandbox is asked to be made of: the id of a snapshot may be said as sandboxes' are.
pub(super) fn made_of(text: &str) -> String {
    views::sandbox_id(text).map_or_else(|| text.to_owned(), |id| id.to_string())
}

/// By its name or its id, in whichever form.
pub(super) fn found(state: &Fold, org: OrgId, text: &str) -> Result<InstanceId, ApiError> {
    let by_name = state.snapshot_named(org, text).map(|(id, _)| id);
    let of_org = |id: &InstanceId| {
        let it = state.instances.get(id).filter(|it| it.org == org && it.holds_resources());
        it.and_then(|it| it.snapshot()).is_some_and(|it| it.kept)
    };
    by_name.or_else(|| views::sandbox_id(text).filter(of_org)).ok_or_else(|| {
        let text: String = text.chars().take(80).collect();
        let hint = "list snapshots with `plfm snapshot ls`";
        ApiError::new(StatusCode::NOT_FOUND, "snapshot_not_found", format!("there is no snapshot `{text}`"), hint)
    })
}
