//! Sandboxes: created and waited for, shown, given more time, killed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::Response;
use axum::{Extension, Json};
use http::StatusCode;
use plfm_api::views::{self, Items, SandboxRequest, SandboxState, SandboxView, TimeoutRequest, sandbox_id};
use plfm_core::command::{Command, CreateSandbox};
use plfm_core::decide::decide;
use plfm_core::event::{Actor, DesiredChange};
use plfm_core::ids::{InstanceId, OrgId};
use plfm_core::phase::InstancePhase;
use plfm_core::reason::Failure;
use plfm_core::state::{Instance, START_MAX, State as Fold};
use plfm_core::units::Seq;

use super::org;
use super::snapshots::made_of;
use crate::ApiError;
use crate::identity::Caller;
use crate::routes::{accepted, current_request, fresh};
use crate::serve::{SANDBOX_VARS, Shared};
use crate::writer::now;

/// They are sent to the node, and read by every process that is started.
const VARS_BYTES_MAX: usize = 64 << 10;
/// Who ends what does not start is the platform; this is when it has had time to say so.
const ANSWER_MAX: Duration = START_MAX.saturating_add(Duration::from_secs(15));
/// Its memory is written to the disk of its node, or read from it.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(300);
const PROJECT: &str = "default";

pub async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Items<SandboxView>>, ApiError> {
    let state = shared.writer.state();
    let org = org(&state, &caller, &name)?;
    Ok(Json(Items { items: all(&state, org).collect() }))
}

pub async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((name, sandbox)): Path<(String, String)>,
) -> Result<Json<SandboxView>, ApiError> {
    let state = shared.writer.state();
    let org = org(&state, &caller, &name)?;
    let (id, instance) = find(&state, org, &sandbox)?;
    views::sandbox(&state, id, instance).map(Json).ok_or_else(|| no_such(&sandbox))
}

pub async fn create(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(org_name): Path<String>,
    Json(request): Json<SandboxRequest>,
) -> Result<Response, ApiError> {
    org(&shared.writer.state(), &caller, &org_name)?;
    let request = SandboxRequest { template: made_of(&request.template), ..request };
    let actor = caller.actor()?;
    let (id, seq) = accept(&shared, actor, org_name, request).await?;
    Ok(accepted(StatusCode::CREATED, seq, ready(&shared, id).await?))
}

