//! The keys that E2B's clients show: good for the sandboxes of one org until someone takes them back.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use axum::{Extension, Json};
use http::StatusCode;
use plfm_api::views::{self, ApiKeyView, Items, NewApiKeyView};
use plfm_core::command::Command;
use plfm_core::event::Scope;
use plfm_core::ids::TokenId;

use super::org;
use crate::ApiError;
use crate::identity::Caller;
use crate::routes::{accepted, current_request};
use crate::secrets::{new_key, token_hash};
use crate::serve::Shared;

pub async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Items<ApiKeyView>>, ApiError> {
    let state = shared.writer.state();
    let org = org(&state, &caller, &name)?;
    Ok(Json(Items { items: views::api_keys(&state, org) }))
}

/// It is shown once; what is kept is its hash.
pub async fn create(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let org = org(&shared.writer.state(), &caller, &name)?;
    let key = new_key();
    let (hash, scopes) = (token_hash(&key), vec![Scope::SandboxesRead, Scope::SandboxesWrite]);
    let command = Command::CreateToken { org: Some(org), hash, scopes };
    let seq = shared.writer.submit(command, caller.actor()?, current_request()).await?;
    let state = shared.writer.state();
    let made = state.tokens.iter().find(|(_, token)| token.hash == hash).map(|(id, _)| *id);
    let id = made.ok_or_else(|| ApiError::not_found("key", "just made"))?;
    Ok(accepted(StatusCode::CREATED, seq, NewApiKeyView { id, key }))
}

/// From now on nobody is let in with it; what its holder has started goes on.
pub async fn revoke(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((name, token)): Path<(String, TokenId)>,
) -> Result<Response, ApiError> {
    let state = shared.writer.state();
    let org = org(&state, &caller, &name)?;
    let known = state.tokens.get(&token).filter(|token| token.org == Some(org));
    known.ok_or_else(|| {
        let hint = "list keys with `plfm key ls`";
        ApiError::new(StatusCode::NOT_FOUND, "token_not_found", format!("there is no key {token}"), hint)
    })?;
    let command = Command::RevokeToken { token };
    let seq = shared.writer.submit(command, caller.actor()?, current_request()).await?;
    Ok(accepted(StatusCode::OK, seq, serde_json::json!({ "ok": true })))
}
