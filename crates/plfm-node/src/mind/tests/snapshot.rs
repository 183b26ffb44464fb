//! A sandbox that is taken, and one that goes on from there, whatever happens to their node meanwhile.

use plfm_core::event::Origin;

use super::*;

const BOOT: u128 = 1;

fn take() -> Action {
    Action::Take { snapshot: id(2), of: id(1), boot: Some(id(BOOT)) }
}

/// A sandbox 1, a snapshot 2 of it, and 3 that goes on from that.
fn plan(seq: u64, source: Desired) -> PlanMessage {
    let mut message = full(1, seq, &[(1, source), (2, Desired::Paused), (3, Desired::Running)]);
    if let PlanChange::Full { assignments } = &mut message.change {
        let sandbox = |from| Purpose::Sandbox { template: "base".to_owned(), from };
        assignments[0].workload.purpose = sandbox(None);
        assignments[1].workload.purpose = Purpose::Snapshot { of: id(1), durable: true };
        assignments[2].workload.purpose = sandbox(Some(Origin { snapshot: id(2), generation: 1 }));
    }
    message
}

/// The sandbox runs.
fn running() -> World {
    let mut world = World::new();
    let mut first = plan(1, Desired::Running);
    if let PlanChange::Full { assignments } = &mut first.change {
        assignments.truncate(1);
    }
    assert!(world.hears(first));
    world.does(Action::Prepare(id(1)), Outcome::Prepared { took_ms: 2 });
    world.does(Action::Boot(id(1)), started(id(BOOT)));
    world
}

/// And it is asked for.
fn asked() -> World {
    let mut world = running();
    assert!(world.hears(plan(2, Desired::Running)));
    // What can be done beforehand is.
    assert_eq!(world.step(NOW), [take(), Action::Prepare(id(3))]);
    world.local.begin(&Action::Prepare(id(3)), &world.plan, NOW);
    world.local.absorb(id(3), Outcome::Prepared { took_ms: 2 }, NOW);
    assert_eq!(world.step(NOW), [take()], "it goes on when the snapshot is there");
    world
}

fn phase(world: &World, number: u128) -> Option<InstancePhase> {
    world.local.slots.get(&id(number)).map(|slot| slot.status.phase)
}

fn wakes(world: World, found: &[(InstanceId, Found)]) -> World {
    let json = serde_json::to_vec(&world.local).unwrap();
    let (local, observed): (Local, Observed) =
        (serde_json::from_slice(&json).unwrap(), found.iter().copied().collect());
    World { local: local.wake(Limits::default(), &observed, NOW), observed, plan: world.plan }
}

#[test]
fn what_goes_on_from_it_waits_until_it_is_there() {
    let mut world = asked();
    world.does(take(), Outcome::Taken);
    assert_eq!((phase(&world, 1), phase(&world, 2)), (Some(InstancePhase::Ready), Some(InstancePhase::Paused)));
    world.does(Action::Boot(id(3)), started(id(7)));
    assert_eq!((phase(&world, 3), world.step(NOW)), (Some(InstancePhase::Ready), Vec::new()));
}

#[test]
fn what_waits_for_one_that_fails_waits_no_longer() {
    let mut world = asked();
    world.does(take(), Outcome::Failed(Failure::new(Reason::SnapshotFailed, "the disk is full")));
    assert_eq!(phase(&world, 2), Some(InstancePhase::Failed));
    assert_eq!(world.step(NOW), [Action::Boot(id(3))], "whoever carries that out will say that there is none");
}

#[test]
fn nothing_else_is_done_to_what_is_being_taken() {
    for wanted in [Desired::Paused, Desired::Stopped] {
        let mut world = asked();
        world.local.begin(&take(), &world.plan, NOW);
        assert!(world.hears(plan(3, wanted)));
        assert_eq!(world.step(NOW), [], "{wanted}");
        world.local.absorb(id(2), Outcome::Taken, NOW);
        assert_ne!(world.step(NOW), [], "{wanted}");
    }
}

