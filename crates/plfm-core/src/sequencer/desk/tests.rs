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
    one.hears(node, Timestamp(5));
    assert_eq!(one.ask(first(), Timestamp(6), 3), Err(Refusal::AlreadyBootstrapped));
    one.ask(ask(Command::StartWriter), Timestamp(6), 3).unwrap();
    let again = one.overtaken(&tail, Timestamp(7), &mut || 4);
    assert_eq!(again, [Err(Refusal::AlreadyBootstrapped), Ok(Seq(log.len() as u64 + 2))]);
    assert_eq!(one.heard(), &Heard { since: Timestamp(7), nodes: BTreeMap::new() });
    assert_eq!(one.stored().term, Term(2));
}
