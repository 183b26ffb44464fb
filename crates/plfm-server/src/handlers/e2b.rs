//! E2B's control API, as its SDKs call it (`spec`: W-API, W-LIFE, W-LIST): the same sandboxes in that API's words.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderMap, HeaderName, StatusCode};
use plfm_api::problem::Problem;
use plfm_api::views::{SandboxRequest, SandboxState, SandboxView};
use plfm_core::event::{OnTimeout, Scope};
use plfm_core::fair::Class;
use plfm_core::ids::OrgId;
use plfm_core::quota::Dimension;
use plfm_core::state::State as Fold;
use serde::{Deserialize, Serialize};

use super::sandboxes::{accept, all, end, find, no_such, prolong, ready};
use crate::ApiError;
use crate::identity::Caller;
use crate::routes::Access;
use crate::serve::Shared;

mod page;
pub mod snapshots;

/// What SDKs decide by (W-OBJ-1).
const ENVD_VERSION: &str = "0.6.4";
const CLIENT: &str = "plfm";
const DEFAULT_ORG: &str = "default";
/// What a sandbox is given by a call that does not say how long.
pub const TIMEOUT_V1: u64 = 15;
pub const TIMEOUT: u64 = 300;
const PROBLEM_BYTES_MAX: usize = 1 << 20;
const NEXT_TOKEN: HeaderName = HeaderName::from_static("x-next-token");
const TOTAL_RUNNING: HeaderName = HeaderName::from_static("x-total-running");

