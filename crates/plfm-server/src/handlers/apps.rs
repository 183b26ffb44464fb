//! Environments: what is wanted, what is there, and why.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use axum::{Extension, Json};
use http::StatusCode;
use plfm_api::views::{self, ClassRequest, ClosedPorts, ConstraintsRequest, EnvView, Explanation, Items};
use plfm_core::command::Command;
use plfm_core::event::Entry;
use plfm_core::ids::{EnvId, RouteId};
use plfm_core::state::State as Fold;

use super::org;
use crate::ApiError;
use crate::identity::Caller;
use crate::routes::{accepted, current_request};
use crate::serve::Shared;

pub(super) type EnvPath = Path<(String, String, String)>;

pub async fn list_envs(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Items<EnvView>>, ApiError> {
    let state = shared.writer.state();
    let org = org(&state, &caller, &name)?;
    let envs = state.envs.iter().filter(|(_, env)| env.org == org).map(|(id, _)| *id);
    let closed = shared.closed_ports.borrow().clone();
    let edge = shared.edge(&closed);
    Ok(Json(Items { items: envs.filter_map(|id| views::env(&state, id, edge)).collect() }))
}

pub async fn env(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: EnvPath,
) -> Result<Json<EnvView>, ApiError> {
    let state = shared.writer.state();
    let (id, name) = find(&state, &caller, path)?;
    let closed = shared.closed_ports.borrow().clone();
    let edge = shared.edge(&closed);
    views::env(&state, id, edge).map(Json).ok_or_else(|| ApiError::not_found("environment", name))
}

pub async fn explain(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: EnvPath,
) -> Result<Json<Explanation>, ApiError> {
    let state = shared.writer.state();
    let (id, name) = find(&state, &caller, path)?;
    let closed = shared.closed_ports.borrow().clone();
    let explained = plfm_core::explain::env(&state, &shared.writer.facts(), &closed, id);
    explained.map(|it| Json(views::explanation(&state, it))).ok_or_else(|| ApiError::not_found("environment", name))
}

/// Which nodes get what it starts from now on.
pub async fn set_constraints(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: EnvPath,
    Json(request): Json<ConstraintsRequest>,
) -> Result<Response, ApiError> {
    let (env, name) = find(&shared.writer.state(), &caller, path)?;
    let command = Command::SetEnvConstraints { env, constraints: request.constraints };
    let seq = shared.writer.submit(command, caller.actor()?, current_request()).await?;
    let view = views::env(&shared.writer.state(), env, shared.edge(&ClosedPorts::new()));
    Ok(accepted(StatusCode::OK, seq, view.ok_or_else(|| ApiError::not_found("environment", name))?))
}

/// As which its instances are served, in its project.
pub async fn set_class(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: EnvPath,
    Json(request): Json<ClassRequest>,
) -> Result<Response, ApiError> {
    let (env, name) = find(&shared.writer.state(), &caller, path)?;
    let command = Command::SetEnvClass { env, class: request.class };
    let seq = shared.writer.submit(command, caller.actor()?, current_request()).await?;
    let view = views::env(&shared.writer.state(), env, shared.edge(&ClosedPorts::new()));
    Ok(accepted(StatusCode::OK, seq, view.ok_or_else(|| ApiError::not_found("environment", name))?))
}

/// By its id, or by what people call it: the port or the host name.
pub async fn delete_route(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((org, app, env, named)): Path<(String, String, String, String)>,
) -> Result<Response, ApiError> {
    let state = shared.writer.state();
    let (env, _) = find(&state, &caller, Path((org, app, env)))?;
    let is_named = |id: &RouteId, entry: &Entry| match entry {
        Entry::TcpPort(port) => named == port.to_string() || named == id.to_string(),
        Entry::Hostname(name) => named == *name || named == id.to_string(),
    };
    let found = state.routes.iter().find(|(id, route)| route.env == env && is_named(id, &route.entry));
    let (id, route) = found.ok_or_else(|| {
        let hint = "list them with `plfm routes`";
        ApiError::new(StatusCode::NOT_FOUND, "route_not_found", format!("there is no route `{named}`"), hint)
    })?;
    let actor = caller.actor()?;
    let seq = shared.writer.submit(Command::DeleteRoute { route: *id }, actor, current_request()).await?;
    Ok(accepted(StatusCode::OK, seq, views::route(*id, route, shared.edge(&ClosedPorts::new()))))
}

pub(super) fn find(
    state: &Fold,
    caller: &Caller,
    Path((org_name, app, env)): EnvPath,
) -> Result<(EnvId, String), ApiError> {
    let org = org(state, caller, &org_name)?;
    let app_id = state.app_named(org, &app).ok_or_else(|| ApiError::not_found("app", &app))?;
    let id = state.env_named(app_id, &env).ok_or_else(|| ApiError::not_found("environment", &env))?;
    Ok((id, env))
}
