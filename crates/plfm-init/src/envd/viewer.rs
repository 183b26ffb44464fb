//! A process as one caller sees it: the start, pieces as they come, a sign of life when none do, the end.

use std::time::Duration;

use connectrpc::{ConnectError, RequestContext};
use futures::{Stream, stream};
use plfm_api::envd::process_event::{DataEvent, EndEvent, KeepAlive, StartEvent};
use plfm_api::envd::{Event, Output, ProcessEvent};
use tokio::time::{Instant, sleep, sleep_until};

use super::audience::{Listener, Piece};

const PING: Duration = Duration::from_secs(90);
/// A shorter pace is a caller's mistake; it would only fill the channel.
const PING_MIN: Duration = Duration::from_secs(1);

pub struct Viewer {
    listener: Listener,
    ping: Duration,
    deadline: Option<Instant>,
    next: Next,
}

enum Next {
    Start(u32),
    Piece,
    Nothing,
}

impl Viewer {
    pub fn new(pid: u32, listener: Listener, context: &RequestContext) -> Self {
        let asked = context.header("keepalive-ping-interval").and_then(|value| value.to_str().ok()?.parse().ok());
        let ping = asked.map_or(PING, Duration::from_secs).max(PING_MIN);
        let deadline = context.deadline().map(Instant::from_std);
        Self { listener, ping, deadline, next: Next::Start(pid) }
    }

    pub fn events(self) -> impl Stream<Item = Result<ProcessEvent, ConnectError>> + Send {
        stream::unfold(self, |mut viewer| async move { viewer.see().await.map(|event| (event, viewer)) })
    }

    async fn see(&mut self) -> Option<Result<ProcessEvent, ConnectError>> {
        let event = match self.next {
            Next::Nothing => return None,
            Next::Start(pid) => {
                self.next = Next::Piece;
                StartEvent { pid, ..Default::default() }.into()
            }
            Next::Piece => match self.wait().await {
                Ok(event) => event,
                Err(error) => {
                    self.next = Next::Nothing;
                    return Some(Err(error));
                }
            },
        };
        Some(Ok(ProcessEvent { event: Some(event), ..Default::default() }))
    }

    async fn wait(&mut self) -> Result<Event, ConnectError> {
        tokio::select! {
            biased;
            piece = self.listener.recv() => match piece {
                Some(Piece::End(end)) => {
                    self.next = Next::Nothing;
                    Ok(EndEvent::from(&end).into())
                }
                Some(piece) => Ok(DataEvent { output: output(piece), ..Default::default() }.into()),
                None => Err(ConnectError::resource_exhausted("the caller did not read for a minute")),
            },
            () = until(self.deadline) => Err(ConnectError::deadline_exceeded("the time of this call is over")),
            () = sleep(self.ping) => Ok(KeepAlive::default().into()),
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn output(piece: Piece) -> Option<Output> {
    match piece {
        Piece::Stdout(bytes) => Some(Output::Stdout(bytes.into())),
        Piece::Stderr(bytes) => Some(Output::Stderr(bytes.into())),
        Piece::Terminal(bytes) => Some(Output::Pty(bytes.into())),
        Piece::End(_) => None,
    }
}
