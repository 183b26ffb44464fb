use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use plfm_core::digest::Digest;
use plfm_core::facts::Facts;
use plfm_store::{AuditRecord, MemoryStore};

use super::super::Writer;
use super::*;

/// Fails so many appends after the first few, and lets another writer be faster at one of them.
struct Troubled {
    /// Held by whoever wants appends to wait.
    stall: Mutex<()>,
    log: MemoryStore,
    appends: AtomicUsize,
    fails: std::ops::Range<usize>,
    overtakes: Option<usize>,
    /// This one is stored, and said to have failed; then so many reads fail.
    unheard: Option<usize>,
    blind: AtomicUsize,
}

impl Store for Troubled {
    fn head(&self) -> Result<Seq, StoreError> {
        self.log.head()
    }

    fn append(&self, batch: &[Envelope]) -> Result<(), StoreError> {
        let number = self.appends.fetch_add(1, Ordering::SeqCst);
        drop(self.stall.lock());
        if self.fails.contains(&number) {
            return Err(StoreError::DiskFull);
        }
        if self.overtakes == Some(number) {
            let other = Envelope { event: plfm_core::event::Event::WriterStarted { term: TERM }, ..batch[0].clone() };
            self.log.append(&[other])?;
        }
        self.log.append(batch)?;
        if self.unheard == Some(number) { Err(StoreError::DiskFull) } else { Ok(()) }
    }

    fn read(&self, after: Seq, limit: usize) -> Result<Vec<Envelope>, StoreError> {
        let fewer = |left: usize| left.checked_sub(1);
        if self.unheard.is_some_and(|number| number < self.appends.load(Ordering::SeqCst))
            && self.blind.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_ok()
        {
            return Err(StoreError::DiskFull);
        }
        self.log.read(after, limit)
    }

    fn put_blob(&self, body: &[u8]) -> Result<Digest, StoreError> {
        self.log.put_blob(body)
    }

    fn blob(&self, name: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.log.blob(name)
    }

    fn audit(&self, record: &AuditRecord) -> Result<(), StoreError> {
        self.log.audit(record)
    }

    fn audit_trail(&self, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        self.log.audit_trail(limit)
    }
}

const TERM: plfm_core::units::Term = plfm_core::units::Term(9);
/// Appends of a writer that opens an empty log.
const OPENING: usize = 2;
const ASKED: usize = 200;

fn troubled(fails: std::ops::Range<usize>, overtakes: Option<usize>) -> Arc<Troubled> {
    Arc::new(Troubled {
        stall: Mutex::default(),
        log: MemoryStore::default(),
        appends: AtomicUsize::new(0),
        fails,
        overtakes,
        unheard: None,
        blind: AtomicUsize::new(0),
    })
}

fn start(store: &Arc<Troubled>) -> (Writer, thread::JoinHandle<()>) {
    let prefix = "fd00:706c::".parse().unwrap();
    let first = Command::Bootstrap { domain: "localhost".to_owned(), prefix, admin: Digest::of(b"admin") };
    Writer::start(store.clone(), State::default(), first).unwrap()
}

/// As many tokens as were asked for, all at once; which of them were promised.
async fn tokens(writer: &Writer) -> Vec<Result<(Digest, Seq), SubmitError>> {
    futures::future::join_all(asks(writer)).await
}

fn asks(writer: &Writer) -> impl Iterator<Item = impl Future<Output = Result<(Digest, Seq), SubmitError>>> {
    let ask = move |number: usize| async move {
        let hash = Digest::of(&number.to_ne_bytes());
        let command = Command::CreateToken { org: None, hash, scopes: Vec::new() };
        let request = Facts { entropy: number as u128, ..Facts::default() }.ids().fresh();
        writer.submit(command, Actor::System, request).await.map(|seq| (hash, seq))
    };
    (0..ASKED).map(ask)
}

