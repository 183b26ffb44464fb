//! The node's door for servers and edges: byte streams into instances, and their logs. Mutual TLS; nobody else comes in.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use http::{StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use plfm_api::channel::port;
use plfm_api::problem::Problem;
use plfm_api::tls::{self, ClientAuth, Identity, Peer, Role};
use plfm_api::tunnel::{ENVD, PROTOCOL};
use plfm_api::views::{LogLine, LogStream};
use plfm_core::ids::InstanceId;
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::NodeError;
use crate::hands::{Hands, Unsettled};

/// One who says nothing holds a socket no longer than this.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// What keeps a connection from being accepted (no descriptor is left) does not end at once.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// A guest that does not take a stream by then does not take it at all.
const CONNECT_MAX: Duration = Duration::from_secs(20);

/// Serves for ever; the caller drops it.
pub async fn serve(listener: TcpListener, identity: &Identity, hands: Arc<Hands>) -> Result<(), NodeError> {
    let mut config = tls::server_config(identity, ClientAuth::Required)?;
    // An upgrade is a thing of HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let router = Router::new()
        .route("/v1/instances/{instance}/tunnel/{port}", get(tunnel))
        .route("/v1/instances/{instance}/logs", get(logs_of))
        .route("/v1/instances/{instance}/stats", get(stats_of))
        .with_state(hands);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, acceptor.clone(), router.clone()))),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: Router) {
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await else { return };
    let role = Peer::of(stream.get_ref().1).ok().flatten().map(|peer| peer.role);
    let router = match role {
        Some(role @ (Role::Server | Role::Edge)) => router.layer(Extension(role)),
        _ => Router::new().fallback(|| async { StatusCode::FORBIDDEN }),
    };
    let service = hyper_util::service::TowerToHyperService::new(router);
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HANDSHAKE_MAX);
    let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

/// An edge carries the traffic of apps. What a guest's daemon is asked, a server has been asked by someone who may.
fn is_for_edges(port: u16) -> bool {
    port != ENVD
}

async fn tunnel(
    State(hands): State<Arc<Hands>>,
    Extension(role): Extension<Role>,
    Path((instance, wanted)): Path<(InstanceId, u16)>,
    request: Request,
) -> Response {
    if role == Role::Edge && !is_for_edges(wanted) {
        return problem(StatusCode::FORBIDDEN, format!("port {wanted} is not for edges"));
    }
    let is_settled = |them: &BTreeMap<_, _>| match them.get(&instance) {
        Some(Unsettled::Made) => false,
        Some(Unsettled::Found) => wanted != ENVD,
        None => true,
    };
    let mut unsettled = hands.unsettled.subscribe();
    if tokio::time::timeout(CONNECT_MAX, unsettled.wait_for(is_settled)).await.is_err() {
        return problem(StatusCode::SERVICE_UNAVAILABLE, format!("{instance} is not ready"));
    }
    drop(unsettled);
    let target = if wanted == ENVD { port::ENVD } else { port::dial(wanted) };
    let connected = tokio::time::timeout(CONNECT_MAX, hands.runtime.connect(instance, target)).await;
    let mut inner = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(plfm_runtime::RuntimeError::NoSuchMachine(_))) => {
            return problem(StatusCode::NOT_FOUND, format!("{instance} is not on this node"));
        }
        Ok(Err(error)) => return problem(StatusCode::BAD_GATEWAY, plfm_core::reason::chain(&error)),
        Err(_) => return problem(StatusCode::BAD_GATEWAY, "the guest did not answer in time".to_owned()),
    };
    tokio::spawn(async move {
        if let Ok(outer) = hyper::upgrade::on(request).await {
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(outer), &mut inner).await;
        }
    });
    let upgrade = [(header::CONNECTION, "Upgrade"), (header::UPGRADE, PROTOCOL)];
    (StatusCode::SWITCHING_PROTOCOLS, upgrade).into_response()
}

fn problem(status: StatusCode, detail: String) -> Response {
    Problem::new(status, "tunnel_failed", detail).into_response()
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    console: bool,
}

async fn stats_of(
    State(hands): State<Arc<Hands>>,
    Extension(role): Extension<Role>,
    Path(instance): Path<InstanceId>,
) -> Response {
    if role != Role::Server {
        return problem(StatusCode::FORBIDDEN, "stats are not for edges".to_owned());
    }
    match hands.stats(instance).await {
        Ok(stats) => axum::Json(stats).into_response(),
        Err(error) => problem(StatusCode::NOT_FOUND, plfm_core::reason::chain(&error)),
    }
}

async fn logs_of(
    State(hands): State<Arc<Hands>>,
    Extension(role): Extension<Role>,
    Path(instance): Path<InstanceId>,
    Query(wanted): Query<Wanted>,
) -> Response {
    if role != Role::Server {
        return problem(StatusCode::FORBIDDEN, "logs are not for edges".to_owned());
    }
    if wanted.console {
        let said = hands.logs.read(instance).unwrap_or_default();
        let lines = [said, console(&hands, instance).await].concat();
        return Body::from(ndjson(&lines)).into_response();
    }
    let written = hands.logs.watch();
    let lines = futures::stream::unfold(
        (hands.logs.clone(), written, 0, false),
        move |(logs, mut written, sent, again)| async move {
            loop {
                written.borrow_and_update();
                let lines = logs.read(instance).unwrap_or_default();
                // Lines that left the older file are no longer counted: what is new is what comes after those sent.
                let fresh = ndjson(lines.get(sent.min(lines.len())..).unwrap_or_default());
                let sent = lines.len();
                if !fresh.is_empty() || !again {
                    return Some((Ok::<_, io::Error>(fresh), (logs, written, sent, true)));
                }
                if !wanted.follow {
                    return None;
                }
                written.changed().await.ok()?;
            }
        },
    );
    Body::from_stream(lines).into_response()
}

async fn console(hands: &Hands, instance: InstanceId) -> Vec<LogLine> {
    let machines = hands.runtime.list().await.unwrap_or_default();
    let tail = machines.into_iter().find(|machine| machine.id == instance).map(|machine| machine.console_tail);
    let line =
        |text: &str| LogLine { instance, at: crate::node::now(), stream: LogStream::Console, text: text.to_owned() };
    tail.unwrap_or_default().lines().map(line).collect()
}

fn ndjson(lines: &[LogLine]) -> Bytes {
    let mut text = Vec::new();
    for line in lines {
        text.extend(serde_json::to_vec(line).expect("strings become JSON"));
        text.push(b'\n');
    }
    text.into()
}
