//! What the owners hold: the host opens, the guest accepts.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::driver::{Link, Shared};
use super::machine::{Event, Key};
use super::stream::Stream;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("the guest refused port {port}: {reason}")]
    Refused { port: u32, reason: String },
    #[error("the channel was interrupted while port {0} was being opened")]
    Interrupted(u32),
    #[error("the channel was interrupted")]
    Lost,
    #[error("the channel has {} streams open already", super::machine::STREAMS_MAX)]
    Full,
    #[error("the channel is closed")]
    Closed,
}

/// The host's handle; clones share the channel.
#[derive(Clone)]
pub struct Opener {
    shared: Arc<Shared>,
    link: watch::Receiver<Link>,
}

impl Opener {
    pub(super) fn new(shared: Arc<Shared>, link: watch::Receiver<Link>) -> Self {
        Self { shared, link }
    }

    /// Waits until a guest answers. There is no limit in here: callers know how long a boot may take.
    pub async fn linked(&self) -> Result<(), OpenError> {
        let mut link = self.link.clone();
        let state = *link.wait_for(|link| *link != Link::Seeking).await.map_err(|_| OpenError::Closed)?;
        if state == Link::Up { Ok(()) } else { Err(OpenError::Closed) }
    }

    /// A stream to `port` of the guest, once the guest has taken it.
    pub async fn open(&self, port: u32) -> Result<Stream, OpenError> {
        let stream = loop {
            self.linked().await?;
            if let Some(stream) = self.ask(port)? {
                break stream;
            }
        };
        self.answer(&stream, port).await?;
        Ok(stream)
    }

    /// `None` when the link went down after it was seen.
    fn ask(&self, port: u32) -> Result<Option<Stream>, OpenError> {
        let mut inner = self.shared.lock();
        let key = inner.machine.open(port);
        inner.wake_driver();
        match key {
            Some(key) => Ok(Some(Stream::new(key, self.shared.clone()))),
            None if inner.is_linked() => Err(OpenError::Full),
            None => Ok(None),
        }
    }

    async fn answer(&self, stream: &Stream, port: u32) -> Result<(), OpenError> {
        poll_fn(|cx| {
            let mut inner = self.shared.lock();
            if let Some(reason) = inner.refusals.remove(&stream.key()) {
                return Poll::Ready(Err(OpenError::Refused { port, reason }));
            }
            match inner.machine.is_open(stream.key()) {
                Some(true) => Poll::Ready(Ok(())),
                Some(false) => inner.wait_to_read(stream.key(), cx),
                None => Poll::Ready(Err(OpenError::Interrupted(port))),
            }
        })
        .await
    }

    /// The time until the guest's daemon answers.
    pub async fn ping(&self) -> Result<Duration, OpenError> {
        let (asked, number) = (Instant::now(), self.shared.next_number());
        let mut pongs = self.shared.pongs.subscribe();
        self.shared.lock().ping(number)?;
        pongs.wait_for(|last| *last >= number).await.map_err(|_| OpenError::Closed)?;
        Ok(asked.elapsed())
    }

    /// Ends all streams and waits until the guest has said its last word: from now until [`attach`](Self::attach) no byte is in flight,
    /// so a snapshot may be taken.
    pub async fn quiesce(&self) -> Result<(), OpenError> {
        self.shared.quiesce()?;
        let mut link = self.link.clone();
        let state = *link.wait_for(|link| *link != Link::Seeking).await.map_err(|_| OpenError::Closed)?;
        if state == Link::Quiet { Ok(()) } else { Err(OpenError::Lost) }
    }

    /// Calls the guest again, after a quiesce or to replace a link that has gone dumb.
    pub fn attach(&self) {
        self.shared.ask_to_attach();
    }
}

/// The guest's handle.
pub struct Acceptor {
    shared: Arc<Shared>,
    incoming: mpsc::UnboundedReceiver<(Key, u32)>,
}

impl Acceptor {
    pub(super) fn new(shared: Arc<Shared>, incoming: mpsc::UnboundedReceiver<(Key, u32)>) -> Self {
        Self { shared, incoming }
    }

    /// The next stream that a host asks for; `None` when the byte stream has ended.
    pub async fn next(&mut self) -> Option<Incoming> {
        let (key, port) = self.incoming.recv().await?;
        Some(Incoming { port, stream: Stream::new(key, self.shared.clone()) })
    }
}

/// A stream that waits for a word: dropped without one, it is refused.
pub struct Incoming {
    pub port: u32,
    stream: Stream,
}

impl Incoming {
    pub fn accept(self) -> Stream {
        let mut inner = self.stream.shared().lock();
        inner.machine.accept(self.stream.key());
        inner.wake_driver();
        drop(inner);
        self.stream
    }

    pub fn refuse(self, reason: &str) {
        let mut inner = self.stream.shared().lock();
        inner.machine.refuse(self.stream.key(), reason);
        inner.wake_driver();
    }
}

impl Event {
    /// The link as an opener sees it after this event, if it changes.
    pub(super) fn link(&self) -> Option<Link> {
        match self {
            Event::Linked => Some(Link::Up),
            Event::Lost => Some(Link::Seeking),
            Event::Quiesced => Some(Link::Quiet),
            _ => None,
        }
    }
}
