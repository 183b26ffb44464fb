//! One HTTP exchange: find the app by its host name, reach an instance, pass request and answer on as they come.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{FORWARDED, HOST, HeaderName, HeaderValue};
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use plfm_api::forward::{Beside, forward};
use plfm_core::event::Entry;

use super::refusal::{Refusal, fresh_request};
use super::{Pass, Shared};

type Body = Either<Incoming, Full<Bytes>>;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// `name` is what the connection was made for.
pub async fn answer(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    name: &str,
    client: SocketAddr,
    pass: &Arc<Pass>,
) -> Response<Body> {
    let answer = exchange(shared, request, name, client, pass).await;
    answer.unwrap_or_else(|refusal| refusal.answer(client).map(Either::Right))
}

async fn exchange(
    shared: &Arc<Shared>,
    mut request: Request<Incoming>,
    name: &str,
    client: SocketAddr,
    pass: &Arc<Pass>,
) -> Result<Response<Body>, Refusal> {
    let host = host(&request).unwrap_or_else(|| name.to_owned());
    if host != name {
        return Err(Refusal::OtherHost { connected: name.to_owned(), asked: host });
    }
    let route = shared.route(&Entry::Hostname(host.clone())).ok_or(Refusal::UnknownHost(host))?;
    let link = shared.backends.connect(&route).await.map_err(|why| Refusal::no_backend(&route.app, why))?;
    introduce(&mut request, client);
    // A WebSocket is a connection for as long as it lasts.
    let spawn = |beside| shared.spawn(kept(pass.clone(), beside));
    let answer = forward(request, link, spawn).await.map_err(|error| {
        tracing::info!(%client, app = route.app, %error, "an instance did not answer");
        Refusal::Cut { app: route.app }
    })?;
    Ok(answer.map(Either::Left))
}

async fn kept(pass: Arc<Pass>, beside: Beside) {
    beside.await;
    drop(pass);
}

/// As the client asked for it, without its port.
fn host(request: &Request<Incoming>) -> Option<String> {
    let header = || request.headers().get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let authority = request.uri().authority().map(ToString::to_string).or_else(header)?;
    let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
    Some(host.trim_end_matches('.').to_lowercase())
}

/// Said by us: what a client says about itself here is not to be believed.
fn introduce(request: &mut Request<Incoming>, client: SocketAddr) {
    let authority = request.uri().authority().and_then(|host| HeaderValue::try_from(host.as_str()).ok());
    let headers = request.headers_mut();
    let claims =
        |name: &&HeaderName| name.as_str().starts_with("x-forwarded-") || [FORWARDED, REQUEST_ID].contains(name);
    let claimed: Vec<_> = headers.keys().filter(claims).cloned().collect();
    claimed.iter().for_each(|name| drop(headers.remove(name)));
    headers.insert(REQUEST_ID, HeaderValue::try_from(fresh_request().to_string()).expect("an id is plain ASCII"));
    let address = client.ip().to_canonical().to_string();
    headers.insert(FORWARDED_FOR, HeaderValue::try_from(address).expect("an address is plain ASCII"));
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
    if let Some(host) = authority.or_else(|| headers.get(HOST).cloned()) {
        headers.insert(FORWARDED_HOST, host);
    }
}
