//! What every store must do; each runs this one suite. It is part of the library so that stores elsewhere can run it too.

use plfm_core::event::{Actor, Envelope, Event};
use plfm_core::ids::{OrgId, RequestId};
use plfm_core::units::{Seq, Term, Timestamp};

use crate::{AUDIT_PER_IDENTITY_MAX, AuditRecord, Store, StoreError};

/// Panics at the first promise that is not kept. `make` gives an empty store each time.
pub fn check(make: &dyn Fn() -> Box<dyn Store>) {
    append_and_read(&*make());
    refuses_gaps_and_second_writers(&*make());
    a_refused_batch_leaves_nothing(&*make());
    blobs_are_named_by_content(&*make());
    audit_is_bounded_per_identity(&*make());
}

/// `count` events from `first` on.
pub fn batch(first: u64, count: u64) -> Vec<Envelope> {
    (first..first + count).map(envelope).collect()
}

fn envelope(seq: u64) -> Envelope {
    let org = seq.is_multiple_of(2).then(|| OrgId::new(u128::from(seq).into()));
    Envelope {
        seq: Seq(seq),
        at: Timestamp(seq * 1_000),
        org,
        actor: Actor::System,
        request: request(seq),
        cause: (seq > 1).then(|| Seq(seq - 1)),
        event: Event::WriterStarted { term: Term(seq) },
    }
}

fn request(number: u64) -> RequestId {
    RequestId::new(u128::from(number).into())
}

fn append_and_read(store: &dyn Store) {
    assert_eq!(store.head().unwrap(), Seq(0), "an empty log has head 0");
    assert_eq!(store.read(Seq(0), 10).unwrap(), []);
    store.append(&batch(1, 3)).unwrap();
    store.append(&batch(4, 2)).unwrap();
    assert_eq!(store.head().unwrap(), Seq(5));
    assert_eq!(store.read(Seq(0), 10).unwrap(), batch(1, 5));
    assert_eq!(store.read(Seq(2), 2).unwrap(), batch(3, 2), "a tail from any seq, in pages");
    assert_eq!(store.read(Seq(9), 2).unwrap(), []);
    store.append(&[]).unwrap();
    assert_eq!(store.head().unwrap(), Seq(5), "an empty batch is no batch");
}

fn refuses_gaps_and_second_writers(store: &dyn Store) {
    store.append(&batch(1, 3)).unwrap();
    for (first, what) in [(2, "an older head"), (3, "the same seq"), (5, "a gap to the head")] {
        let refused = store.append(&batch(first, 2));
        assert!(matches!(refused, Err(StoreError::Conflict { head: Seq(3), .. })), "{what}: {refused:?}");
    }
    let gap = [batch(4, 1), batch(6, 1)].concat();
    assert!(matches!(store.append(&gap), Err(StoreError::Gap(Seq(4)))));
}

fn a_refused_batch_leaves_nothing(store: &dyn Store) {
    store.append(&batch(1, 1)).unwrap();
    assert!(store.append(&batch(1, 5)).is_err());
    assert_eq!(store.read(Seq(0), 10).unwrap(), batch(1, 1));
}

fn blobs_are_named_by_content(store: &dyn Store) {
    let name = store.put_blob(b"content").unwrap();
    assert_eq!(store.put_blob(b"content").unwrap(), name, "storing twice is storing once");
    assert_eq!(store.blob(name).unwrap().as_deref(), Some(&b"content"[..]));
    assert_eq!(store.blob(plfm_core::digest::Digest::of(b"other")).unwrap(), None);
}

fn audit_is_bounded_per_identity(store: &dyn Store) {
    let record = |identity: &str, number: u64| AuditRecord {
        at: Timestamp(number),
        identity: identity.to_owned(),
        action: "GET /v1/nodes".to_owned(),
        code: "unauthorized".to_owned(),
        request: request(number),
    };
    store.audit(&record("quiet", 0)).unwrap();
    let loud = AUDIT_PER_IDENTITY_MAX as u64 + 5;
    (1..=loud).for_each(|number| store.audit(&record("loud", number)).unwrap());
    let trail = store.audit_trail(usize::MAX >> 1).unwrap();
    assert_eq!(trail.len(), AUDIT_PER_IDENTITY_MAX + 1, "the loud one is cut, the quiet one is kept");
    assert_eq!(trail[0], record("loud", loud), "newest first");
    assert!(trail.contains(&record("quiet", 0)));
}
