//! A sandbox that is paused and goes on, whatever happens to its node meanwhile.

use super::super::probe::ALIVE_IS_READY;
use super::*;

const BOOT: u128 = 1;

fn pause() -> Action {
    Action::Pause(id(1), id(BOOT))
}

fn resume() -> Action {
    Action::Resume(id(1), id(BOOT))
}

fn failed(reason: Reason) -> Outcome {
    Outcome::Failed(Failure::new(reason, "the disk is full"))
}

/// A sandbox runs, and this is wanted of it.
fn wanted(desired: Desired) -> World {
    let mut world = World::new();
    assert!(world.hears(sandbox(1, Desired::Running)));
    world.does(Action::Prepare(id(1)), Outcome::Prepared { took_ms: 2 });
    world.does(Action::Boot(id(1)), started(id(BOOT)));
    assert!(world.hears(sandbox(2, desired)));
    world
}

fn sandbox(seq: u64, desired: Desired) -> PlanMessage {
    let mut message = full(1, seq, &[(1, desired)]);
    if let PlanChange::Full { assignments } = &mut message.change {
        assignments[0].workload.purpose = Purpose::Sandbox { template: "base".to_owned(), from: None };
    }
    message
}

fn paused() -> World {
    let mut world = wanted(Desired::Paused);
    world.does(pause(), Outcome::Paused);
    assert_eq!((world.slot().status.phase, world.step(NOW)), (InstancePhase::Paused, Vec::new()));
    world
}

fn wakes(world: World, found: Found) -> World {
    let json = serde_json::to_vec(&world.local).unwrap();
    let (local, observed): (Local, Observed) = (serde_json::from_slice(&json).unwrap(), [(id(1), found)].into());
    World { local: local.wake(Limits::default(), &observed, NOW), observed, plan: world.plan }
}

#[test]
fn it_goes_on_as_the_boot_that_it_was() {
    let mut world = paused();
    assert!(world.hears(sandbox(3, Desired::Running)));
    world.does(resume(), Outcome::Resumed { boot: id(BOOT) });
    let status = &world.slot().status;
    assert_eq!((status.phase, status.boot, status.restarts), (InstancePhase::Ready, Some(id(BOOT)), 0));
    assert!(world.slot().attached);
}

#[test]
fn what_cannot_be_paused_runs_on_and_says_why() {
    let mut world = wanted(Desired::Paused);
    world.does(pause(), failed(Reason::SnapshotFailed));
    let failure = world.slot().status.failure.as_ref().map(|it| it.reason);
    assert_eq!((world.slot().status.phase, failure), (InstancePhase::Ready, Some(Reason::SnapshotFailed)));
    assert_eq!((world.step(NOW), world.step(NOW + super::super::slot::REST)), (Vec::new(), vec![pause()]));
}

#[test]
fn one_that_ends_in_the_middle_has_failed() {
    let mut world = wanted(Desired::Paused);
    world.local.begin(&pause(), &world.plan, NOW);
    world.ends(BOOT, NOW);
    world.local.absorb(id(1), failed(Reason::SnapshotFailed), NOW);
    let failure = world.slot().status.failure.as_ref().map(|it| it.reason);
    assert_eq!((world.slot().status.phase, failure), (InstancePhase::Failed, Some(Reason::WorkloadExited)));
}

#[test]
fn what_does_not_go_on_is_kept_and_tried_again() {
    let mut world = paused();
    assert!(world.hears(sandbox(3, Desired::Running)));
    world.does(resume(), failed(Reason::RestoreFailed));
    let failure = world.slot().status.failure.as_ref().map(|it| it.reason);
    assert_eq!((world.slot().status.phase, failure), (InstancePhase::Paused, Some(Reason::RestoreFailed)));
    assert_eq!((world.step(NOW), world.step(NOW + super::super::slot::REST)), (Vec::new(), vec![resume()]));
}

