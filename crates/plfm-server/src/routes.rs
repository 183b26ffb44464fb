//! The one route table: method, path, who may call, what answers. Nothing is reachable that is not a row here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, StatusCode};
use plfm_api::tls::Peer;
use plfm_core::event::Scope;
use plfm_core::facts::Facts;
use plfm_core::ids::RequestId;
use plfm_store::AuditRecord;
use ring::rand::{SecureRandom, SystemRandom};

use crate::identity::Caller;
use crate::serve::Shared;
use crate::writer::now;
use crate::{ApiError, handlers, traffic};

/// P-API-1.
const BODY_BYTES_MAX: usize = 1 << 20;
/// A header names the newest event that an answer includes.
pub const SEQ_HEADER: HeaderName = HeaderName::from_static("x-plfm-seq");
const REQUEST_HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody. The handler itself checks what the body carries, or there is nothing to protect.
    Open,
    /// The holder of a token with this scope.
    Token(Scope),
    /// A node, by its certificate.
    Node,
}

pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub access: Access,
    handler: MethodRouter<Arc<Shared>>,
}

const fn route(method: &'static str, path: &'static str, access: Access, handler: MethodRouter<Arc<Shared>>) -> Route {
    Route { method, path, access, handler }
}

#[rustfmt::skip]
pub fn table() -> Vec<Route> {
    use Access::{Node, Open, Token};
    use Scope::*;
    use handlers::{apps, deploys, e2b, events, instances, keys, nodes, orgs, platform, sandboxes, snapshots, templates, volumes};
    vec![
        route("GET",  "/healthz",                                          Open,                get(platform::healthz)),
        route("GET",  "/v1/capabilities",                                  Open,                get(platform::capabilities)),
        route("GET",  "/metrics",                                          Token(NodesAdmin),   get(platform::metrics)),
        route("GET",  "/v1/events",                                        Token(EventsRead),   get(events::stream)),
        route("GET",  "/v1/nodes",                                         Token(NodesAdmin),   get(nodes::list)),
        route("GET",  "/v1/nodes/{node}",                                  Token(NodesAdmin),   get(nodes::show)),
        route("GET",  "/v1/nodes/{node}/explain",                          Token(NodesAdmin),   get(nodes::explain)),
        route("POST", "/v1/nodes/{node}/orders",                           Token(NodesAdmin),   post(nodes::order)),
        route("POST", "/v1/reschedule",                                    Token(NodesAdmin),   post(nodes::force_reschedule)),
        route("POST", "/v1/join-tokens",                                   Token(NodesAdmin),   post(nodes::create_join_token)),
        route("POST", "/v1/nodes/join",                                    Open,                post(nodes::join)),
        route("GET",  "/v1/nodes/{node}/plan",                             Node,                get(nodes::plan)),
        route("POST", "/v1/nodes/{node}/report",                           Node,                post(nodes::report)),
        route("GET",  "/v1/orgs/{org}",                                    Token(AppsRead),     get(orgs::show)),
        route("PATCH", "/v1/orgs/{org}/limits",                            Token(NodesAdmin),   patch(orgs::set_limits)),
        route("PUT",  "/v1/orgs/{org}/weight",                             Token(NodesAdmin),   put(orgs::set_weight)),
        route("PUT",  "/v1/orgs/{org}/constraints",                        Token(NodesAdmin),   put(orgs::set_constraints)),
        route("PUT",  "/v1/orgs/{org}/projects/{project}/weight",          Token(NodesAdmin),   put(orgs::set_project_weight)),
        route("GET",  "/v1/orgs/{org}/envs",                               Token(AppsRead),     get(apps::list_envs)),
        route("GET",  "/v1/orgs/{org}/apps/{app}/envs/{env}",              Token(AppsRead),     get(apps::env)),
        route("GET",  "/v1/orgs/{org}/apps/{app}/envs/{env}/explain",      Token(AppsRead),     get(apps::explain)),
        route("PUT",  "/v1/orgs/{org}/apps/{app}/envs/{env}/constraints",  Token(DeploysWrite), put(apps::set_constraints)),
        route("PUT",  "/v1/orgs/{org}/apps/{app}/envs/{env}/class",        Token(DeploysWrite), put(apps::set_class)),
        route("DELETE", "/v1/orgs/{org}/apps/{app}/envs/{env}/routes/{route}", Token(DeploysWrite), delete(apps::delete_route)),
        route("GET",  "/v1/orgs/{org}/apps/{app}/envs/{env}/deploys",      Token(AppsRead),     get(deploys::list)),
        route("POST", "/v1/orgs/{org}/apps/{app}/envs/{env}/deploys",      Token(DeploysWrite), post(deploys::create)),
        route("POST", "/v1/orgs/{org}/apps/{app}/envs/{env}/rollbacks",    Token(DeploysWrite), post(deploys::roll_back)),
        route("GET",  "/v1/orgs/{org}/volumes",                            Token(AppsRead),     get(volumes::list)),
        route("DELETE", "/v1/orgs/{org}/volumes/{volume}",                 Token(VolumesWrite), delete(volumes::remove)),
        route("GET",  "/v1/orgs/{org}/api-keys",                           Token(NodesAdmin),   get(keys::list)),
        route("POST", "/v1/orgs/{org}/api-keys",                           Token(NodesAdmin),   post(keys::create)),
        route("DELETE", "/v1/orgs/{org}/api-keys/{key}",                   Token(NodesAdmin),   delete(keys::revoke)),
        route("GET",  "/v1/orgs/{org}/templates",                          Token(SandboxesRead), get(templates::list)),
        route("POST", "/v1/orgs/{org}/templates",                          Token(DeploysWrite), post(templates::create)),
        route("GET",  "/v1/orgs/{org}/sandboxes",                          Token(SandboxesRead), get(sandboxes::list)),
        route("POST", "/v1/orgs/{org}/sandboxes",                          Token(SandboxesWrite), post(sandboxes::create)),
        route("GET",  "/v1/orgs/{org}/sandboxes/{sandbox}",                Token(SandboxesRead), get(sandboxes::show)),
        route("DELETE", "/v1/orgs/{org}/sandboxes/{sandbox}",              Token(SandboxesWrite), delete(sandboxes::kill)),
        route("POST", "/v1/orgs/{org}/sandboxes/{sandbox}/timeout",        Token(SandboxesWrite), post(sandboxes::set_timeout)),
        route("POST", "/v1/orgs/{org}/sandboxes/{sandbox}/pause",          Token(SandboxesWrite), post(sandboxes::pause_one)),
        route("POST", "/v1/orgs/{org}/sandboxes/{sandbox}/resume",         Token(SandboxesWrite), post(sandboxes::resume_one)),
        route("POST", "/v1/orgs/{org}/sandboxes/{sandbox}/fork",           Token(SandboxesWrite), post(snapshots::fork_one)),
        route("POST", "/v1/orgs/{org}/sandboxes/{sandbox}/snapshots",      Token(SandboxesWrite), post(snapshots::take_one)),
        route("GET",  "/v1/orgs/{org}/snapshots",                          Token(SandboxesRead), get(snapshots::list)),
        route("DELETE", "/v1/orgs/{org}/snapshots/{snapshot}",             Token(SandboxesWrite), delete(snapshots::release_one)),
        // E2B's control API, as its SDKs call it.
        route("POST", "/sandboxes",                                        Token(SandboxesWrite), post(e2b::create::<{ e2b::TIMEOUT_V1 }>)),
        route("POST", "/v2/sandboxes",                                     Token(SandboxesWrite), post(e2b::create::<{ e2b::TIMEOUT }>)),
        route("GET",  "/sandboxes",                                        Token(SandboxesRead), get(e2b::list_running)),
        route("GET",  "/v2/sandboxes",                                     Token(SandboxesRead), get(e2b::list)),
        route("GET",  "/sandboxes/{sandbox}",                              Token(SandboxesRead), get(e2b::show)),
        route("DELETE", "/sandboxes/{sandbox}",                            Token(SandboxesWrite), delete(e2b::kill)),
        route("POST", "/sandboxes/{sandbox}/timeout",                      Token(SandboxesWrite), post(e2b::set_timeout)),
        route("POST", "/sandboxes/{sandbox}/connect",                      Token(SandboxesWrite), post(e2b::connect)),
        route("POST", "/v2/sandboxes/{sandbox}/connect",                   Token(SandboxesWrite), post(e2b::connect)),
        route("POST", "/sandboxes/{sandbox}/pause",                        Token(SandboxesWrite), post(e2b::pause)),
        route("POST", "/sandboxes/{sandbox}/resume",                       Token(SandboxesWrite), post(e2b::resume)),
        route("POST", "/sandboxes/{sandbox}/fork",                         Token(SandboxesWrite), post(e2b::snapshots::fork)),
        route("POST", "/sandboxes/{sandbox}/snapshots",                    Token(SandboxesWrite), post(e2b::snapshots::take)),
        route("POST", "/sandboxes/{sandbox}/refreshes",                    Token(SandboxesWrite), post(e2b::not_yet)),
        route("PUT",  "/sandboxes/{sandbox}/network",                      Token(SandboxesWrite), put(e2b::not_yet)),
        route("GET",  "/sandboxes/{sandbox}/metrics",                      Token(SandboxesRead), get(e2b::not_yet)),
        route("GET",  "/sandboxes/{sandbox}/logs",                         Token(SandboxesRead), get(e2b::not_yet)),
        route("GET",  "/v2/sandboxes/{sandbox}/logs",                      Token(SandboxesRead), get(e2b::not_yet)),
        route("GET",  "/snapshots",                                        Token(SandboxesRead), get(e2b::snapshots::list)),
        route("DELETE", "/templates/{template}",                           Token(SandboxesWrite), delete(e2b::snapshots::remove)),
        route("GET",  "/v1/orgs/{org}/instances",                          Token(AppsRead),     get(instances::list)),
        route("GET",  "/v1/orgs/{org}/instances/{instance}",               Token(AppsRead),     get(instances::show)),
        route("GET",  "/v1/orgs/{org}/instances/{instance}/explain",       Token(AppsRead),     get(instances::explain)),
        route("GET",  "/v1/orgs/{org}/instances/{instance}/logs",          Token(LogsRead),     get(instances::logs)),
        route("GET",  "/v1/orgs/{org}/instances/{instance}/stats",         Token(AppsRead),     get(instances::stats)),
        route("GET",  "/v1/orgs/{org}/instances/{instance}/exec",          Token(ExecWrite),    get(instances::exec)),
    ]
}

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let mut router = Router::new();
    for Route { path, access, handler, .. } in table() {
        let guard = middleware::from_fn_with_state((shared.clone(), access), admit);
        let handler = handler.layer(guard);
        let is_e2b = !path.starts_with("/v1/") && access != Access::Open;
        let handler = if is_e2b { handler.layer(middleware::map_response(handlers::e2b::as_e2b)) } else { handler };
        router = router.route(path, handler);
    }
    let divert = middleware::from_fn_with_state(shared.clone(), traffic::divert);
    router
        .fallback(|| async { ApiError::not_found("such route", "here") })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::map_response(as_problem))
        .layer(divert)
        .layer(middleware::from_fn(with_request_id))
        .with_state(shared)
}

