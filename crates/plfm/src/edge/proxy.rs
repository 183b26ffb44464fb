//! One HTTP/1.1 exchange: find the app by its host name, reach an instance, pass request and answer on as they come.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderName, HeaderValue, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use plfm_core::event::Entry;
use tokio::io::copy_bidirectional;

use super::Shared;
use super::reach::Link;
use super::refusal::Refusal;

type Body = Either<Incoming, Full<Bytes>>;

/// Between two neighbours only (RFC 9110, section 7.6.1), and what is answered here.
const HOP_BY_HOP: &[&str] =
    &["connection", "expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// `name` is what the connection was made for.
pub async fn answer(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    name: &str,
    client: SocketAddr,
) -> Response<Body> {
    let answer = exchange(shared, request, name, client).await;
    answer.unwrap_or_else(|refusal| refusal.answer(client).map(Either::Right))
}

async fn exchange(
    shared: &Arc<Shared>,
    mut request: Request<Incoming>,
    name: &str,
    client: SocketAddr,
) -> Result<Response<Body>, Refusal> {
    let host = host(&request).unwrap_or_else(|| name.to_owned());
    if host != name {
        return Err(Refusal::OtherHost { connected: name.to_owned(), asked: host });
    }
    let route = shared.route(&Entry::Hostname(host.clone())).ok_or(Refusal::UnknownHost(host))?;
    let link = shared.backends.connect(&route).await.map_err(|why| Refusal::no_backend(&route.app, why))?;
    let upgrade = is_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
    let cut = |error: hyper::Error| {
        tracing::info!(%client, app = route.app, %error, "an instance did not answer");
        Refusal::Cut { app: route.app.clone() }
    };
    let mut answer = send(shared, outgoing(request, client), link).await.map_err(cut)?;
    match (answer.status(), upgrade) {
        (StatusCode::SWITCHING_PROTOCOLS, Some(upgrade)) => {
            shared.spawn(join(upgrade, hyper::upgrade::on(&mut answer)));
        }
        (StatusCode::SWITCHING_PROTOCOLS, None) => return Err(Refusal::Cut { app: route.app }),
        _ => strip(answer.headers_mut()),
    }
    Ok(answer.map(Either::Left))
}

/// A connection of its own for each exchange.
async fn send(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    link: Link,
) -> Result<Response<Incoming>, hyper::Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(link)).await?;
    shared.spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    sender.send_request(request).await
}

/// After both sides have agreed to speak something else, they speak with each other.
async fn join(client: OnUpgrade, instance: OnUpgrade) {
    if let (Ok(client), Ok(instance)) = tokio::join!(client, instance) {
        let _ = copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(instance)).await;
    }
}

/// As the client asked for it, without its port.
fn host(request: &Request<Incoming>) -> Option<String> {
    let header = || request.headers().get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let authority = request.uri().authority().map(ToString::to_string).or_else(header)?;
    let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
    Some(host.trim_end_matches('.').to_lowercase())
}

fn outgoing(mut request: Request<Incoming>, client: SocketAddr) -> Request<Incoming> {
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
    // Said by us: what a client says about itself here is not to be believed.
    let address = client.ip().to_canonical().to_string();
    headers.insert(FORWARDED_FOR, HeaderValue::try_from(address).expect("an address is plain ASCII"));
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
    if let Some(host) = headers.get(HOST).cloned() {
        headers.insert(FORWARDED_HOST, host);
    }
    request
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
