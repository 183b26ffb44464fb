use super::*;
use crate::digest::Digest;
use crate::units::Term;

fn ask(command: Command) -> Ask {
    Ask { command, actor: Actor::System, request: Facts::default().ids().fresh() }
}

fn first() -> Ask {
    let prefix = "fd00:706c::".parse().unwrap();
    ask(Command::Bootstrap { domain: "example.com".to_owned(), prefix, admin: Digest::of(b"admin") })
}

#[test]
fn who_is_overtaken_decides_again_and_listens_anew() {
    let mut one = Desk::new(State::default(), Timestamp(1), Rules::default());
    one.ask(first(), Timestamp(2), 1).unwrap();
    let log = one.batch().to_vec();
    one.stored();

    let mut two = Desk::new(State::clone(one.state()), Timestamp(3), Rules::default());
    two.ask(ask(Command::StartWriter), Timestamp(4), 2).unwrap();
    let tail = two.batch().to_vec();
    two.stored();

    let node = Facts { entropy: 9, ..Facts::default() }.ids().fresh();
    one.hears(node, BTreeSet::new(), Timestamp(5));
    assert_eq!(one.ask(first(), Timestamp(6), 3), Err(Refusal::AlreadyBootstrapped));
    one.ask(ask(Command::StartWriter), Timestamp(6), 3).unwrap();
    let again = one.overtaken(&tail, Timestamp(7), &mut || 4);
    assert_eq!(again, [Err(Refusal::AlreadyBootstrapped), Ok(Seq(log.len() as u64 + 2))]);
    assert_eq!(one.heard(), Heard { since: Timestamp(7), nodes: BTreeMap::new() });
    assert_eq!(one.stored().term, Term(2));
}

#[test]
fn who_slept_judges_no_node_by_what_it_did_not_hear() {
    let mut desk = Desk::new(State::default(), Timestamp(0), Rules::default());
    desk.ask(first(), Timestamp(0), 1).unwrap();
    let hash = Digest::of(b"node");
    desk.ask(ask(Command::CreateJoinToken { hash, expires_at: Timestamp(9) }), Timestamp(0), 2).unwrap();
    let capacity = crate::event::Capacity {
        arch: "amd64".to_owned(),
        isolation: crate::event::Isolation::Vm,
        cpu: crate::units::MilliCpu(1_000),
        memory: crate::units::Mebibytes(1_024),
        disk: crate::units::Mebibytes(1_024),
        overhead: crate::units::Mebibytes(64),
        tunnel: "[fd00::1]:7443".to_owned(),
        degraded: Default::default(),
        labels: Default::default(),
    };
    desk.ask(ask(Command::JoinNode { token: hash, name: "node".to_owned(), capacity }), Timestamp(0), 3).unwrap();
    assert_eq!(desk.reconcile(Timestamp(0), &mut || 4), []);
    let due = desk.next_run().unwrap();
    let late = due + LATE_MAX + Duration::from_millis(1);
    assert_eq!(desk.reconcile(late, &mut || 5), [], "it was not there to hear");
    let judged = desk.reconcile(desk.next_run().unwrap(), &mut || 6);
    assert!(matches!(&judged[..], [(Command::SetNodePhase { .. }, Ok(_))]), "{judged:?}");
}

#[test]
fn a_restored_log_is_another_one() {
    let mut desk = Desk::new(State::default(), Timestamp(0), Rules::default());
    desk.ask(first(), Timestamp(0), 1).unwrap();
    let before = desk.stored();
    desk.ask(ask(Command::StartLog), Timestamp(1), 2).unwrap();
    let after = desk.stored();
    assert_ne!(before.log, after.log);
    assert_eq!(after.seq, before.seq.next());
}

#[test]
fn what_is_asked_meanwhile_is_decided_on_what_is_in_flight_and_shares_its_fate() {
    let mut desk = Desk::new(State::default(), Timestamp(0), Rules::default());
    desk.ask(first(), Timestamp(0), 1).unwrap();
    let begun = desk.launch().unwrap();
    assert_eq!(desk.launch(), None, "there is nothing more");
    let next = desk.ask(ask(Command::StartWriter), Timestamp(1), 2).unwrap();
    assert_eq!(next, Seq(begun.len() as u64 + 1), "it follows what is not durable yet");
    assert_eq!((desk.launch(), desk.state().seq), (None, Seq(0)), "one after another");

    assert_eq!(desk.stored().seq, Seq(begun.len() as u64));
    let then = desk.launch().unwrap();
    assert_eq!(then.len(), 1);
    desk.ask(ask(Command::StartWriter), Timestamp(2), 3).unwrap();
    desk.failed();
    assert_eq!(desk.launch(), None, "all of it is void");
    assert_eq!((desk.state().seq, desk.batch()), (Seq(begun.len() as u64), &[][..]));

    desk.ask(ask(Command::StartWriter), Timestamp(3), 4).unwrap();
    desk.launch().unwrap();
    desk.ask(first(), Timestamp(3), 5).unwrap_err();
    let mut other = Desk::new(State::clone(desk.state()), Timestamp(3), Rules::default());
    other.ask(ask(Command::StartWriter), Timestamp(3), 6).unwrap();
    let tail = other.batch().to_vec();
    let again = desk.overtaken(&tail, Timestamp(4), &mut || 7);
    assert_eq!(again, [Ok(tail[0].seq.next()), Err(Refusal::AlreadyBootstrapped)], "both are decided anew, in order");
    assert_eq!(desk.stored().term, Term(2), "the first was the other's");
}