tokio::task_local! {
    static REQUEST: RequestId;
}

/// The request that this task answers.
pub(crate) fn current_request() -> RequestId {
    REQUEST.try_with(|request| *request).unwrap_or_else(|_| fresh())
}

/// An id that nobody can have had before.
pub(crate) fn fresh<I: From<ulid::Ulid>>() -> I {
    let mut entropy = [0; 16];
    SystemRandom::new().fill(&mut entropy).expect("the kernel gives random bytes once it has booted");
    Facts { now: now(), entropy: u128::from_ne_bytes(entropy), ..Facts::default() }.ids().fresh()
}

/// What was refused before a handler saw it (a path, a query, a body that cannot be read) is answered as handlers answer.
async fn as_problem(response: Response) -> Response {
    let status = response.status();
    let is_text = response.headers().get(CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().starts_with(b"text/"));
    if !is_text || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (code, hint) = match status {
        StatusCode::METHOD_NOT_ALLOWED => ("method_not_allowed", "ask with the method that the route has"),
        StatusCode::PAYLOAD_TOO_LARGE => ("too_large", "send less: a body has at most 1 MiB"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ("unsupported_media_type", "send `Content-Type: application/json`"),
        status if status.is_server_error() => ("internal", "look at the log of the server"),
        _ => ("invalid_argument", "mend what is sent"),
    };
    let allow = response.headers().get(ALLOW).cloned();
    let text = axum::body::to_bytes(response.into_body(), BODY_BYTES_MAX).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&text);
    let detail = if said.is_empty() { status.canonical_reason().unwrap_or_default() } else { &*said };
    let mut response = ApiError::new(status, code, detail, hint).into_response();
    response.headers_mut().extend(allow.map(|allow| (ALLOW, allow)));
    response
}

