//! Firecracker's API: HTTP on a socket of its own, one short connection a call.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

use super::request::Request;
use crate::microvm::sockets;

/// A snapshot of much memory is the longest call.
const ANSWER_WAIT: Duration = Duration::from_secs(120);
/// An answer is a line; a monitor that a guest has taken over must not fill our memory.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Why a call was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("Firecracker does not answer {path}")]
    Unanswered {
        path: String,
        #[source]
        source: io::Error,
    },
    /// In its own words.
    #[error("Firecracker refuses {path}: {words}")]
    Refused { path: String, status: u16, words: String },
}

impl From<ApiError> for io::Error {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Unanswered { source, .. } => source,
            refused => Self::other(refused),
        }
    }
}

/// What it says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct InstanceInfo {
    pub id: String,
    /// `Not started`, `Running` or `Paused`.
    pub state: String,
    pub vmm_version: String,
}

#[derive(Debug, Clone)]
pub struct Client {
    dir: PathBuf,
    socket: &'static str,
}

impl Client {
    /// The API whose socket lies in `dir`.
    pub fn new(dir: &Path, socket: &'static str) -> Self {
        Self { dir: dir.to_owned(), socket }
    }

    /// # Errors
    /// What it refuses, in its own words, or why it does not answer.
    pub async fn ask(&self, request: &Request) -> Result<(), ApiError> {
        let body = serde_json::to_vec(request).expect("requests have string keys alone");
        self.call(request.method(), &request.path(), body).await.map(drop)
    }

    pub async fn info(&self) -> Result<InstanceInfo, ApiError> {
        self.get("/").await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let answer = self.call(Method::GET, path, Vec::new()).await?;
        let wrong = |error| ApiError::Unanswered { path: path.to_owned(), source: io::Error::from(error) };
        serde_json::from_slice(&answer).map_err(wrong)
    }

    async fn call(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Bytes, ApiError> {
        let exchange = tokio::time::timeout(ANSWER_WAIT, self.exchange(method, path, body));
        let answered = exchange.await.unwrap_or_else(|late| Err(late.into()));
        let (status, answer) = answered.map_err(|source| ApiError::Unanswered { path: path.to_owned(), source })?;
        if status.is_success() {
            return Ok(answer);
        }
        Err(ApiError::Refused { path: path.to_owned(), status: status.as_u16(), words: fault(&answer) })
    }

    async fn exchange(&self, method: Method, path: &str, body: Vec<u8>) -> io::Result<(StatusCode, Bytes)> {
        let stream = UnixStream::from_std(sockets::connect_strictly(&self.dir, self.socket)?)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let request = hyper::Request::builder().method(method).uri(path).header(HOST, "localhost");
        let request = request.header(ACCEPT, "application/json").header(CONTENT_TYPE, "application/json");
        let request = request.body(Full::new(Bytes::from(body))).map_err(io::Error::other)?;
        let (head, body) = sender.send_request(request).await.map_err(io::Error::other)?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(io::Error::other)?;
        Ok((head.status, body.to_bytes()))
    }
}

/// `{"fault_message": "..."}`, or whatever it says instead.
fn fault(answer: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Fault {
        fault_message: String,
    }
    let said = serde_json::from_slice(answer).map(|fault: Fault| fault.fault_message);
    said.unwrap_or_else(|_| String::from_utf8_lossy(answer).trim().to_owned())
}