pub async fn kill(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((name, sandbox)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let state = shared.writer.state();
    let org = org(&state, &caller, &name)?;
    let (id, _) = find(&state, org, &sandbox)?;
    let seq = end(&shared, &caller, id).await?;
    Ok(accepted(StatusCode::OK, seq, serde_json::json!({ "ok": true })))
}

pub async fn set_timeout(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((name, sandbox)): Path<(String, String)>,
    Json(request): Json<TimeoutRequest>,
) -> Result<Response, ApiError> {
    let state = shared.writer.state();
    let org = org(&state, &caller, &name)?;
    let (id, _) = find(&state, org, &sandbox)?;
    let seq = prolong(&shared, &caller, id, Duration::from_secs(request.timeout_seconds), false).await?;
    let state = shared.writer.state();
    let view = state.instances.get(&id).and_then(|instance| views::sandbox(&state, id, instance));
    Ok(accepted(StatusCode::OK, seq, view.ok_or_else(|| no_such(&sandbox))?))
}

pub async fn pause_one(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((name, sandbox)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let state = shared.writer.state();
    let (id, _) = find(&state, org(&state, &caller, &name)?, &sandbox)?;
    let (seq, view) = pause(&shared, &caller, id).await?;
    Ok(accepted(StatusCode::OK, seq, view))
}

pub async fn resume_one(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((name, sandbox)): Path<(String, String)>,
    Json(request): Json<TimeoutRequest>,
) -> Result<Response, ApiError> {
    let state = shared.writer.state();
    let (id, _) = find(&state, org(&state, &caller, &name)?, &sandbox)?;
    let (seq, view) = resume(&shared, &caller, id, Duration::from_secs(request.timeout_seconds)).await?;
    Ok(accepted(StatusCode::OK, seq, view))
}

/// Those that hold resources.
pub(super) fn all(state: &Fold, org: OrgId) -> impl Iterator<Item = SandboxView> {
    let there = state.index().sandboxes().filter_map(|id| Some((id, state.instances.get(&id)?)));
    there.filter(move |(_, it)| it.org == org).filter_map(|(id, it)| views::sandbox(state, id, it))
}

pub(super) fn find<'a>(state: &'a Fold, org: OrgId, text: &str) -> Result<(InstanceId, &'a Instance), ApiError> {
    let found = sandbox_id(text).and_then(|id| Some((id, state.instances.get(&id)?)));
    found.filter(|(_, it)| it.org == org && it.sandbox().is_some()).ok_or_else(|| no_such(text))
}

pub(super) fn no_such(text: &str) -> ApiError {
    let text: String = text.chars().take(80).collect();
    let hint = "list sandboxes with `plfm sandbox ls`";
    ApiError::new(StatusCode::NOT_FOUND, "sandbox_not_found", format!("there is no sandbox `{text}`"), hint)
}

pub(super) async fn accept(
    shared: &Shared,
    actor: Actor,
    org: String,
    request: SandboxRequest,
) -> Result<(InstanceId, Seq), ApiError> {
    let SandboxRequest { template, timeout_seconds, on_timeout, vars, metadata, class } = request;
    check_vars(&vars)?;
    let instance = fresh();
    let project = PROJECT.to_owned();
    let timeout = Duration::from_secs(timeout_seconds);
    let mut wanted =
        CreateSandbox { instance, org, project, template, vars: None, metadata, class, timeout, on_timeout };
    if !vars.is_empty() {
        // What is refused anyway leaves nothing on the disk of the log.
        let command = Command::CreateSandbox(Box::new(wanted.clone()));
        decide(&shared.writer.state(), command, &shared.writer.facts())?;
        let vars = BTreeMap::from([(SANDBOX_VARS.to_owned(), vars)]);
        wanted.vars = Some(shared.keep(shared.vault.seal(&vars)).await?);
    }
    let seq = shared.writer.submit(Command::CreateSandbox(Box::new(wanted)), actor, current_request()).await?;
    Ok((instance, seq))
}

fn check_vars(vars: &BTreeMap<String, String>) -> Result<(), ApiError> {
    let unfit = vars.iter().find(|(name, value)| {
        name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') || name.bytes().any(|byte| byte < b' ')
    });
    if let Some((name, _)) = unfit {
        let name: String = name.chars().take(80).collect();
        return Err(ApiError::invalid(format!("`{name}` cannot be a variable"), "use a name without `=`, and no NUL"));
    }
    let bytes: usize = vars.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > VARS_BYTES_MAX {
        let detail = format!("the variables have {bytes} bytes, {VARS_BYTES_MAX} are the most");
        return Err(ApiError::invalid(detail, "write what is large into a file of the sandbox"));
    }
    Ok(())
}

/// Until it runs. One that does not come to run leaves nothing behind.
pub(super) async fn ready(shared: &Shared, id: InstanceId) -> Result<SandboxView, ApiError> {
    match settled(shared, id, ANSWER_MAX, |view| view.state != SandboxState::Creating).await {
        Some(Some(view)) if view.state == SandboxState::Running => Ok(view),
        Some(Some(view)) if view.failure.is_some() => Err(never_ran(Some(view))),
        Some(Some(view)) if now() < view.created_at + START_MAX => Err(never_ran(Some(view))),
        Some(None) => Err(never_ran(None)),
        _ => Err(too_slow("startup_timeout", format!("the sandbox did not come to run within {START_MAX:?}"))),
    }
}

/// Until all that it is is safe on disk. What could not be paused runs on.
pub(super) async fn pause(shared: &Shared, caller: &Caller, id: InstanceId) -> Result<(Seq, SandboxView), ApiError> {
    let command = Command::PauseSandbox { instance: id, why: DesiredChange::Paused };
    let seq = shared.writer.submit(command, caller.actor()?, current_request()).await?;
    let is_done = |view: &SandboxView| view.phase == InstancePhase::Paused || view.state != SandboxState::Paused;
    match settled(shared, id, PAUSE_MAX, is_done).await {
        Some(Some(view)) if view.state == SandboxState::Paused => Ok((seq, view)),
        Some(view) => Err(fell_through(why(view), "the sandbox was not paused")),
        None => Err(too_slow("snapshot_failed", format!("the sandbox was not paused within {PAUSE_MAX:?}"))),
    }
}

/// Until it runs again, where it left off. One that is only about to be paused is waited for first (W-LIFE-7).
pub(super) async fn resume(
    shared: &Shared,
    caller: &Caller,
    id: InstanceId,
    timeout: Duration,
) -> Result<(Seq, SandboxView), ApiError> {
    let is_being_paused = |view: &SandboxView| view.state == SandboxState::Paused && view.phase < InstancePhase::Paused;
    settled(shared, id, PAUSE_MAX, |view| !is_being_paused(view)).await;
    let command = Command::ResumeSandbox { instance: id, timeout };
    let seq = shared.writer.submit(command, caller.actor()?, current_request()).await?;
    // What an earlier try said is no answer to this one.
    let is_tried = |view: &SandboxView| view.state != SandboxState::Paused || view.failure.is_none();
    settled(shared, id, PAUSE_MAX, is_tried).await;
    let is_done = |view: &SandboxView| view.state != SandboxState::Paused || view.failure.is_some();
    match settled(shared, id, PAUSE_MAX, is_done).await {
        Some(Some(view)) if view.state == SandboxState::Running => Ok((seq, view)),
        Some(view) => Err(fell_through(why(view), "the sandbox did not go on; it is tried again")),
        None => Err(too_slow("restore_failed", format!("the sandbox did not go on within {PAUSE_MAX:?}"))),
    }
}

/// The first sight of it that is `done`, or none if it is not known any more; none at all if that takes too long.
async fn settled(
    shared: &Shared,
    id: InstanceId,
    patience: Duration,
    done: impl Fn(&SandboxView) -> bool,
) -> Option<Option<SandboxView>> {
    let view = |state: &Fold| state.instances.get(&id).and_then(|instance| views::sandbox(state, id, instance));
    seen(shared, patience, view, done).await
}

pub(super) async fn seen<V>(
    shared: &Shared,
    patience: Duration,
    look: impl Fn(&Fold) -> Option<V>,
    done: impl Fn(&V) -> bool,
) -> Option<Option<V>> {
    let mut published = shared.writer.watch();
    let settled = async {
        loop {
            let view = look(&published.borrow_and_update().clone());
            match view {
                Some(view) if !done(&view) => {}
                view => return view,
            }
            if published.changed().await.is_err() {
                return None;
            }
        }
    };
    tokio::time::timeout(patience, settled).await.ok()
}

pub(super) fn too_slow(code: &'static str, detail: String) -> ApiError {
    ApiError::new(StatusCode::GATEWAY_TIMEOUT, code, detail, "look at `plfm nodes`")
}

pub(super) fn fell_through(failure: Option<Failure>, what: &str) -> ApiError {
    let Some(failure) = failure else {
        let detail = "the sandbox was ended meanwhile";
        return ApiError::new(StatusCode::CONFLICT, "sandbox_ended", detail, "create another one");
    };
    let (detail, hint) = (format!("{what}: {}", failure.detail), failure.reason.hint());
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, failure.reason.code(), detail, hint)
}

fn why(view: Option<SandboxView>) -> Option<Failure> {
    view.and_then(|view| view.failure)
}

fn never_ran(view: Option<SandboxView>) -> ApiError {
    let Some(failure) = why(view) else {
        let detail = "the sandbox was ended before it came to run";
        return ApiError::new(StatusCode::CONFLICT, "sandbox_ended", detail, "create another one");
    };
    let (detail, hint) = (format!("the sandbox did not come to run: {}", failure.detail), failure.reason.hint());
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, failure.reason.code(), detail, hint)
}

pub(super) async fn end(shared: &Shared, caller: &Caller, id: InstanceId) -> Result<Seq, ApiError> {
    let actor = caller.actor()?;
    Ok(shared.writer.submit(Command::KillSandbox { instance: id }, actor, current_request()).await?)
}

pub(super) async fn prolong(
    shared: &Shared,
    caller: &Caller,
    id: InstanceId,
    timeout: Duration,
    at_least: bool,
) -> Result<Seq, ApiError> {
    let actor = caller.actor()?;
    let command = Command::SetSandboxTimeout { instance: id, ends_at: now() + timeout, at_least };
    Ok(shared.writer.submit(command, actor, current_request()).await?)
}
