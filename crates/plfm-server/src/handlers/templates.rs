//! Templates: what sandboxes are made of.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use axum::{Extension, Json};
use http::StatusCode;
use plfm_api::views::{self, Items, TemplateRequest, TemplateView};
use plfm_core::command::{Command, CreateTemplate};

use super::deploys::pin;
use super::org;
use crate::ApiError;
use crate::identity::Caller;
use crate::routes::{accepted, current_request};
use crate::serve::Shared;

pub async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Items<TemplateView>>, ApiError> {
    let state = shared.writer.state();
    let org = org(&state, &caller, &name)?;
    Ok(Json(Items { items: views::templates(&state, org) }))
}

/// The image's tag is looked up once, here.
pub async fn create(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(org_name): Path<String>,
    Json(request): Json<TemplateRequest>,
) -> Result<Response, ApiError> {
    let org = org(&shared.writer.state(), &caller, &org_name)?;
    let actor = caller.actor()?;
    let image = pin(&shared, Some(&request.image)).await?;
    let TemplateRequest { name, size, startup, .. } = request;
    let wanted = CreateTemplate { org: org_name, name: name.clone(), image, size, startup };
    let seq = shared.writer.submit(Command::CreateTemplate(Box::new(wanted)), actor, current_request()).await?;
    let state = shared.writer.state();
    let (id, template) = state.template_named(org, &name).ok_or_else(|| ApiError::not_found("template", &name))?;
    Ok(accepted(StatusCode::CREATED, seq, views::template(id, template)))
}