async fn with_request_id(request: Request, next: Next) -> Response {
    let id: RequestId = fresh();
    let mut response = REQUEST.scope(id, next.run(request)).await;
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(REQUEST_HEADER, value);
    }
    response
}

/// The one gate: who is it, may they, and if not, on record.
async fn admit(State((shared, access)): State<(Arc<Shared>, Access)>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().cloned();
    let caller = Caller::of(request.headers(), peer.as_ref(), &shared.writer.state());
    if let Err(refusal) = caller.may(access) {
        let action = format!("{} {}", request.method(), request.uri().path());
        record(&shared, &caller, action, &refusal.0.code).await;
        return refusal.into_response();
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// Strangers may knock as often as they like: what is written of it stays small, for each record is a write to the disk of the log.
const STRANGERS_PER_SECOND_MAX: u32 = 10;

/// How many strangers were refused in the second that runs.
#[derive(Default)]
pub(crate) struct Strangers(Mutex<Option<(Instant, u32)>>);

impl Strangers {
    /// One more; how many there were in this second before.
    fn count(&self) -> u32 {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = counted.filter(|(since, _)| since.elapsed() < Duration::from_secs(1));
        let (since, count) = running.unwrap_or_else(|| (Instant::now(), 0));
        *counted = Some((since, count + 1));
        count
    }
}

pub(crate) async fn record(shared: &Arc<Shared>, caller: &Caller, action: String, code: &str) {
    if matches!(caller, Caller::Nobody | Caller::Unknown) {
        match shared.strangers.count() {
            ..STRANGERS_PER_SECOND_MAX => {}
            STRANGERS_PER_SECOND_MAX => tracing::warn!("more strangers are refused than are written to the audit"),
            _ => return,
        }
    }
    let record =
        AuditRecord { at: now(), identity: caller.name(), action, code: code.to_owned(), request: current_request() };
    let store = shared.store.clone();
    let written = tokio::task::spawn_blocking(move || store.audit(&record)).await;
    if !matches!(written, Ok(Ok(()))) {
        tracing::error!("a refusal could not be written to the audit");
    }
}

/// How long a stream may be silent before it says that it is still there.
pub const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// A write's answer.
pub(crate) fn accepted(status: StatusCode, seq: plfm_core::units::Seq, body: impl serde::Serialize) -> Response {
    (status, [(SEQ_HEADER, seq.to_string())], axum::Json(body)).into_response()
}
