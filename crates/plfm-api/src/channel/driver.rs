//! Joins the machine to a byte stream: reads into it, writes out of it, wakes who waits, and says hello again at its pace.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Secret;
use super::handles::{Acceptor, OpenError, Opener};
use super::machine::{Event, Key, Machine, Phase};

/// How long a hello waits for its answer before it is said again.
const HELLO_AGAIN: Duration = Duration::from_millis(200);
/// One read of the byte stream.
const READ_BYTES: usize = 64 << 10;
/// Turns of one poll before other tasks of the runtime get theirs.
const TURNS_MAX: usize = 32;

/// The link as an opener sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Seeking,
    Up,
    Quiet,
    Closed,
}

pub fn host<Io>(io: Io, secret: Secret) -> (Opener, impl Future<Output = io::Result<()>> + Send)
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut inner = Inner::new(Machine::host(secret));
    inner.attach_wanted = true;
    let shared = Arc::new(Shared::new(inner));
    let opener = Opener::new(shared.clone(), shared.link.subscribe());
    (opener, Driver::new(io, shared, None))
}

pub fn guest<Io>(io: Io, secret: Option<Secret>) -> (Acceptor, impl Future<Output = io::Result<()>> + Send)
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let shared = Arc::new(Shared::new(Inner::new(Machine::guest(secret))));
    // Not bounded by its own size but by the streams that the machine admits.
    let (sender, incoming) = mpsc::unbounded_channel();
    (Acceptor::new(shared.clone(), incoming), Driver::new(io, shared, Some(sender)))
}

/// What the driver and the streams' owners share.
pub struct Shared {
    inner: Mutex<Inner>,
    link: watch::Sender<Link>,
    pub pongs: watch::Sender<u64>,
    numbers: AtomicU64,
}

impl Shared {
    fn new(inner: Inner) -> Self {
        Self {
            inner: Mutex::new(inner),
            link: watch::Sender::new(Link::Seeking),
            pongs: watch::Sender::new(0),
            numbers: AtomicU64::new(0),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// From now on nobody opens streams; who wants to, waits for what comes of it.
    pub fn quiesce(&self) -> Result<(), OpenError> {
        self.lock().say(Machine::quiesce)?;
        self.link.send_replace(Link::Seeking);
        Ok(())
    }

    pub fn ask_to_attach(&self) {
        let mut inner = self.lock();
        if !inner.closed {
            self.link.send_replace(Link::Seeking);
            inner.attach_wanted = true;
            inner.wake_driver();
        }
    }

    pub fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }
}

pub struct Inner {
    pub machine: Machine,
    /// Why the guest refused streams whose openers have not looked yet.
    pub refusals: HashMap<Key, String>,
    readers: HashMap<Key, Waker>,
    writers: HashMap<Key, Waker>,
    driver: Option<Waker>,
    attach_wanted: bool,
    closed: bool,
}

impl Inner {
    fn new(machine: Machine) -> Self {
        Self {
            machine,
            refusals: HashMap::new(),
            readers: HashMap::new(),
            writers: HashMap::new(),
            driver: None,
            attach_wanted: false,
            closed: false,
        }
    }

    pub fn is_linked(&self) -> bool {
        self.machine.phase() == Phase::Linked
    }

    pub fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    pub fn wait_to_read<T>(&mut self, key: Key, cx: &Context<'_>) -> Poll<T> {
        self.readers.insert(key, cx.waker().clone());
        Poll::Pending
    }

    pub fn wait_to_write<T>(&mut self, key: Key, cx: &Context<'_>) -> Poll<T> {
        self.writers.insert(key, cx.waker().clone());
        Poll::Pending
    }

    pub fn forget(&mut self, key: Key) {
        self.readers.remove(&key);
        self.writers.remove(&key);
        self.refusals.remove(&key);
    }

    pub fn ping(&mut self, number: u64) -> Result<(), OpenError> {
        self.say(|machine| machine.ping(number))
    }

