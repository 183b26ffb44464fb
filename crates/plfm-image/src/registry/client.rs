//! The requests themselves: one attempt each, and the loop around them.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use plfm_core::digest::Digest;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_RANGE, HeaderValue, LOCATION, RANGE, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode, Url};

use super::auth::{self, Challenge};
use super::redirect::authority;
use super::{Endpoint, Registries};
use crate::error::ImageError;
use crate::limits::DOCUMENT_BYTES_MAX;
use crate::manifest::{Descriptor, MANIFEST_TYPES};
use crate::source::Sink;

/// A host that does not answer a connection for this long is down.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// A stream from which nothing comes for this long has stopped.
const READ_TIME: Duration = Duration::from_secs(30);
/// Tokens are a few KiB.
const TOKEN_BYTES_MAX: u64 = 64 << 10;
/// A blob store behind a registry is one redirect away, or two.
const REDIRECTS_MAX: usize = 5;

/// The client for all registries, with the tokens they gave.
pub struct Registry {
    http: reqwest::Client,
    registries: Registries,
    /// By host and repository: what to send along.
    tokens: Mutex<HashMap<(String, String), HeaderValue>>,
}

/// Why an attempt brought nothing.
enum Failed {
    /// It may go better later, perhaps not before the given time.
    Later(String, Option<Duration>),
    Never(ImageError),
}

impl Registry {
    pub fn new(registries: &Registries) -> Result<Self, ImageError> {
        // Another part of the process may have chosen a provider already; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIME)
            .read_timeout(READ_TIME)
            .user_agent(concat!("plfm/", env!("CARGO_PKG_VERSION")))
            .build();
        let http = http.map_err(|error| ImageError::Pull {
            what: "anything".to_owned(),
            host: "registries".to_owned(),
            why: format!("no TLS client: {}", why(&error)),
        })?;
        Ok(Self { http, registries: registries.clone(), tokens: Mutex::default() })
    }

    pub(super) fn endpoints(&self, host: &str, repository: &str) -> Vec<Endpoint> {
        self.registries.endpoints(host, repository)
    }

    pub(super) async fn manifest(
        &self,
        endpoint: &Endpoint,
        tag: &str,
        digest: Option<&Digest>,
    ) -> Result<(Digest, Vec<u8>), ImageError> {
        let name = digest.map_or_else(|| tag.to_owned(), Digest::to_string);
        let what = format!("manifest {}{}{name}", endpoint.repository, if digest.is_some() { '@' } else { ':' });
        let path = format!("manifests/{name}");
        let accept = |request: RequestBuilder| request.header(ACCEPT, MANIFEST_TYPES.join(", "));
        let mut failures = 0;
        let bytes = loop {
            let attempt = async { bounded(self.get(endpoint, &what, &path, accept).await?, DOCUMENT_BYTES_MAX).await };
            match attempt.await {
                Ok(bytes) => break bytes,
                Err(failed) => self.again(endpoint, &what, &mut failures, failed).await?,
            }
        };
        let found = Digest::of(&bytes);
        match digest {
            Some(expected) if *expected != found => {
                Err(ImageError::Digest { what: "manifest", expected: *expected, found })
            }
            _ => Ok((found, bytes)),
        }
    }

