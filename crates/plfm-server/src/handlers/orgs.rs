//! Orgs: what one may have, its part, and which nodes it wants.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use axum::{Extension, Json};
use http::StatusCode;
use plfm_api::views::{self, ConstraintsRequest, LimitsRequest, OrgView, WeightRequest};
use plfm_core::command::Command;
use plfm_core::ids::OrgId;

use super::org;
use crate::ApiError;
use crate::identity::Caller;
use crate::routes::{accepted, current_request};
use crate::serve::Shared;
use crate::writer::now;

pub async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<OrgView>, ApiError> {
    let state = shared.writer.state();
    let id = org(&state, &caller, &name)?;
    views::org(&state, id, now()).map(Json).ok_or_else(|| ApiError::not_found("org", name))
}

pub async fn set_limits(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Json(request): Json<LimitsRequest>,
) -> Result<Response, ApiError> {
    let org = org(&shared.writer.state(), &caller, &name)?;
    change(&shared, &caller, org, Command::SetLimits { org, limits: request.limits }).await
}

pub async fn set_weight(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Json(request): Json<WeightRequest>,
) -> Result<Response, ApiError> {
    let org = org(&shared.writer.state(), &caller, &name)?;
    change(&shared, &caller, org, Command::SetOrgWeight { org, weight: request.weight }).await
}

pub async fn set_project_weight(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((name, project)): Path<(String, String)>,
    Json(request): Json<WeightRequest>,
) -> Result<Response, ApiError> {
    let state = shared.writer.state();
    let org = org(&state, &caller, &name)?;
    let found = state.project_named(org, &project).ok_or_else(|| ApiError::not_found("project", &project))?;
    change(&shared, &caller, org, Command::SetProjectWeight { project: found, weight: request.weight }).await
}

pub async fn set_constraints(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Json(request): Json<ConstraintsRequest>,
) -> Result<Response, ApiError> {
    let org = org(&shared.writer.state(), &caller, &name)?;
    change(&shared, &caller, org, Command::SetOrgConstraints { org, constraints: request.constraints }).await
}

async fn change(shared: &Shared, caller: &Caller, org: OrgId, command: Command) -> Result<Response, ApiError> {
    let seq = shared.writer.submit(command, caller.actor()?, current_request()).await?;
    let view = views::org(&shared.writer.state(), org, now()).ok_or_else(|| ApiError::not_found("org", org))?;
    Ok(accepted(StatusCode::OK, seq, view))
}
