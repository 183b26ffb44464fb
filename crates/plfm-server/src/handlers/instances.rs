//! Instances: what they are, what they say, and a way in.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{StatusCode, header};
use plfm_api::term;
use plfm_api::views::{self, Explanation, InstanceView, Items, SandboxState};
use plfm_core::ids::InstanceId;
use plfm_core::phase::{Desired, InstancePhase};
use plfm_core::state::{Instance, State as Fold};
use serde::Deserialize;

use super::org;
use crate::identity::Caller;
use crate::serve::Shared;
use crate::{ApiError, terminal};

#[derive(Deserialize)]
pub struct Filter {
    app: Option<String>,
    env: Option<String>,
    /// Those too of which nothing is left but their logs.
    #[serde(default)]
    all: bool,
}

pub async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(filter): Query<Filter>,
) -> Result<Json<Items<InstanceView>>, ApiError> {
    let state = shared.writer.state();
    let org = org(&state, &caller, &name)?;
    let is_shown = |it: &Instance| filter.all || it.status.phase != InstancePhase::Gone;
    let there = state.instances.iter().filter(|(_, it)| it.org == org && is_shown(it));
    let views = there.filter_map(|(id, it)| views::instance(&state, *id, it));
    let asked = |view: &InstanceView| {
        filter.app.as_ref().is_none_or(|app| *app == view.app) && filter.env.as_ref().is_none_or(|env| *env == view.env)
    };
    Ok(Json(Items { items: views.filter(asked).collect() }))
}

pub async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<(String, InstanceId)>,
) -> Result<Json<InstanceView>, ApiError> {
    let state = shared.writer.state();
    let (id, instance) = find(&state, &caller, &path)?;
    views::instance(&state, id, instance).map(Json).ok_or_else(|| ApiError::not_found("instance", id))
}

pub async fn explain(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<(String, InstanceId)>,
) -> Result<Json<Explanation>, ApiError> {
    let state = shared.writer.state();
    let (id, _) = find(&state, &caller, &path)?;
    let explained = plfm_core::explain::instance(&state, &shared.writer.facts(), id);
    explained.map(|it| Json(views::explanation(&state, it))).ok_or_else(|| ApiError::not_found("instance", id))
}

#[derive(Deserialize)]
pub struct LogsWanted {
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    console: bool,
}

/// Passed on as the node sends it.
pub async fn logs(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<(String, InstanceId)>,
    Query(wanted): Query<LogsWanted>,
) -> Result<Response, ApiError> {
    let state = shared.writer.state();
    let (id, instance) = find(&state, &caller, &path)?;
    let target = shared.tunnel(&state, instance)?;
    let path = format!("/v1/instances/{id}/logs?follow={}&console={}", wanted.follow, wanted.console);
    let answer = target.get(&path).await.map_err(|error| unreachable_node(&error))?;
    if answer.status() != StatusCode::OK {
        return Err(ApiError::not_found("log of instance", id));
    }
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::new(answer.into_body())).into_response())
}

/// As its node counts it now.
pub async fn stats(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<(String, InstanceId)>,
) -> Result<Response, ApiError> {
    let state = shared.writer.state();
    let (id, instance) = find(&state, &caller, &path)?;
    let target = shared.tunnel(&state, instance)?;
    let answer = target.get(&format!("/v1/instances/{id}/stats")).await.map_err(|error| unreachable_node(&error))?;
    if answer.status() != StatusCode::OK {
        let detail = format!("{id} is {}: there is no machine that takes anything", instance.status.phase);
        return Err(ApiError::new(StatusCode::CONFLICT, "instance_not_running", detail, "see `plfm instances`"));
    }
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::new(answer.into_body())).into_response())
}

pub async fn exec(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<(String, InstanceId)>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    let state = shared.writer.state();
    let (id, instance) = find(&state, &caller, &path)?;
    // A sandbox has a moment in which it is nobody's, or everybody's; an app may be looked at while it starts.
    let is_open = match instance.sandbox() {
        Some(_) => SandboxState::of(instance.desired, instance.status.phase) == SandboxState::Running,
        None => matches!(instance.status.phase, InstancePhase::Booting | InstancePhase::Ready | InstancePhase::Unready),
    };
    if !is_open {
        let detail = format!("{id} is {}: nothing can be run in it", instance.status.phase);
        let hint = match (instance.desired, instance.sandbox()) {
            (Desired::Paused, _) => "let it go on with `plfm sandbox resume`",
            (_, Some(_)) => "wait until it runs: `plfm sandbox ls`",
            (_, None) => "wait until it is ready: `plfm status`",
        };
        return Err(ApiError::new(StatusCode::CONFLICT, "instance_not_running", detail, hint));
    }
    let target = shared.tunnel(&state, instance)?;
    let process = instance.replica().map_or_else(|| "sandbox".to_owned(), |replica| replica.process.clone());
    let upgrade = upgrade.protocols([term::PROTOCOL]).max_message_size(terminal::MESSAGE_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| terminal::run(socket, target, id, process)))
}

fn find<'a>(
    state: &'a Fold,
    caller: &Caller,
    (name, id): &(String, InstanceId),
) -> Result<(InstanceId, &'a Instance), ApiError> {
    let org = org(state, caller, name)?;
    let instance = state.instances.get(id).filter(|instance| instance.org == org);
    instance.map(|instance| (*id, instance)).ok_or_else(|| ApiError::not_found("instance", id))
}

fn unreachable_node(error: &dyn std::error::Error) -> ApiError {
    let detail = format!("the node of the instance does not answer: {}", plfm_core::reason::chain(error));
    ApiError::new(StatusCode::BAD_GATEWAY, "node_unreachable", detail, "see `plfm nodes`")
}