    fn say(&mut self, word: impl FnOnce(&mut Machine)) -> Result<(), OpenError> {
        if self.closed || !self.is_linked() {
            return Err(OpenError::Closed);
        }
        word(&mut self.machine);
        self.wake_driver();
        Ok(())
    }
}

struct Driver<Io> {
    io: Io,
    shared: Arc<Shared>,
    incoming: Option<mpsc::UnboundedSender<(Key, u32)>>,
    /// Read and not yet a whole frame.
    bytes: BytesMut,
    hello_again: Option<Interval>,
    /// The next call is a new attach: at once would be too often for a guest that answers and then talks nonsense.
    lost: bool,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Driver<Io> {
    fn new(io: Io, shared: Arc<Shared>, incoming: Option<mpsc::UnboundedSender<(Key, u32)>>) -> Self {
        Self { io, shared, incoming, bytes: BytesMut::new(), hello_again: None, lost: false }
    }

    fn turn(&mut self, inner: &mut Inner, cx: &mut Context<'_>) -> io::Result<Turn> {
        let heard = self.hear(inner, cx)?;
        if heard == Turn::Over {
            return Ok(Turn::Over);
        }
        let said = self.say(inner, cx)?;
        self.tell(inner);
        if inner.attach_wanted {
            self.attach(inner)?;
            return Ok(Turn::Moved);
        }
        Ok(if said { Turn::Moved } else { heard })
    }

    fn hear(&mut self, inner: &mut Inner, cx: &mut Context<'_>) -> io::Result<Turn> {
        if !inner.machine.listens() {
            return Ok(Turn::Still);
        }
        self.bytes.reserve(READ_BYTES);
        let mut buf = ReadBuf::uninit(&mut self.bytes.spare_capacity_mut()[..READ_BYTES]);
        if Pin::new(&mut self.io).poll_read(cx, &mut buf)?.is_pending() {
            return Ok(Turn::Still);
        }
        let size = buf.filled().len();
        // SAFETY: the reader has filled, and so initialised, the first `size` bytes of the spare capacity.
        unsafe { self.bytes.set_len(self.bytes.len() + size) };
        inner.machine.receive(&mut self.bytes);
        Ok(if size == 0 { Turn::Over } else { Turn::Moved })
    }

    fn say(&mut self, inner: &mut Inner, cx: &mut Context<'_>) -> io::Result<bool> {
        let bytes = inner.machine.outgoing();
        if bytes.is_empty() {
            // Buffered writers (TLS, tests) keep what is not flushed.
            let _ = Pin::new(&mut self.io).poll_flush(cx)?;
            return Ok(false);
        }
        let Poll::Ready(size) = Pin::new(&mut self.io).poll_write(cx, bytes)? else { return Ok(false) };
        if size == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        inner.machine.sent(size);
        // Room was made for what stayed behind when the peer's answers had to wait.
        inner.machine.receive(&mut self.bytes);
        Ok(true)
    }

    /// Passes the machine's events on.
    fn tell(&mut self, inner: &mut Inner) {
        while let Some(event) = inner.machine.next_event() {
            if let Some(link) = event.link() {
                self.shared.link.send_replace(link);
            }
            match event {
                Event::Linked => self.hello_again = None,
                Event::Quiesced => {}
                Event::Lost => self.call_later(),
                Event::Incoming(key, port) => self.offer(inner, key, port),
                Event::Refused(key, reason) => {
                    inner.refusals.insert(key, reason);
                    wake(&mut inner.readers, key);
                }
                Event::Opened(key) | Event::Readable(key) => wake(&mut inner.readers, key),
                Event::Writable(key) => wake(&mut inner.writers, key),
                Event::Pong(number) => drop(self.shared.pongs.send_replace(number)),
            }
        }
    }

    fn offer(&mut self, inner: &mut Inner, key: Key, port: u32) {
        let taken = self.incoming.as_ref().is_some_and(|incoming| incoming.send((key, port)).is_ok());
        if !taken {
            inner.machine.refuse(key, "the daemon takes no more streams");
        }
    }

    fn attach(&mut self, inner: &mut Inner) -> io::Result<()> {
        inner.attach_wanted = false;
        inner.machine.attach(getrandom::u64().map_err(io::Error::other)?);
        self.shared.link.send_replace(Link::Seeking);
        self.tell(inner);
        self.hello_again = Some(pace());
        Ok(())
    }

    fn call_later(&mut self) {
        self.lost = self.incoming.is_none();
        self.hello_again = self.lost.then(pace);
    }

    /// True when it was time and the hello is said again.
    fn keep_calling(&mut self, inner: &mut Inner, cx: &mut Context<'_>) -> bool {
        let due = self.hello_again.as_mut().is_some_and(|pace| pace.poll_tick(cx).is_ready());
        if due && std::mem::take(&mut self.lost) {
            inner.attach_wanted = true;
        } else if due {
            inner.machine.repeat_hello();
        }
        due
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Future for Driver<Io> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let shared = this.shared.clone();
        let mut inner = shared.lock();
        for _ in 0..TURNS_MAX {
            match this.turn(&mut inner, cx)? {
                Turn::Moved => {}
                Turn::Over => return Poll::Ready(Ok(())),
                Turn::Still if this.keep_calling(&mut inner, cx) => {}
                Turn::Still => {
                    inner.driver = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<Io> Drop for Driver<Io> {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        inner.closed = true;
        inner.machine.close();
        let waiting: Vec<Waker> = inner.readers.drain().map(|(_, waker)| waker).collect();
        waiting.into_iter().chain(inner.writers.drain().map(|(_, waker)| waker)).for_each(Waker::wake);
        self.shared.link.send_replace(Link::Closed);
    }
}

#[derive(PartialEq, Eq)]
enum Turn {
    Still,
    Moved,
    /// The byte stream has ended.
    Over,
}

fn pace() -> Interval {
    let mut pace = interval(HELLO_AGAIN);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace.reset();
    pace
}

fn wake(waiting: &mut HashMap<Key, Waker>, key: Key) {
    if let Some(waker) = waiting.remove(&key) {
        waker.wake();
    }
}
