//! Whether the workload answers, asked from inside at the machine's own address.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use plfm_api::guest::{ProbeKind, ProbeResponse};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::dial;

#[derive(Debug, thiserror::Error)]
enum Sick {
    #[error(transparent)]
    Dial(#[from] dial::DialError),
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("not HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("\"{0}\" is not a path")]
    Path(String),
    #[error("answered {0}")]
    Status(StatusCode),
}

/// The answer, healthy or with what is wrong.
pub async fn probe(addresses: &[IpAddr], port: u16, kind: &ProbeKind, within: Duration) -> ProbeResponse {
    let asked = async {
        let socket = dial::connect(addresses, port).await?;
        match kind {
            ProbeKind::Tcp(_) => Ok(0),
            ProbeKind::Http(http) => get(socket, &http.path).await,
        }
    };
    let found = timeout(within, asked).await.unwrap_or(Err(Sick::Late(within)));
    let http_status = match &found {
        Ok(status) => *status,
        Err(Sick::Status(status)) => status.as_u16(),
        Err(_) => 0,
    };
    let detail = found.as_ref().err().map(Sick::to_string).unwrap_or_default();
    ProbeResponse { healthy: found.is_ok(), detail, http_status: http_status.into(), ..Default::default() }
}

/// 2xx and 3xx are health; the body is nobody's business.
async fn get(socket: TcpStream, path: &str) -> Result<u16, Sick> {
    let host = socket.peer_addr().map_or_else(|_| "localhost".to_owned(), |address| address.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    tokio::spawn(connection);
    let request = Request::get(path).header(header::HOST, host).header(header::USER_AGENT, "plfm-probe");
    let request = request.body(Empty::<Bytes>::new()).map_err(|_| Sick::Path(path.chars().take(128).collect()))?;
    let status = sender.send_request(request).await?.status();
    if status.is_success() || status.is_redirection() { Ok(status.as_u16()) } else { Err(Sick::Status(status)) }
}