/// Killed at any moment of a pause or a resume, with or without having written down what it began.
#[test]
fn a_node_that_restarts_finds_it_as_it_is() {
    let pausing = || {
        let mut world = wanted(Desired::Paused);
        world.local.begin(&pause(), &world.plan, NOW);
        world
    };
    let resuming = || {
        let mut world = paused();
        assert!(world.hears(sandbox(3, Desired::Running)));
        world.local.begin(&resume(), &world.plan, NOW);
        world
    };
    let (runs, rests) = (Found::Runs(id(BOOT)), Found::Rests(id(BOOT)));
    let adopt = || vec![Action::Adopt(id(1), id(BOOT))];
    for (world, found, phase, next) in [
        (pausing(), runs, InstancePhase::Resuming, adopt()),
        (pausing(), rests, InstancePhase::Paused, Vec::new()),
        (wanted(Desired::Paused), rests, InstancePhase::Paused, Vec::new()),
        (paused(), rests, InstancePhase::Paused, Vec::new()),
        (resuming(), rests, InstancePhase::Paused, vec![resume()]),
        (resuming(), runs, InstancePhase::Resuming, adopt()),
    ] {
        let before = world.slot().status.phase;
        let world = wakes(world, found);
        assert_eq!((world.slot().status.phase, world.step(NOW)), (phase, next), "{before}, {found:?}");
    }
    for (world, next) in [(pausing(), pause()), (resuming(), Action::Probe(id(1)))] {
        let mut world = wakes(world, runs);
        world.does(adopt().remove(0), Outcome::Adopted { boot: id(BOOT) });
        assert_eq!(world.slot().status.phase, InstancePhase::Ready, "it has been woken");
        assert_eq!(world.step(NOW + ALIVE_IS_READY), [next]);
    }
    for (world, found) in [(pausing(), Found::Ended), (paused(), Found::Ended), (paused(), Found::Rests(id(9)))] {
        assert_eq!(wakes(world, found).slot().status.phase, InstancePhase::Failed, "{found:?}");
    }
}

#[test]
fn what_is_paused_can_be_ended() {
    let mut world = paused();
    assert!(world.hears(sandbox(3, Desired::Stopped)));
    world.takes_down(1, Duration::ZERO);
    assert_eq!(world.slot().status.phase, InstancePhase::Gone);
}

#[test]
fn nothing_goes_on_while_what_was_not_planned_is_there() {
    let mut world = paused();
    assert!(world.hears(sandbox(3, Desired::Running)));
    world.observed.insert(id(7), Found::Runs(id(7)));
    assert_eq!(world.step(NOW), [Action::Destroy(id(7))]);
}

#[test]
fn under_another_log_it_stays_as_it_is() {
    let mut world = paused();
    let mut message = sandbox(1, Desired::Running);
    message.position.log = id::<LogId>(2);
    assert!(world.hears(message));
    assert_eq!(world.step(NOW), []);
}

#[test]
fn when_the_node_stops_what_is_paused_stays() {
    let mut world = paused();
    world.local.put_away(NOW);
    assert_eq!(world.slot().status.phase, InstancePhase::Paused);
}

#[test]
fn one_that_is_lost_before_it_could_be_paused_says_so() {
    let world = wakes(wanted(Desired::Paused), Found::Runs(id(9)));
    assert_eq!(world.slot().status.failure.as_ref().map(|it| it.reason), Some(Reason::WorkloadExited));
}

/// What the host's memory is divided by: a machine that is kept on disk takes none, until it is to go on.
#[test]
fn what_is_kept_on_disk_is_promised_no_memory() {
    let of = |world: &World| world.local.promised(&world.plan).0;
    let mut world = wanted(Desired::Paused);
    assert_eq!(of(&world), 72, "it runs yet");
    world.does(pause(), Outcome::Paused);
    assert_eq!(of(&world), 0);
    assert!(world.hears(sandbox(3, Desired::Running)));
    assert_eq!(of(&world), 72);
}
