//! Nodes: how one joins, the plan it follows, the reports it sends.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::{Extension, Json};
use http::StatusCode;
use plfm_api::documents::{Followed, PlanChange, PlanMessage, Report, Told, may_tell, next_message, wanted};
use plfm_api::tls::{Role, node_name};
use plfm_api::views::{
    self, Explanation, JoinReply, JoinRequest, JoinTokenRequest, JoinTokenView, NodeOrderRequest, NodeView, NodesView,
};
use plfm_core::command::Command;
use plfm_core::event::Actor;
use plfm_core::ids::NodeId;
use plfm_core::phase::NodePhase;
use plfm_core::state::State as Fold;

use super::{ndjson, whenever};
use crate::identity::Caller;
use crate::routes::{KEEP_ALIVE, accepted, current_request};
use crate::secrets::{new_token, token_hash};
use crate::serve::Shared;
use crate::writer::now;
use crate::{ApiError, ServerError};

/// P-TEN-15.
const JOIN_TOKEN_LIFE: Duration = Duration::from_secs(3600);
const JOIN_TOKEN_LIFE_MAX: Duration = Duration::from_secs(24 * 3600);

pub async fn list(State(shared): State<Arc<Shared>>) -> Json<NodesView> {
    Json(views::nodes(&shared.writer.state()))
}

pub async fn show(State(shared): State<Arc<Shared>>, Path(node): Path<String>) -> Result<Json<NodeView>, ApiError> {
    views::node(&shared.writer.state(), &node).map(Json).ok_or_else(|| no_such(&node))
}

pub async fn explain(
    State(shared): State<Arc<Shared>>,
    Path(named): Path<String>,
) -> Result<Json<Explanation>, ApiError> {
    let state = shared.writer.state();
    let id = views::node(&state, &named).ok_or_else(|| no_such(&named))?.id;
    let explained = plfm_core::explain::node(&state, &shared.writer.facts(), id);
    explained.map(|it| Json(views::explanation(&state, it))).ok_or_else(|| no_such(&named))
}

pub async fn order(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(named): Path<String>,
    Json(request): Json<NodeOrderRequest>,
) -> Result<Response, ApiError> {
    let node = views::node(&shared.writer.state(), &named).ok_or_else(|| no_such(&named))?.id;
    let command = Command::OrderNode { node, order: request.order.into() };
    let seq = shared.writer.submit(command, caller.actor()?, current_request()).await?;
    let view = views::node(&shared.writer.state(), &node.to_string()).ok_or_else(|| no_such(&named))?;
    Ok(accepted(StatusCode::OK, seq, view))
}

/// Lost work goes elsewhere although so many nodes fell silent at once.
pub async fn force_reschedule(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    let actor = caller.actor()?;
    let seq = shared.writer.submit(Command::ForceReschedule, actor, current_request()).await?;
    Ok(accepted(StatusCode::OK, seq, serde_json::json!({ "ok": true })))
}

fn no_such(node: &str) -> ApiError {
    let hint = "list them with `plfm nodes`";
    ApiError::new(StatusCode::NOT_FOUND, "not_found", format!("there is no node `{node}`"), hint)
}

pub async fn create_join_token(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Option<Json<JoinTokenRequest>>,
) -> Result<Response, ApiError> {
    let actor = caller.actor()?;
    let asked = request.and_then(|Json(request)| request.expires_seconds);
    let life = asked.map_or(JOIN_TOKEN_LIFE, Duration::from_secs);
    if life.is_zero() || life > JOIN_TOKEN_LIFE_MAX {
        return Err(ApiError::invalid(
            "a join token lives between one second and a day",
            "ask for `--expires 24h` or less",
        ));
    }
    let (token, expires_at) = (new_token("enroll_"), now() + life);
    let command = Command::CreateJoinToken { hash: token_hash(&token), expires_at };
    let seq = shared.writer.submit(command, actor, current_request()).await?;
    let view = JoinTokenView { token, expires_at, ca_fingerprint: shared.ca.fingerprint() };
    Ok(accepted(StatusCode::CREATED, seq, view))
}

/// Open: the token in the body is what admits.
pub async fn join(State(shared): State<Arc<Shared>>, Json(request): Json<JoinRequest>) -> Result<Response, ApiError> {
    let unusable = |error: ServerError| {
        ApiError::invalid(plfm_core::reason::chain(&error), "send the public key as a PEM `PUBLIC KEY` block")
    };
    // Before the token is spent.
    shared.ca.certify(None, "", &[], &request.public_key_pem).map_err(unusable)?;
    let token = token_hash(&request.token);
    let command = Command::JoinNode { token, name: request.name, capacity: request.capacity };
    let actor = joining(&shared.writer.state(), token);
    let seq = shared.writer.submit(command, actor, current_request()).await?;
    let state = shared.writer.state();
    let node = state.join_tokens.values().find(|known| known.hash == token).and_then(|known| known.used_by);
    let node = node.ok_or_else(|| ApiError::not_found("node", "just joined"))?;
    let certificate =
        shared.ca.certify(Some(Role::Node), &node.to_string(), &[node_name(node)], &request.public_key_pem);
    let certificate_pem = certificate.map_err(unusable)?;
    let ca_pem = shared.ca.certificate_pem().to_owned();
    Ok(accepted(StatusCode::CREATED, seq, JoinReply { node, certificate_pem, ca_pem }))
}

fn joining(state: &Fold, token: plfm_core::digest::Digest) -> Actor {
    let known = state.join_tokens.iter().find(|(_, known)| known.hash == token);
    known.map_or(Actor::System, |(id, _)| Actor::Joining(*id))
}

pub async fn report(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(node): Path<NodeId>,
    Json(report): Json<Report>,
) -> Result<Response, ApiError> {
    itself(&caller, node)?;
    let seq = shared.writer.report(node, report, current_request()).await?;
    Ok(accepted(StatusCode::OK, seq, serde_json::json!({ "ok": true })))
}

/// The whole plan first, then what changes in it, and an empty change now and then as a sign of life.
pub async fn plan(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(node): Path<NodeId>,
    Query(followed): Query<Followed>,
) -> Result<Response, ApiError> {
    itself(&caller, node)?;
    let published = shared.writer.watch();
    let messages = whenever((shared, published, None), move |(shared, mut published, told)| async move {
        loop {
            let state = published.borrow_and_update().clone();
            if state.nodes.get(&node)?.phase == NodePhase::Decommissioned {
                return None;
            }
            let position = state.position()?;
            if may_tell(position, followed) {
                // A stream that ends is asked for again.
                let wanted = shared.with_vars(&state, wanted(&state, node), told.as_ref()).await?;
                if let Some(message) = next_message(position, told.as_ref(), &wanted) {
                    let told = Told { log: position.log, wanted };
                    return Some((message, (shared, published, Some(told))));
                }
            }
            match tokio::time::timeout(KEEP_ALIVE, published.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                // Before the first snapshot it is nothing but a sign of life.
                Err(_) => return Some((unchanged(&state)?, (shared, published, told))),
            }
        }
    });
    Ok(ndjson(messages))
}

/// The id in a path equals the one in the certificate.
fn itself(caller: &Caller, node: NodeId) -> Result<(), ApiError> {
    if *caller == Caller::Node(node) {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", "this is another node's", "use the node's own certificate"))
}

fn unchanged(state: &Fold) -> Option<PlanMessage> {
    let change = PlanChange::Delta { upserts: Vec::new(), drops: Vec::new() };
    Some(PlanMessage { position: state.position()?, change, volumes: None })
}