#[test]
fn it_is_taken_once_at_a_time() {
    let mut world = running();
    let mut message = plan(2, Desired::Running);
    let PlanChange::Full { assignments } = &mut message.change else { unreachable!("it is all of it") };
    assignments[2].workload.purpose = assignments[1].workload.purpose.clone();
    assignments[2].desired = Desired::Paused;
    assert!(world.hears(message));
    world.does(take(), Outcome::Taken);
    let another = Action::Take { snapshot: id(3), of: id(1), boot: Some(id(BOOT)) };
    world.does(another, Outcome::Taken);
}

#[test]
fn of_what_is_ended_in_the_same_moment_nothing_is_taken() {
    let mut world = running();
    assert!(world.hears(plan(2, Desired::Stopped)));
    let stop = Action::Stop { instance: id(1), grace: Duration::ZERO };
    assert!(world.step(NOW).contains(&stop) && !world.step(NOW).contains(&take()));
    world.local.begin(&stop, &world.plan, NOW);
    world.local.absorb(id(1), Outcome::Stopped { exit_code: None }, NOW);
    world.local.begin(&Action::Destroy(id(1)), &world.plan, NOW);
    let nothing = Action::Take { snapshot: id(2), of: id(1), boot: None };
    assert!(world.step(NOW).contains(&nothing), "to be told that there is nothing to take");
}

/// Killed at any moment of it.
#[test]
fn a_node_that_restarts_finds_it_as_it_is() {
    let taking = || {
        let mut world = asked();
        world.local.begin(&take(), &world.plan, NOW);
        world
    };
    let runs = (id(1), Found::Runs(id(BOOT)));
    let world = wakes(taking(), &[runs, (id(2), Found::Taken)]);
    assert_eq!(phase(&world, 2), Some(InstancePhase::Paused), "it was whole");
    let mut world = wakes(taking(), &[runs]);
    assert_eq!(phase(&world, 2), Some(InstancePhase::Allocated), "it is taken once more");
    let (adopt, prepare) = (Action::Adopt(id(1), id(BOOT)), Action::Prepare(id(3)));
    assert_eq!(world.step(NOW), [adopt.clone(), prepare.clone()], "when it is known that it goes on");
    world.local.begin(&adopt, &world.plan, NOW);
    world.local.absorb(id(1), Outcome::Adopted { boot: id(BOOT) }, NOW);
    assert_eq!(world.step(NOW), [take(), prepare]);

    let mut taken = asked();
    taken.does(take(), Outcome::Taken);
    let world = wakes(taken, &[runs]);
    assert_eq!(phase(&world, 2), Some(InstancePhase::Failed), "its files are gone");
}

#[test]
fn a_node_that_remembers_nothing_keeps_what_is_whole() {
    let mut world = World::new();
    world.observed.insert(id(2), Found::Taken);
    assert!(world.hears(plan(1, Desired::Running)));
    world.local.begin(&Action::Prepare(id(1)), &world.plan, NOW);
    let there = Action::Take { snapshot: id(2), of: id(1), boot: None };
    assert!(world.step(NOW).contains(&there), "it is not taken again: {:?}", world.step(NOW));
}

#[test]
fn it_goes_without_being_stopped() {
    let mut world = running();
    let mut message = plan(2, Desired::Running);
    let PlanChange::Full { assignments } = &mut message.change else { unreachable!("it is all of it") };
    assignments.truncate(2);
    assert!(world.hears(message.clone()));
    world.does(take(), Outcome::Taken);
    message.position.seq = Seq(3);
    let PlanChange::Full { assignments } = &mut message.change else { unreachable!("it is all of it") };
    assignments[1].desired = Desired::Stopped;
    assert!(world.hears(message));
    world.does(Action::Destroy(id(2)), Outcome::Destroyed);
    assert_eq!(phase(&world, 2), Some(InstancePhase::Gone));
}

#[test]
fn a_snapshot_is_promised_no_memory() {
    assert_eq!(asked().local.promised(&asked().plan).0, 2 * 72, "what it is of, and what goes on from it");
}
