//! The routes beside the calls.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use connectrpc::ConnectRpcBody;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::Service;

use super::files;
use crate::daemon::Daemon;
use crate::serve::Rpc;

pub type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

const CALLS: [&str; 2] = ["/process.Process/", "/filesystem.Filesystem/"];

#[derive(Clone)]
pub struct Web {
    rpc: Rpc,
    daemon: Arc<Daemon>,
}

impl Web {
    pub fn new(rpc: Rpc, daemon: Arc<Daemon>) -> Self {
        Self { rpc, daemon }
    }
}

impl Service<Request<Incoming>> for Web {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // `/init` is not known on purpose: what it would set comes from the host by its own service.
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/health") => return Box::pin(async { Ok(empty(StatusCode::NO_CONTENT)) }),
            (&Method::GET, "/files") => {
                let daemon = self.daemon.clone();
                return Box::pin(async move { Ok(files::web::download(&daemon, request).await) });
            }
            (&Method::POST, "/files") => {
                let daemon = self.daemon.clone();
                return Box::pin(async move { Ok(files::web::upload(&daemon, request).await) });
            }
            (_, path) if !CALLS.iter().any(|calls| path.starts_with(calls)) => {
                return Box::pin(async { Ok(empty(StatusCode::NOT_FOUND)) });
            }
            _ => {}
        }
        let answer = self.rpc.call(request);
        Box::pin(async move { Ok(answer.await?.map(boxed)) })
    }
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    answer
}

fn boxed(body: ConnectRpcBody) -> Body {
    body.map_err(Into::into).boxed_unsync()
}
