//! A command in an instance: `plfm.term.v1` over a WebSocket of its own.

use std::io;
use std::time::Duration;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use plfm_core::ids::InstanceId;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use super::{CONNECT_WAIT, Client};
use crate::problem::Problem;
use crate::term::{self, Control, FRAME_BYTES_MAX, Frame, FrameError, Hello};

/// The server looks for the instance and its node; the guest may be emulated.
const UPGRADE_WAIT: Duration = Duration::from_secs(30);

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// A session that has said hello.
pub struct Terminal(Socket);

pub struct TerminalWriter(SplitSink<Socket, Message>);

pub struct TerminalReader(SplitStream<Socket>);

#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error("cannot reach the API at {at}")]
    Unreachable { at: String, source: io::Error },
    #[error("the API at {at} did not answer in time")]
    Silent { at: String },
    /// The API has said what is wrong.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    #[error("the API answers a terminal with status {status}")]
    Foreign { status: u16 },
    #[error("the connection to the terminal broke")]
    Broken(#[source] Box<tungstenite::Error>),
    #[error("the terminal was closed: {reason}")]
    Closed { code: u16, reason: String },
    #[error("the terminal speaks otherwise than expected")]
    Frame(#[from] FrameError),
}

impl Client {
    pub async fn exec(&self, org: &str, instance: InstanceId, hello: Hello) -> Result<Terminal, ExecError> {
        let silent = |_| ExecError::Silent { at: self.api_url().to_owned() };
        let stream = timeout(CONNECT_WAIT, self.raw()).await.map_err(silent)?;
        let stream = stream.map_err(|source| ExecError::Unreachable { at: self.api_url().to_owned(), source })?;
        let request = self.exec_request(org, instance).map_err(|error| ExecError::Broken(Box::new(error)))?;
        let upgrade = tokio_tungstenite::client_async_with_config(request, stream, Some(limits()));
        let (socket, _) = timeout(UPGRADE_WAIT, upgrade).await.map_err(silent)?.map_err(refused)?;
        let mut terminal = Terminal(socket);
        let hello = Frame::Control(Control::Hello(hello));
        terminal.0.send(Message::binary(hello.encode())).await.map_err(broken)?;
        Ok(terminal)
    }

    /// TLS to the API for HTTP/1.1, which a WebSocket begins with.
    async fn raw(&self) -> io::Result<TlsStream<TcpStream>> {
        let host = self.base.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let tcp = TcpStream::connect((host, self.base.port_or_known_default().unwrap_or(443))).await?;
        tcp.set_nodelay(true)?;
        let mut config = (*self.tls).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(std::sync::Arc::new(config)).connect(name, tcp).await
    }

    fn exec_request(&self, org: &str, instance: InstanceId) -> Result<Request, tungstenite::Error> {
        let mut url = self.url(&["v1", "orgs", org, "instances", &instance.to_string(), "exec"]);
        // An https URL can become a wss one.
        let _ = url.set_scheme("wss");
        let mut request = url.as_str().into_client_request()?;
        let headers = request.headers_mut();
        headers.insert(SEC_WEBSOCKET_PROTOCOL, http::HeaderValue::from_static(term::PROTOCOL));
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, format!("Bearer {token}").parse()?);
        }
        Ok(request)
    }
}

impl Terminal {
    pub fn split(self) -> (TerminalWriter, TerminalReader) {
        let (writer, reader) = self.0.split();
        (TerminalWriter(writer), TerminalReader(reader))
    }
}

impl TerminalWriter {
    pub async fn send(&mut self, frame: &Frame) -> Result<(), ExecError> {
        self.0.send(Message::binary(frame.encode())).await.map_err(broken)
    }
}

impl TerminalReader {
    /// None when the other end has closed in order.
    pub async fn next(&mut self) -> Result<Option<Frame>, ExecError> {
        while let Some(message) = self.0.next().await {
            match message.map_err(broken)? {
                Message::Binary(bytes) => return Ok(Some(Frame::decode(&bytes)?)),
                Message::Close(frame) => return closed(frame),
                // Pings are answered below this; text is not part of the protocol.
                _ => {}
            }
        }
        Ok(None)
    }
}

fn closed(frame: Option<CloseFrame>) -> Result<Option<Frame>, ExecError> {
    match frame.map(|frame| (u16::from(frame.code), frame.reason.to_string())) {
        None | Some((term::close::NORMAL, _)) => Ok(None),
        Some((code, reason)) => Err(ExecError::Closed { code, reason }),
    }
}

fn limits() -> WebSocketConfig {
    let most = FRAME_BYTES_MAX + size_of::<u64>() + 1;
    WebSocketConfig::default().max_message_size(Some(most)).max_frame_size(Some(most))
}

fn refused(error: tungstenite::Error) -> ExecError {
    let tungstenite::Error::Http(answer) = error else { return broken(error) };
    let problem = answer.body().as_ref().and_then(|body| serde_json::from_slice(body).ok());
    let foreign = ExecError::Foreign { status: answer.status().as_u16() };
    problem.map_or(foreign, |problem| ExecError::Problem(Box::new(problem)))
}

fn broken(error: tungstenite::Error) -> ExecError {
    ExecError::Broken(Box::new(error))
}