    /// Sends what the sink does not have yet; a broken stream goes on where it broke.
    pub(super) async fn blob(
        &self,
        endpoint: &Endpoint,
        blob: &Descriptor,
        into: &mut Sink<'_>,
    ) -> Result<(), ImageError> {
        let what = format!("blob {}", blob.digest);
        let mut failures = 0;
        loop {
            let before = into.sent();
            let failed = match self.blob_once(endpoint, &what, blob, into).await {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            // As long as each attempt brings something, it is only slow, and that has its own limit.
            failures = if into.sent() > before { 0 } else { failures };
            self.again(endpoint, &what, &mut failures, failed).await?;
        }
    }

    async fn blob_once(
        &self,
        endpoint: &Endpoint,
        what: &str,
        blob: &Descriptor,
        into: &mut Sink<'_>,
    ) -> Result<(), Failed> {
        let from = into.sent();
        let path = format!("blobs/{}", blob.digest);
        let range = |request: RequestBuilder| match from {
            0 => request,
            from => request.header(RANGE, format!("bytes={from}-")),
        };
        let mut response = self.get(endpoint, what, &path, range).await?;
        let mut skip = if continues(&response, from) { 0 } else { from };
        while let Some(mut chunk) = response.chunk().await.map_err(|error| later(&error))? {
            let skipped = skip.min(chunk.len() as u64);
            skip -= skipped;
            if !into.send(chunk.split_off(skipped as usize)).await {
                return Ok(());
            }
        }
        match into.sent() {
            sent if sent < blob.size => {
                Err(Failed::Later(format!("it ended after {sent} of {} bytes", blob.size), None))
            }
            _ => Ok(()),
        }
    }

    /// Waits before the next attempt, or says why there is none.
    async fn again(
        &self,
        endpoint: &Endpoint,
        what: &str,
        failures: &mut u32,
        failed: Failed,
    ) -> Result<(), ImageError> {
        let (why, asked) = match failed {
            Failed::Never(error) => return Err(error),
            Failed::Later(why, asked) => (why, asked),
        };
        *failures += 1;
        let Some(wait) = self.registries.retry.wait(*failures, asked) else {
            let (what, host) = (what.to_owned(), endpoint.host.clone());
            return Err(ImageError::Pull { what, host, why: format!("{why} (tried {failures} times)") });
        };
        tracing::debug!(host = endpoint.host, what, why, ?wait, "registry: trying again");
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// One GET with the answer to one challenge, and its redirects.
    async fn get(
        &self,
        endpoint: &Endpoint,
        what: &str,
        path: &str,
        dress: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Failed> {
        let Endpoint { host, repository, plain } = endpoint;
        let scheme = if *plain { "http" } else { "https" };
        let url = Url::parse(&format!("{scheme}://{host}/v2/{repository}/{path}"));
        let url = url.map_err(|_| Failed::Never(refused(endpoint, what, "its address is none")))?;
        let key = (host.clone(), repository.clone());
        let known = self.tokens.lock().expect("no panic holds the tokens").get(&key).cloned();
        let response = self.send(dress(self.http.get(url.clone())), known.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.follow(endpoint, what, response, known.as_ref(), &dress).await;
        }
        let token = self.authorize(endpoint, what, &response).await?;
        let response = self.send(dress(self.http.get(url)), Some(&token)).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            return Err(Failed::Never(refused(endpoint, what, "the credentials are not accepted")));
        }
        self.tokens.lock().expect("no panic holds the tokens").insert(key, token.clone());
        self.follow(endpoint, what, response, Some(&token), &dress).await
    }

    async fn send(&self, request: RequestBuilder, token: Option<&HeaderValue>) -> Result<Response, Failed> {
        let request = match token {
            Some(token) => request.header(AUTHORIZATION, token),
            None => request,
        };
        request.send().await.map_err(|error| later(&error))
    }

    /// Redirects are followed by hand: only to where they may lead, and with credentials only where these belong.
    async fn follow(
        &self,
        endpoint: &Endpoint,
        what: &str,
        mut response: Response,
        token: Option<&HeaderValue>,
        dress: &impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Failed> {
        let own = response.url().origin();
        for _ in 0..REDIRECTS_MAX {
            if !response.status().is_redirection() {
                return judge(endpoint, what, response);
            }
            let bad = || Failed::Never(pull(endpoint, what, "it redirects to where it may not"));
            let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            let to = to.and_then(|to| response.url().join(to).ok()).ok_or_else(bad)?;
            if !self.registries.may_lead(response.url(), &to).await {
                return Err(bad());
            }
            let token = token.filter(|_| to.origin() == own);
            response = self.send(dress(self.http.get(to)), token).await?;
        }
        Err(Failed::Never(pull(endpoint, what, "it redirects too often")))
    }

    async fn authorize(&self, endpoint: &Endpoint, what: &str, response: &Response) -> Result<HeaderValue, Failed> {
        let refuse = |why| Failed::Never(refused(endpoint, what, why));
        let credentials = self.registries.credentials(&endpoint.host);
        let basic = credentials.and_then(auth::basic);
        let (realm, service) = match Challenge::find(response.headers()) {
            None => return Err(refuse("it asks for credentials in no known way")),
            Some(Challenge::Basic) => {
                return basic.ok_or_else(|| refuse("it asks for credentials, and there are none"));
            }
            Some(Challenge::Bearer { realm, service }) => (realm, service),
        };
        let mut url = Url::parse(&realm).map_err(|_| refuse("its token service is no address"))?;
        let host = authority(&url);
        let plain = url.scheme() == "http" && endpoint.plain && self.registries.is_plain(&host);
        if url.scheme() != "https" && !plain {
            return Err(refuse("its token service is not reached by https"));
        }
        url.query_pairs_mut().extend_pairs(service.map(|service| ("service", service)));
        url.query_pairs_mut().append_pair("scope", &format!("repository:{}:pull", endpoint.repository));
        let response = self.send(self.http.get(url), basic.as_ref()).await?;
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(refuse("the credentials are not accepted")),
            _ => {
                let body = bounded(judge(endpoint, "token", response)?, TOKEN_BYTES_MAX).await?;
                auth::token(&body).ok_or_else(|| refuse("its token service gives no token"))
            }
        }
    }
}

/// What a status means for what was asked for.
fn judge(endpoint: &Endpoint, what: &str, response: Response) -> Result<Response, Failed> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let why = format!("it answers {status}");
    Err(match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            Failed::Later(why, asked.map(Duration::from_secs))
        }
        status if status.is_server_error() => Failed::Later(why, asked.map(Duration::from_secs)),
        StatusCode::NOT_FOUND => {
            Failed::Never(ImageError::NotFound { what: what.to_owned(), host: endpoint.host.clone() })
        }
        StatusCode::FORBIDDEN => Failed::Never(refused(endpoint, what, "access is denied")),
        _ => Failed::Never(pull(endpoint, what, &why)),
    })
}

/// Whether the answer begins where it was asked to.
fn continues(response: &Response, from: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let starts = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok());
    response.status() == StatusCode::PARTIAL_CONTENT && starts == Some(from)
}

async fn bounded(mut response: Response, most: u64) -> Result<Vec<u8>, Failed> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| later(&error))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > most {
            return Err(Failed::Never(ImageError::TooLarge { what: "bytes in one of its documents", limit: most }));
        }
    }
    Ok(bytes)
}

fn pull(endpoint: &Endpoint, what: &str, why: &str) -> ImageError {
    ImageError::Pull { what: what.to_owned(), host: endpoint.host.clone(), why: why.to_owned() }
}

fn refused(endpoint: &Endpoint, what: &str, why: &'static str) -> ImageError {
    ImageError::Unauthorized { what: what.to_owned(), host: endpoint.host.clone(), why }
}

fn later(error: &reqwest::Error) -> Failed {
    Failed::Later(why(error), None)
}

/// The root of the causes: those above name a layer of the client, and the address (a signed one is a credential).
fn why(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.last().map_or_else(|| "the request failed".to_owned(), ToString::to_string)
}
