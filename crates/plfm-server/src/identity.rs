//! Who sends a request: the holder of a token, a node or an edge by its certificate, or nobody. Nobody is never someone.

use http::{HeaderMap, StatusCode, header};
use plfm_api::documents::NODE_DECOMMISSIONED;
use plfm_api::tls::{Peer, Role};
use plfm_core::event::{Actor, Scope};
use plfm_core::ids::{NodeId, OrgId, TokenId};
use plfm_core::phase::NodePhase;
use plfm_core::state::State;

use crate::ApiError;
use crate::routes::Access;
use crate::secrets::token_hash;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    Nobody,
    /// Something was shown that is not known here.
    Unknown,
    Token {
        id: TokenId,
        org: Option<OrgId>,
        scopes: Vec<Scope>,
    },
    Node(NodeId),
    /// Its certificate outlives a node that was decommissioned; its rights do not.
    FormerNode(NodeId),
}

impl Caller {
    pub fn of(headers: &HeaderMap, peer: Option<&Peer>, state: &State) -> Self {
        match (bearer(headers).or_else(|| api_key(headers)), peer) {
            (Some(token), _) => Self::by_token(token, state),
            (None, Some(peer)) => Self::by_certificate(peer, state),
            (None, None) => Self::Nobody,
        }
    }

    fn by_token(token: &str, state: &State) -> Self {
        // Only hashes are compared, so a comparison that stops early tells nothing about the token.
        let hash = token_hash(token);
        let known = state.tokens.iter().find(|(_, known)| known.hash == hash);
        known.map_or(Self::Unknown, |(id, token)| Self::Token { id: *id, org: token.org, scopes: token.scopes.clone() })
    }

    fn by_certificate(peer: &Peer, state: &State) -> Self {
        let id = peer.name.parse::<NodeId>().ok().filter(|_| peer.role == Role::Node);
        match id.and_then(|id| Some((id, state.nodes.get(&id)?.phase))) {
            None => Self::Unknown,
            Some((id, NodePhase::Decommissioned)) => Self::FormerNode(id),
            Some((id, _)) => Self::Node(id),
        }
    }

    pub fn may(&self, access: Access) -> Result<(), ApiError> {
        match (access, self) {
            (Access::Open, _) | (Access::Node, Self::Node(_)) => Ok(()),
            (Access::Token(scope), Self::Token { scopes, .. }) if scopes.contains(&scope) => Ok(()),
            (_, Self::Nobody | Self::Unknown) => Err(unauthorized()),
            (_, Self::FormerNode(_)) => Err(decommissioned()),
            (Access::Token(_), Self::Token { .. }) => Err(forbidden("the token lacks a scope for this")),
            (Access::Token(_), Self::Node(_)) | (Access::Node, Self::Token { .. }) => {
                Err(forbidden("this identity is of another kind"))
            }
        }
    }

    /// A foreign org is one that does not exist.
    pub fn sees(&self, org: OrgId) -> bool {
        matches!(self, Self::Token { org: of, .. } if of.is_none_or(|of| of == org))
    }

    /// In whose name something is changed.
    pub fn actor(&self) -> Result<Actor, ApiError> {
        match self {
            Self::Token { id, .. } => Ok(Actor::Token(*id)),
            Self::Node(node) => Ok(Actor::Node(*node)),
            Self::Nobody | Self::Unknown | Self::FormerNode(_) => Err(unauthorized()),
        }
    }

    /// As the audit knows it.
    pub fn name(&self) -> String {
        match self {
            Self::Nobody => "nobody".to_owned(),
            Self::Unknown => "unknown".to_owned(),
            Self::Token { id, .. } => id.to_string(),
            Self::Node(node) | Self::FormerNode(node) => node.to_string(),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// As E2B's clients show theirs.
fn api_key(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-api-key")?.to_str().ok()
}

fn unauthorized() -> ApiError {
    let hint = "set PLFM_TOKEN, or use the profile that `plfm dev` writes";
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", "the request has no valid credentials", hint)
}

fn decommissioned() -> ApiError {
    let (detail, hint) = ("the node has been decommissioned", "join it anew: `plfm node token` prints the command");
    ApiError::new(StatusCode::FORBIDDEN, NODE_DECOMMISSIONED, detail, hint)
}

fn forbidden(detail: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "insufficient_scope", detail, "use a token that has this right")
}