fn is_in_log(store: &Troubled, hash: Digest) -> bool {
    let log = store.read(Seq(0), usize::MAX).unwrap();
    log.iter().any(|it| matches!(it.event, plfm_core::event::Event::TokenCreated { hash: known, .. } if known == hash))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_answered_is_stored_and_published_and_nothing_else_is() {
    for fails in [0..0, OPENING..OPENING + 1, OPENING + 1..OPENING + 3] {
        let store = troubled(fails.clone(), None);
        let (writer, thread) = start(&store);
        let mut refused = 0;
        for answer in tokens(&writer).await {
            match answer {
                Ok((hash, seq)) => {
                    assert!(is_in_log(&store, hash) && writer.state().seq >= seq);
                }
                Err(SubmitError::Store(why)) => {
                    refused += 1;
                    assert!(why.contains("full"), "{why}");
                }
                Err(other) => panic!("{other}"),
            }
        }
        let stored = (0..ASKED).filter(|number| is_in_log(&store, Digest::of(&number.to_ne_bytes()))).count();
        assert_eq!(stored + refused, ASKED, "{fails:?}: nothing is stored of which the opposite was said");
        // How many batches it takes is a matter of chance, and so is which of them fails.
        while store.appends.load(Ordering::SeqCst) < fails.end {
            tokens(&writer).await;
        }
        assert!(tokens(&writer).await.iter().all(Result::is_ok), "it goes on");
        writer.stop();
        thread.join().unwrap();
        assert_eq!(super::super::fold(&*store).unwrap().seq, store.head().unwrap());
    }
}

/// An append can fail and be in the log all the same: nobody is told what was so before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_stored_unheard_counts() {
    for blind in [0, 1, 3] {
        let store = Arc::new(Troubled {
            unheard: Some(OPENING),
            blind: AtomicUsize::new(blind),
            ..Arc::into_inner(troubled(0..0, None)).unwrap()
        });
        let (writer, thread) = start(&store);
        let request = || Facts { entropy: 7, ..Facts::default() }.ids().fresh();
        let make = Command::CreateToken { org: None, hash: Digest::of(b"one"), scopes: Vec::new() };
        let made = writer.submit(make, Actor::System, request()).await;
        assert_eq!(made.is_ok(), blind == 0, "{made:?}: it is in the log, and was read there");
        let newest = store.log.read(Seq(0), usize::MAX).unwrap().pop().unwrap().event;
        let plfm_core::event::Event::TokenCreated { token, .. } = newest else { panic!("{newest:?}") };
        // Who does not know of it says that there is none.
        let revoked = loop {
            match writer.submit(Command::RevokeToken { token }, Actor::System, request()).await {
                Err(SubmitError::Store(_)) => {}
                told => break told,
            }
        };
        assert!(revoked.is_ok(), "{revoked:?}: decided on what the log says");
        writer.stop();
        thread.join().unwrap();
        assert_eq!(super::super::fold(&*store).unwrap().seq, store.head().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_overtaken_loses_nothing() {
    let store = troubled(0..0, Some(OPENING));
    let (writer, thread) = start(&store);
    let answers = tokens(&writer).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert!(answers.iter().flatten().all(|(hash, _)| is_in_log(&store, *hash)));
    assert_eq!(writer.state().term, TERM, "the other one wrote");
    writer.stop();
    thread.join().unwrap();
}

#[tokio::test]
async fn what_is_queued_is_decided_before_it_stops() {
    let store = troubled(0..0, None);
    let (writer, thread) = start(&store);
    let asked = tokens(&writer);
    let (answers, ()) = tokio::join!(asked, async { writer.stop() });
    thread.join().unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert!(matches!(tokens(&writer).await.pop(), Some(Err(SubmitError::Stopped))));
}

#[test]
fn numbers_differ() {
    let mut entropy = Entropy::default();
    let drawn: std::collections::BTreeSet<_> = (0..2_000).map(|_| entropy.next()).collect();
    assert_eq!(drawn.len(), 2_000);
}

#[test]
fn those_who_wait_take_turns() {
    for (flying, decided, queued, expected) in [
        (0, 0, 0, SHARE_MIN),
        (0, 0, 1_000, 500),
        (500, 0, 500, 500),
        (500, 499, 0, 1),
        (50, 50, 0, 0),
        (0, 0, 1_000_000, BATCH_MAX),
        (10, 40, 50, 10),
    ] {
        assert_eq!(share(flying, decided, queued), expected, "{flying} in flight, {decided} decided, {queued} queued");
    }
}

/// A node that is not heard for long is lost: what it says must not lie unread while the disk takes its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_disk_stalls_everyone_is_read() {
    let store = troubled(0..0, None);
    let (writer, thread) = start(&store);
    let before = store.appends.load(Ordering::SeqCst);
    let stall = store.stall.lock();
    let mut asking: Vec<_> = asks(&writer).map(Box::pin).collect();
    for ask in &mut asking {
        assert!(futures::poll!(ask).is_pending(), "nothing is promised yet");
    }
    while store.appends.load(Ordering::SeqCst) == before || !writer.queue.is_empty() {
        tokio::task::yield_now().await;
    }
    writer.stop();
    drop(stall);
    let answers = futures::future::join_all(asking).await;
    assert!(answers.iter().all(Result::is_ok), "and all of it is stored in the end");
    thread.join().unwrap();
    assert!(store.appends.load(Ordering::SeqCst) <= before + 3, "in few batches");
}

#[tokio::test]
async fn whoever_asks_at_the_end_is_answered() {
    for _ in 0..50 {
        let (writer, thread) = start(&troubled(0..0, None));
        let stops = writer.clone();
        let (answers, ()) = tokio::join!(tokens(&writer), async move { stops.stop() });
        assert_eq!(answers.len(), ASKED, "with yes or no");
        thread.join().unwrap();
        assert!(matches!(tokens(&writer).await[0], Err(SubmitError::Stopped)));
    }
}
