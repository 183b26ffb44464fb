//! Environments: what is wanted, what is there, and why.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use plfm_api::views::{self, EnvView, Explanation, Items};
use plfm_core::ids::EnvId;
use plfm_core::state::State as Fold;

use super::org;
use crate::ApiError;
use crate::identity::Caller;
use crate::serve::Shared;

type EnvPath = Path<(String, String, String)>;

pub async fn list_envs(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Items<EnvView>>, ApiError> {
    let state = shared.writer.state();
    let org = org(&state, &caller, &name)?;
    let envs = state.envs.iter().filter(|(_, env)| env.org == org);
    Ok(Json(Items { items: envs.filter_map(|(id, _)| views::env(&state, *id, shared.https_port)).collect() }))
}

pub async fn env(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: EnvPath,
) -> Result<Json<EnvView>, ApiError> {
    let state = shared.writer.state();
    let (id, name) = find(&state, &caller, path)?;
    views::env(&state, id, shared.https_port).map(Json).ok_or_else(|| ApiError::not_found("environment", name))
}

pub async fn explain(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: EnvPath,
) -> Result<Json<Explanation>, ApiError> {
    let state = shared.writer.state();
    let (id, name) = find(&state, &caller, path)?;
    let explained = plfm_core::explain::env(&state, &shared.writer.facts(), id);
    explained.map(|it| Json(it.into())).ok_or_else(|| ApiError::not_found("environment", name))
}

fn find(state: &Fold, caller: &Caller, Path((org_name, app, env)): EnvPath) -> Result<(EnvId, String), ApiError> {
    let org = org(state, caller, &org_name)?;
    let app_id = state.app_named(org, &app).ok_or_else(|| ApiError::not_found("app", &app))?;
    let id = state.env_named(app_id, &env).ok_or_else(|| ApiError::not_found("environment", &env))?;
    Ok((id, env))
}
