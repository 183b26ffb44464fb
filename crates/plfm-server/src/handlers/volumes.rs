//! Volumes: listed, and removed when nobody has them.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use axum::{Extension, Json};
use http::StatusCode;
use plfm_api::views::{self, Items, VolumeView};
use plfm_core::command::Command;
use plfm_core::ids::VolumeId;
use plfm_core::refusal::Refusal;

use super::org;
use crate::ApiError;
use crate::identity::Caller;
use crate::routes::{accepted, current_request};
use crate::serve::Shared;

pub async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Items<VolumeView>>, ApiError> {
    let state = shared.writer.state();
    let org = org(&state, &caller, &name)?;
    Ok(Json(Items { items: views::volumes(&state, org) }))
}

pub async fn remove(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((name, volume)): Path<(String, VolumeId)>,
) -> Result<Response, ApiError> {
    let state = shared.writer.state();
    let org = org(&state, &caller, &name)?;
    let of_org = state.volumes.get(&volume).is_some_and(|it| it.org == org);
    let command = of_org.then_some(Command::DeleteVolume { volume }).ok_or(Refusal::VolumeNotFound(volume))?;
    let seq = shared.writer.submit(command, caller.actor()?, current_request()).await?;
    Ok(accepted(StatusCode::OK, seq, serde_json::json!({ "ok": true })))
}