/// What is not known here is ignored, what is known and not done is refused: never answered as if it were.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewSandbox {
    #[serde(rename = "templateID")]
    template: String,
    timeout: Option<i64>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default)]
    env_vars: BTreeMap<String, String>,
    #[serde(default)]
    auto_pause: bool,
    auto_pause_memory: Option<bool>,
    auto_resume: Option<AutoResume>,
    #[serde(rename = "allow_internet_access")]
    allow_internet_access: Option<bool>,
    network: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(default)]
    volume_mounts: Vec<serde_json::Value>,
    iam: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct AutoResume {
    enabled: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sandbox {
    #[serde(rename = "templateID")]
    template: String,
    #[serde(rename = "sandboxID")]
    sandbox: String,
    #[serde(rename = "clientID")]
    client: &'static str,
    envd_version: &'static str,
    alias: String,
    envd_access_token: String,
    traffic_access_token: Option<String>,
    domain: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    #[serde(rename = "templateID")]
    template: String,
    #[serde(rename = "sandboxID")]
    sandbox: String,
    #[serde(rename = "clientID")]
    client: &'static str,
    alias: String,
    started_at: String,
    end_at: String,
    cpu_count: u32,
    #[serde(rename = "memoryMB")]
    memory: u64,
    #[serde(rename = "diskSizeMB")]
    disk: u64,
    state: &'static str,
    envd_version: &'static str,
    metadata: BTreeMap<String, String>,
    volume_mounts: [(); 0],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    #[serde(flatten)]
    listed: Listed,
    #[serde(skip_serializing_if = "Option::is_none")]
    envd_access_token: Option<String>,
    allow_internet_access: Option<bool>,
    domain: Option<String>,
    lifecycle: Lifecycle,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Lifecycle {
    auto_resume: bool,
    on_timeout: &'static str,
}

#[derive(Deserialize)]
pub struct Timeout {
    timeout: Option<i64>,
}

#[derive(Default, Deserialize)]
pub struct Waking {
    timeout: Option<i64>,
    memory: Option<bool>,
}

#[derive(Deserialize)]
pub struct Pause {
    memory: Option<bool>,
}

/// The two generations of this call differ in the time that a sandbox has if nothing is said of it.
pub async fn create<const SECONDS: u64>(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Json(request): Json<NewSandbox>,
) -> Result<Response, ApiError> {
    // Who relies on being served once must not be served twice.
    if headers.contains_key("idempotency-key") {
        return Err(ApiError::invalid("this server cannot do `Idempotency-Key` yet", "leave it out"));
    }
    supported(&request)?;
    let timeout_seconds = request.timeout.map_or(SECONDS, seconds);
    if timeout_seconds == 0 {
        return Err(ApiError::invalid("a timeout is at least one second", "ask for more time"));
    }
    let org = own_org(&shared, &caller)?;
    let state = shared.writer.state();
    let NewSandbox { template, metadata, env_vars: vars, auto_pause, .. } = request;
    let template = snapshots::made_of(&state, org, &template);
    let org = state.orgs.get(&org).map(|org| org.name.clone()).unwrap_or_default();
    let on_timeout = if auto_pause { OnTimeout::Pause } else { OnTimeout::Kill };
    let class = Class::default();
    let wanted = SandboxRequest { template, timeout_seconds, on_timeout, vars, metadata, class };
    let (id, _) = accept(&shared, caller.actor()?, org, wanted).await?;
    let view = ready(&shared, id).await?;
    Ok((StatusCode::CREATED, Json(sandbox(&shared, &view))).into_response())
}

/// Calls that are known and not done: the sandbox is there, what is asked of it is not.
pub async fn not_yet() -> ApiError {
    let detail = "this server cannot do that yet";
    ApiError::new(StatusCode::NOT_IMPLEMENTED, "not_implemented", detail, "see docs/sandboxes.md for what it can do")
}

/// Who asked for something must not be left to think that he has it.
fn supported(request: &NewSandbox) -> Result<(), ApiError> {
    let network = request.network.as_ref().is_some_and(|rules| rules.values().any(|rule| !is_usual(rule)));
    let unsupported = match request {
        _ if request.auto_pause_memory == Some(false) => "autoPauseMemory: false",
        _ if request.auto_resume.as_ref().is_some_and(|it| it.enabled) => "autoResume",
        _ if request.allow_internet_access == Some(false) => "allow_internet_access: false",
        _ if !request.volume_mounts.is_empty() => "volumeMounts",
        _ if request.iam.as_ref().is_some_and(|iam| !iam.is_null()) => "iam",
        _ if network => "network",
        _ => return Ok(()),
    };
    Err(ApiError::invalid(format!("this server cannot do `{unsupported}` yet"), "leave it out"))
}

/// As if it had not been said.
fn is_usual(rule: &serde_json::Value) -> bool {
    match rule {
        serde_json::Value::Null | serde_json::Value::Bool(true) => true,
        serde_json::Value::Array(items) => items.is_empty(),
        serde_json::Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

pub async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let state = shared.writer.state();
    let view = there(&state, own_org(&shared, &caller)?, &name)?;
    // It opens the guest daemon: for who may run commands.
    let may_enter = caller.may(Access::Token(Scope::SandboxesWrite)).is_ok();
    let envd_access_token = may_enter.then(|| shared.vault.sandbox_token(view.id));
    let on_timeout = if view.on_timeout == OnTimeout::Pause { "pause" } else { "kill" };
    let lifecycle = Lifecycle { auto_resume: false, on_timeout };
    let listed = listed(view);
    Ok(Json(Detail { listed, envd_access_token, allow_internet_access: None, domain: None, lifecycle }).into_response())
}

pub async fn kill(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let state = shared.writer.state();
    let (id, _) = find(&state, own_org(&shared, &caller)?, &name)?;
    end(&shared, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// From now on, and be it less than before; at once if it is nothing (W-LIFE-2).
pub async fn set_timeout(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Json(request): Json<Timeout>,
) -> Result<StatusCode, ApiError> {
    let state = shared.writer.state();
    let (id, _) = find(&state, own_org(&shared, &caller)?, &name)?;
    let timeout = Duration::from_secs(request.timeout.map_or(TIMEOUT, seconds));
    prolong(&shared, &caller, id, timeout, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Never takes time away (W-LIFE-3); what is paused goes on, with as much as is said.
pub async fn connect(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    request: Option<Json<Waking>>,
) -> Result<Response, ApiError> {
    let state = shared.writer.state();
    let view = there(&state, own_org(&shared, &caller)?, &name)?;
    let timeout = waking(request, TIMEOUT)?;
    if view.state == SandboxState::Paused {
        match super::sandboxes::resume(&shared, &caller, view.id, timeout).await {
            Ok((_, view)) => return Ok((StatusCode::CREATED, Json(sandbox(&shared, &view))).into_response()),
            // Someone else was faster, or it could not be paused.
            Err(error) if error.0.code == "sandbox_not_paused" => {}
            Err(error) => return Err(error),
        }
    }
    prolong(&shared, &caller, view.id, timeout, true).await?;
    Ok(Json(sandbox(&shared, &view)).into_response())
}

/// As `connect` was before it was called so.
pub async fn resume(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    request: Option<Json<Waking>>,
) -> Result<Response, ApiError> {
    let state = shared.writer.state();
    let view = there(&state, own_org(&shared, &caller)?, &name)?;
    let timeout = waking(request, TIMEOUT_V1)?;
    let (_, view) = super::sandboxes::resume(&shared, &caller, view.id, timeout).await?;
    Ok((StatusCode::CREATED, Json(sandbox(&shared, &view))).into_response())
}

fn waking(request: Option<Json<Waking>>, usual: u64) -> Result<Duration, ApiError> {
    let Waking { timeout, memory } = request.map(|Json(request)| request).unwrap_or_default();
    whole(memory)?;
    Ok(Duration::from_secs(timeout.map_or(usual, seconds)))
}

/// With its memory: only its disk is not offered (W-LIFE-9, -12).
fn whole(memory: Option<bool>) -> Result<(), ApiError> {
    match memory {
        Some(false) => Err(ApiError::invalid("this server cannot do `memory: false` yet", "leave it out")),
        _ => Ok(()),
    }
}

pub async fn pause(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    request: Option<Json<Pause>>,
) -> Result<StatusCode, ApiError> {
    let state = shared.writer.state();
    let view = there(&state, own_org(&shared, &caller)?, &name)?;
    whole(request.and_then(|Json(request)| request.memory))?;
    super::sandboxes::pause(&shared, &caller, view.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let state = shared.writer.state();
    let wanted = page::Wanted::read(&wanted)?;
    let there = alive(&state, own_org(&shared, &caller)?);
    let page = wanted.page(there);
    let mut response = Json(page.items.into_iter().map(listed).collect::<Vec<_>>()).into_response();
    response.headers_mut().insert(TOTAL_RUNNING, page.total.into());
    let next = page.next.and_then(|token| token.try_into().ok());
    response.headers_mut().extend(next.map(|token| (NEXT_TOKEN, token)));
    Ok(response)
}

pub async fn list_running(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let state = shared.writer.state();
    let only = wanted.into_iter().filter(|(key, _)| key == "metadata");
    let only: Vec<_> = only.chain([("state".to_owned(), "running".to_owned())]).collect();
    let running = page::Wanted::read(&only)?.unlimited().page(alive(&state, own_org(&shared, &caller)?));
    Ok(Json(running.items.into_iter().map(listed).collect::<Vec<_>>()).into_response())
}

/// Less than nothing is nothing.
fn seconds(told: i64) -> u64 {
    u64::try_from(told).unwrap_or(0)
}

/// The org of the key, or the usual one of a token that is good for all.
fn own_org(shared: &Shared, caller: &Caller) -> Result<OrgId, ApiError> {
    match caller {
        Caller::Token { org: Some(org), .. } => Ok(*org),
        _ => shared.writer.state().org_named(DEFAULT_ORG).ok_or_else(|| ApiError::not_found("org", DEFAULT_ORG)),
    }
}

fn alive(state: &Fold, org: OrgId) -> Vec<SandboxView> {
    all(state, org).filter(is_there).collect()
}

/// In E2B's words: it has begun and is not over.
fn is_there(view: &SandboxView) -> bool {
    matches!(view.state, SandboxState::Running | SandboxState::Paused)
}

fn there(state: &Fold, org: OrgId, name: &str) -> Result<SandboxView, ApiError> {
    let (id, instance) = find(state, org, name)?;
    let view = plfm_api::views::sandbox(state, id, instance);
    view.filter(is_there).ok_or_else(|| no_such(name))
}

fn sandbox(shared: &Shared, view: &SandboxView) -> Sandbox {
    Sandbox {
        template: view.template.clone(),
        sandbox: view.name.clone(),
        client: CLIENT,
        envd_version: ENVD_VERSION,
        alias: view.template.clone(),
        envd_access_token: shared.vault.sandbox_token(view.id),
        traffic_access_token: None,
        domain: None,
    }
}

fn listed(view: SandboxView) -> Listed {
    // Of a paused one: since when (W-LIFE-6).
    let end = view.ends_at.unwrap_or(view.wanted_since);
    let started = if view.state == SandboxState::Running { view.wanted_since } else { view.created_at };
    Listed {
        template: view.template.clone(),
        sandbox: view.name,
        client: CLIENT,
        alias: view.template,
        started_at: started.to_string(),
        end_at: end.to_string(),
        cpu_count: view.cpu.0.div_ceil(1_000),
        memory: view.memory.0,
        disk: view.disk.0,
        state: view.state.code(),
        envd_version: ENVD_VERSION,
        metadata: view.metadata,
        volume_mounts: [],
    }
}

/// The same refusals in this API's form: the JavaScript SDK reads the number in the body, Python the status (W-API-2).
pub async fn as_e2b(response: Response) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let body = axum::body::to_bytes(response.into_body(), PROBLEM_BYTES_MAX).await.unwrap_or_default();
    let problem = serde_json::from_slice::<Problem>(&body).ok();
    let code = problem.as_ref().map(|problem| problem.code.clone()).unwrap_or_default();
    // A minute helps against too many starts, and nothing against the rest of a quota.
    let too_often = |problem: &Problem| problem.details.iter().any(|it| it.field == Dimension::StartsPerMinute.code());
    let is_too_often = problem.as_ref().is_some_and(too_often);
    let status = match (status, code.as_str()) {
        (_, "quota_exceeded") => StatusCode::TOO_MANY_REQUESTS,
        (StatusCode::UNPROCESSABLE_ENTITY, _) => StatusCode::BAD_REQUEST,
        (status, _) => status,
    };
    let text = || String::from_utf8_lossy(&body).into_owned();
    let message = problem.map_or_else(text, |problem| format!("{} ({})", problem.detail, problem.hint));
    // Only what may pass by itself is worth another try (W-API-5).
    let again = status == StatusCode::SERVICE_UNAVAILABLE || is_too_often;
    let headers = [("should-retry", again.to_string()), ("cache-control", "no-store".to_owned())];
    let body = serde_json::json!({ "code": status.as_u16(), "message": message, "error_code": code });
    (status, headers, Json(body)).into_response()
}
