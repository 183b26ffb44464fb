//! One HTTP exchange passed on over a byte stream, as it comes: what proxies of ours have in common.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, COOKIE, HOST, HeaderName, HeaderValue, TE, UPGRADE};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};

/// Between two neighbours only (RFC 9110, section 7.6.1), and what is answered here.
const HOP_BY_HOP: &[&str] =
    &["connection", "expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    #[error("the exchange was cut")]
    Cut(#[from] hyper::Error),
    #[error("it changes to a protocol that nobody asked for")]
    Unasked,
}

/// What goes on beside an exchange: the connection itself, and what follows an upgrade.
pub type Beside = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Speaks HTTP/1.1 over `link`, which is used for nothing else, whatever version the request came in; HTTP/2 with prior knowledge for
/// gRPC, which knows nothing else. `spawn` runs what outlives the answer's head.
pub async fn forward<B, L>(
    mut request: Request<B>,
    link: L,
    spawn: impl Fn(Beside),
) -> Result<Response<Incoming>, ForwardError>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static,
    L: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if is_grpc(&request) {
        return call(request, link, spawn).await;
    }
    let upgrade = is_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(link)).await?;
    spawn(Box::pin(async move {
        let _ = connection.with_upgrades().await;
    }));
    let mut answer = sender.send_request(outgoing(request)).await?;
    match (answer.status(), upgrade) {
        (StatusCode::SWITCHING_PROTOCOLS, Some(upgrade)) => {
            spawn(Box::pin(join(upgrade, hyper::upgrade::on(&mut answer))));
        }
        (StatusCode::SWITCHING_PROTOCOLS, None) => return Err(ForwardError::Unasked),
        _ => strip(answer.headers_mut()),
    }
    Ok(answer)
}

/// With the trailers, which say how the call went.
async fn call<B, L>(request: Request<B>, link: L, spawn: impl Fn(Beside)) -> Result<Response<Incoming>, ForwardError>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static,
    L: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(link)).await?;
    spawn(Box::pin(async move {
        let _ = connection.await;
    }));
    Ok(sender.send_request(outgoing_call(request)).await?)
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let rest = kind.strip_prefix("application/grpc");
    request.version() == Version::HTTP_2 && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

/// After both sides have agreed to speak something else, they speak with each other.
async fn join(client: OnUpgrade, instance: OnUpgrade) {
    if let (Ok(client), Ok(instance)) = tokio::join!(client, instance) {
        let _ = copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(instance)).await;
    }
}

fn outgoing<B>(mut request: Request<B>) -> Request<B> {
    // HTTP/2 has the host in its URI alone.
    let authority = request.uri().authority().map(|authority| HeaderValue::try_from(authority.as_str()));
    if let Some(Ok(host)) = authority {
        request.headers_mut().insert(HOST, host);
    }
    one_cookie(request.headers_mut());
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().unwrap_or_else(|_| Uri::from_static("/"));
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    let upgrade = is_upgrade(headers).then(|| headers.get(UPGRADE).cloned()).flatten();
    strip(headers);
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, upgrade);
    }
    request
}

fn outgoing_call<B>(mut request: Request<B>) -> Request<B> {
    let mut to = std::mem::take(request.uri_mut()).into_parts();
    to.scheme = Some(Scheme::HTTP);
    to.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(to).unwrap_or_default();
    strip(request.headers_mut());
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    request
}

/// HTTP/2 may send each on its own; others know one line of them (RFC 9113, section 8.2.3).
fn one_cookie(headers: &mut HeaderMap) {
    let crumbs: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(COOKIE, whole);
    }
}

/// What the standard names, and what `Connection` names.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers).filter_map(|token| token.parse().ok()).collect();
    named.iter().for_each(|name| drop(headers.remove(name)));
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(*name)));
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE) && tokens(headers).any(|token| token.eq_ignore_ascii_case("upgrade"))
}

fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}
