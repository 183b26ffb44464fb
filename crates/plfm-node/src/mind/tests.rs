use plfm_api::documents::{ImageSource, Purpose, WORKLOAD_VERSION, Workload};
use plfm_core::digest::Digest;
use plfm_core::event::{Resources, Start, StartWay};
use plfm_core::ids::{LogId, OrgId, ReleaseId};
use plfm_core::manifest::{Health, HealthCheck, Restart, RestartPolicy};
use plfm_core::reason::{Failure, Reason};
use plfm_core::units::{Mebibytes, MilliCpu, Seq, Term};
use ulid::Ulid;

use super::*;

mod pause;
mod snapshot;

const NOW: Timestamp = Timestamp(1_000_000);

fn id<I: From<Ulid>>(number: u128) -> I {
    Ulid::from(number).into()
}

fn started(boot: BootId) -> Outcome {
    let start = Start { way: StartWay::Boot, prepare_ms: 0, network_ms: 3, machine_ms: 4, identity_ms: 5 };
    Outcome::Started { boot, start }
}

pub(crate) fn workload() -> Workload {
    Workload {
        version: WORKLOAD_VERSION,
        org: id::<OrgId>(1),
        purpose: Purpose::Replica {
            app: "app".to_owned(),
            env: "dev".to_owned(),
            process: "web".to_owned(),
            release: id::<ReleaseId>(1),
        },
        image: ImageSource { reference: "app:1".to_owned(), digest: Digest::of(b"image") },
        command: None,
        prestart: Vec::new(),
        workdir: None,
        user: None,
        vars: BTreeMap::new(),
        resources: Resources {
            cpu: MilliCpu(100),
            memory: Mebibytes(64),
            overhead: Mebibytes(8),
            disk: Mebibytes(1_024),
        },
        address: "fd00::1".parse().unwrap(),
        ports: Vec::new(),
        health: None,
        restart: Restart { policy: RestartPolicy::Always, max_retries: None, backoff_seconds: 1 },
        startup: Default::default(),
        mounts: Vec::new(),
    }
}

fn full(log: u128, seq: u64, instances: &[(u128, Desired)]) -> PlanMessage {
    let assignment = |(number, desired): &(u128, Desired)| Assignment {
        instance: id(*number),
        desired: *desired,
        drain_grace_seconds: 7,
        workload: workload(),
    };
    let assignments = instances.iter().map(assignment).collect();
    let position = Position { log: id::<LogId>(log), term: Term(1), seq: Seq(seq) };
    PlanMessage { position, change: PlanChange::Full { assignments }, volumes: None }
}

/// A node as its mind has it: what it is told, and what comes of what it does.
struct World {
    local: Local,
    plan: Plan,
    observed: Observed,
}

impl World {
    fn new() -> Self {
        Self { local: Local::new(Limits::default()), plan: Plan::default(), observed: Observed::new() }
    }

    fn hears(&mut self, message: PlanMessage) -> bool {
        self.local.hear(&mut self.plan, message) == Hearing::News
    }

    fn step(&self, now: Timestamp) -> Vec<Action> {
        step(&self.local, &self.plan, &self.observed, now)
    }

    fn does(&mut self, action: Action, outcome: Outcome) {
        assert_eq!(self.step(NOW), std::slice::from_ref(&action));
        self.local.begin(&action, &self.plan, NOW);
        assert_eq!(self.step(NOW), [], "what is under way is not given again");
        self.local.absorb(action.instance(), outcome, NOW);
    }

    fn brings_up(&mut self, number: u128) {
        let boot = id(number);
        self.does(Action::Prepare(id(number)), Outcome::Prepared { took_ms: 2 });
        self.does(Action::Boot(id(number)), started(boot));
        let probe = Action::Probe(id(number));
        let later = NOW + probe::ALIVE_IS_READY;
        assert_eq!(self.step(later), std::slice::from_ref(&probe));
        self.local.begin(&probe, &self.plan, later);
        self.local.absorb(id(number), Outcome::Probed { healthy: true, detail: String::new() }, later);
        assert_eq!(self.local.slots[&id(number)].status.phase, InstancePhase::Ready);
    }

    fn takes_down(&mut self, number: u128, grace: Duration) {
        self.does(Action::Stop { instance: id(number), grace }, Outcome::Stopped { exit_code: Some(143) });
        self.does(Action::Destroy(id(number)), Outcome::Destroyed);
    }
}

#[test]
fn a_life_from_plan_to_nothing() {
    let mut world = World::new();
    assert_eq!(world.step(NOW), [], "before the first plan nothing is known to be unwanted");
    assert!(world.hears(full(1, 1, &[(1, Desired::Running)])));
    world.brings_up(1);
    assert!(world.hears(full(1, 2, &[(1, Desired::Draining)])));
    world.takes_down(1, Duration::from_secs(7));
    assert_eq!(world.step(NOW), [], "the server has to hear that it is gone");
    assert!(world.hears(full(1, 3, &[])));
    assert_eq!(world.step(NOW), [Action::Forget(id(1))]);
}

#[test]
fn another_log_ends_nothing_until_someone_says_that_it_is_right() {
    let mut world = World::new();
    assert!(world.hears(full(1, 9, &[(1, Desired::Running)])));
    world.brings_up(1);
    assert!(world.hears(full(2, 1, &[(2, Desired::Running)])));
    assert!(world.local.is_foreign(&world.plan));
    assert_eq!(world.step(NOW), []);
    world.local.adopt(&world.plan);
    assert!(!world.local.is_foreign(&world.plan));
    let stop = Action::Stop { instance: id(1), grace: world.local.limits.drain_grace };
    assert_eq!(world.step(NOW), [stop, Action::Prepare(id(2))]);
}

#[test]
fn what_is_not_planned_leaves_before_anything_boots() {
    let mut world = World::new();
    let (stray, planned) = (id(7), id(1));
    world.observed.insert(stray, Found::Runs(id(7)));
    assert!(world.hears(full(1, 1, &[(1, Desired::Running)])));
    assert_eq!(world.step(NOW), [Action::Prepare(planned), Action::Destroy(stray)]);
    for (action, outcome) in
        [(Action::Prepare(planned), Outcome::Prepared { took_ms: 2 }), (Action::Destroy(stray), Outcome::Destroyed)]
    {
        assert_eq!(world.step(NOW).into_iter().filter(|it| matches!(it, Action::Boot(_))).count(), 0);
        world.local.begin(&action, &world.plan, NOW);
        world.local.absorb(action.instance(), outcome, NOW);
    }
    world.observed.remove(&stray);
    assert_eq!(world.step(NOW), [Action::Boot(planned)]);
}

#[test]
fn an_older_snapshot_is_no_news_and_a_change_needs_one() {
    let mut world = World::new();
    let position = full(1, 5, &[]).position;
    let change = PlanChange::Delta { upserts: Vec::new(), drops: vec![id(1)] };
    assert!(!world.hears(PlanMessage { position, change: change.clone(), volumes: None }));
    assert!(world.hears(full(1, 5, &[(1, Desired::Running)])));
    assert!(!world.hears(full(1, 4, &[])));
    assert!(world.hears(PlanMessage { position, change, volumes: None }));
    assert_eq!(world.plan.assignments.len(), 0);
}

#[test]
fn each_start_is_later_than_the_last_whatever_the_clock_says() {
    let start = |local: Local, now| local.wake(Limits::default(), &Observed::new(), Timestamp(now));
    let first = start(Local::new(Limits::default()), 1_000);
    let second = start(first.clone(), 10);
    assert_eq!((first.life, second.life), (1_000, 1_001));
    assert_eq!(start(second, 5_000).life, 5_000);
}

#[test]
fn after_a_restart_what_runs_is_spoken_to_and_what_ended_is_started_anew() {
    let mut world = World::new();
    assert!(world.hears(full(1, 1, &[(1, Desired::Running)])));
    world.brings_up(1);
    let json = serde_json::to_vec(&world.local).unwrap();
    let wakes = |observed: &Observed| {
        let local: Local = serde_json::from_slice(&json).unwrap();
        World {
            local: local.wake(Limits::default(), observed, NOW),
            plan: world.plan.clone(),
            observed: observed.clone(),
        }
    };
    assert_eq!(wakes(&[(id(1), Found::Runs(id(1)))].into()).step(NOW), [Action::Adopt(id(1), id(1))]);
    let ended = wakes(&Observed::new());
    assert_eq!(ended.local.slots[&id(1)].status.phase, InstancePhase::Failed);
    assert_eq!(ended.step(NOW + Duration::from_secs(1)), [Action::Prepare(id(1))]);
}

#[test]
fn what_the_node_itself_has_ended_starts_anew_as_if_nothing_had_been() {
    let mut world = World::new();
    assert!(world.hears(full(1, 1, &[(1, Desired::Running)])));
    world.brings_up(1);
    world.local.put_away(NOW);
    world.local = world.local.wake(Limits::default(), &[(id(1), Found::Ended)].into(), NOW);
    world.does(Action::Stop { instance: id(1), grace: Duration::ZERO }, Outcome::Stopped { exit_code: None });
    world.brings_up(1);
    let status = &world.local.slots[&id(1)].status;
    assert_eq!((status.restarts, status.failure.as_ref()), (0, None));
}

#[test]
fn who_does_not_answer_while_booting_is_told_once() {
    let mut world = World::new();
    let mut message = full(1, 1, &[(1, Desired::Running)]);
    let PlanChange::Full { assignments } = &mut message.change else { unreachable!("it was made so") };
    assignments[0].workload.ports = vec![8080];
    assert!(world.hears(message));
    world.does(Action::Prepare(id(1)), Outcome::Prepared { took_ms: 2 });
    world.does(Action::Boot(id(1)), started(id(1)));
    let mut seen = Vec::new();
    for half_seconds in 0..24 {
        let now = NOW + Duration::from_millis(500) * half_seconds;
        assert_eq!(world.step(now), [Action::Probe(id(1))], "after {half_seconds} half seconds");
        world.local.begin(&Action::Probe(id(1)), &world.plan, now);
        let detail = format!("refused, try {half_seconds}");
        world.local.absorb(id(1), Outcome::Probed { healthy: false, detail }, now);
        let failure = world.local.slots[&id(1)].status.failure.clone().map(|it| it.to_string());
        seen.extend(failure.filter(|it| !seen.contains(it)));
    }
    assert_eq!(seen, ["healthcheck_failed: refused, try 10"]);
    let late = NOW + Limits::default().startup_max;
    world.local.begin(&Action::Stop { instance: id(1), grace: Duration::ZERO }, &world.plan, late);
    let failure = world.local.slots[&id(1)].status.failure.clone().unwrap().to_string();
    assert_eq!(failure, "startup_timeout: not ready in time: refused, try 23");
    // For its log: each once, and what a machine says that is being taken down is no news.
    let boot = world.local.slots[&id(1)].status.boot.unwrap();
    let failure = Failure::new(Reason::WorkloadExited, "the machine ended");
    world.local.absorb(id(1), Outcome::Ended { boot, exit_code: None, failure }, late);
    let news: Vec<_> = world.local.news().into_iter().map(|(_, failure)| failure.to_string()).collect();
    assert_eq!(news, ["healthcheck_failed: refused, try 10", "startup_timeout: not ready in time: refused, try 23"]);
    assert_eq!(world.local.news(), []);
}

impl World {
    fn running() -> Self {
        let mut world = Self::new();
        assert!(world.hears(full(1, 1, &[(1, Desired::Running)])));
        world.brings_up(1);
        world
    }

    fn slot(&self) -> &Slot {
        &self.local.slots[&id(1)]
    }

    fn ends(&mut self, boot: u128, now: Timestamp) {
        let failure = Failure::new(Reason::WorkloadExited, "ended with code 1");
        self.local.absorb(id(1), Outcome::Ended { boot: id(boot), exit_code: Some(1), failure }, now);
    }

    fn probed(&mut self, healthy: bool, now: Timestamp) {
        self.local.begin(&Action::Probe(id(1)), &self.plan, now);
        self.local.absorb(id(1), Outcome::Probed { healthy, detail: "refused".to_owned() }, now);
    }
}

#[test]
fn an_answer_to_another_question_is_none() {
    let mut world = World::new();
    assert!(world.hears(full(1, 1, &[(1, Desired::Running)])));
    world.local.begin(&Action::Prepare(id(1)), &world.plan, NOW);
    for outcome in [started(id(1)), Outcome::Destroyed, Outcome::Stopped { exit_code: None }] {
        world.local.absorb(id(1), outcome, NOW);
        assert_eq!((world.slot().doing.as_ref(), world.slot().prepared), (Some(&Action::Prepare(id(1))), false));
    }
}

#[test]
fn only_the_end_of_this_boot_counts_and_only_once() {
    let mut world = World::running();
    world.ends(9, NOW);
    assert_eq!(world.slot().status.phase, InstancePhase::Ready);
    world.ends(1, NOW);
    let failed = world.slot().status.clone();
    assert_eq!((failed.phase, failed.exit_code), (InstancePhase::Failed, Some(1)));
    let retry_at = world.slot().retry_at;
    world.ends(1, NOW + Duration::from_secs(30));
    assert_eq!(world.slot().retry_at, retry_at, "it is no second failure");

    world.does(Action::Stop { instance: id(1), grace: Duration::ZERO }, Outcome::Stopped { exit_code: None });
    let then = retry_at.unwrap();
    assert_eq!((world.step(NOW), next_step(&world.local, NOW)), (Vec::new(), Some(then)));
    assert_eq!(next_step(&world.local, then), None, "it is due, and said by step");
    world.local.begin(&Action::Prepare(id(1)), &world.plan, then);
    assert_eq!((world.slot().status.restarts, world.slot().status.boot), (1, None));
}

#[test]
fn a_long_good_time_makes_earlier_failures_forgotten() {
    let wait_after = |ready_for| {
        let mut world = World::running();
        world.local.slots.get_mut(&id(1)).unwrap().history.failed(
            Failure::new(Reason::WorkloadExited, ""),
            Some(1),
            &workload().restart,
            NOW,
        );
        let end = world.slot().since + ready_for;
        world.ends(1, end);
        world.slot().retry_at.unwrap().since(end)
    };
    let good = super::restart::FORGIVEN_AFTER;
    assert_eq!(wait_after(good), Duration::from_secs(1));
    assert_eq!(wait_after(good - Duration::from_millis(1)), Duration::from_secs(2));
}

fn checked(grace_period_seconds: u32) -> Health {
    Health {
        check: HealthCheck::Tcp,
        port: 8080,
        path: None,
        interval_seconds: 1,
        timeout_seconds: 1,
        grace_period_seconds,
        success_threshold: 1,
        failure_threshold: 1,
    }
}

/// P-SCH-36: what its manifest asks for, and an interval for each try.
#[test]
fn who_asks_for_more_time_to_start_has_it() {
    let mut world = World::new();
    let mut message = full(1, 1, &[(1, Desired::Running)]);
    let PlanChange::Full { assignments } = &mut message.change else { unreachable!("it was made so") };
    let grace = Limits::default().startup_max + Duration::from_secs(60);
    assignments[0].workload.health = Some(checked(u32::try_from(grace.as_secs()).unwrap()));
    assert!(world.hears(message));
    world.does(Action::Prepare(id(1)), Outcome::Prepared { took_ms: 2 });
    world.does(Action::Boot(id(1)), started(id(1)));
    assert_eq!(world.slot().status.start.map(|start| start.prepare_ms), Some(2), "what it took is told");
    let (end, stop) = (NOW + grace + Duration::from_secs(1), Action::Stop { instance: id(1), grace: Duration::ZERO });
    assert_ne!(world.step(Timestamp(end.0 - 1)), std::slice::from_ref(&stop));
    assert_eq!(world.step(end), [stop]);
}

#[test]
fn one_that_stays_sick_is_taken_down_for_what_it_did_not_answer() {
    let mut world = World::running();
    world.local.slots.get_mut(&id(1)).unwrap().workload.health = Some(checked(0));
    let sick = NOW + Duration::from_secs(60);
    world.probed(false, sick);
    assert_eq!(world.slot().status.phase, InstancePhase::Unready);
    let end = sick + world.local.limits.unready_max;
    assert_eq!(next_step(&world.local, sick), Some(sick + Duration::from_secs(1)), "it is asked again");
    let stop = Action::Stop { instance: id(1), grace: Duration::ZERO };
    assert_ne!(world.step(Timestamp(end.0 - 1)), std::slice::from_ref(&stop));
    assert_eq!(world.step(end), std::slice::from_ref(&stop));
    world.local.begin(&stop, &world.plan, end);
    let failure = world.slot().status.failure.clone().unwrap();
    assert_eq!(failure.to_string(), "healthcheck_failed: refused");
    assert_eq!(world.slot().status.phase, InstancePhase::Failed);
}

#[test]
fn what_could_not_be_taken_down_rests_and_is_tried_again() {
    let mut world = World::running();
    assert!(world.hears(full(1, 2, &[(1, Desired::Stopped)])));
    let stop = Action::Stop { instance: id(1), grace: Duration::ZERO };
    let refused = || Outcome::Failed(Failure::new(Reason::WorkloadExited, "the disk hangs"));
    world.local.begin(&stop, &world.plan, NOW);
    assert_eq!(world.slot().status.phase, InstancePhase::Draining);
    world.local.absorb(id(1), refused(), NOW);
    let again = NOW + super::slot::REST;
    assert_eq!((world.step(NOW), next_step(&world.local, NOW)), (Vec::new(), Some(again)));
    assert_eq!(world.step(again), std::slice::from_ref(&stop));
    world.local.begin(&stop, &world.plan, again);
    world.local.absorb(id(1), Outcome::Stopped { exit_code: None }, again);
    assert!(!world.local.is_empty(), "its disk is there");
    world.local.begin(&Action::Destroy(id(1)), &world.plan, again);
    world.local.absorb(id(1), Outcome::Destroyed, again);
    assert!(world.local.is_empty());

    let (stray, mut world) = (id(7), World::new());
    assert!(world.hears(full(1, 1, &[])));
    world.observed.insert(stray, Found::Ended);
    world.local.begin(&Action::Destroy(stray), &world.plan, NOW);
    assert!(!world.local.is_empty());
    world.local.absorb(stray, refused(), NOW);
    assert_eq!((world.step(NOW), world.step(again)), (Vec::new(), vec![Action::Destroy(stray)]));
}

#[test]
fn a_foreign_log_stops_nothing_that_runs() {
    let mut world = World::running();
    assert!(world.hears(full(2, 9, &[(1, Desired::Stopped)])));
    assert_eq!(world.step(NOW), []);
    assert!(world.hears(full(2, 10, &[(1, Desired::Running)])));
    assert_eq!(world.step(NOW + Duration::from_secs(60)), [Action::Probe(id(1))]);
}

#[test]
fn another_guest_that_answers_is_not_taken_over() {
    let mut world = World::running();
    let json = serde_json::to_vec(&world.local).unwrap();
    let local: Local = serde_json::from_slice(&json).unwrap();
    world.local = local.wake(Limits::default(), &[(id(1), Found::Runs(id(1)))].into(), NOW);
    world.observed.insert(id(1), Found::Runs(id(1)));
    world.local.begin(&Action::Adopt(id(1), id(1)), &world.plan, NOW);
    world.local.absorb(id(1), Outcome::Adopted { boot: id(2) }, NOW);
    assert_eq!((world.slot().attached, world.slot().status.phase), (false, InstancePhase::Failed));
}

#[test]
fn a_machine_of_another_boot_is_not_spoken_to() {
    let mut world = World::running();
    let json = serde_json::to_vec(&world.local).unwrap();
    let local: Local = serde_json::from_slice(&json).unwrap();
    world.local = local.wake(Limits::default(), &[(id(1), Found::Runs(id(1)))].into(), NOW);
    world.observed.insert(id(1), Found::Runs(id(2)));
    let stop = Action::Stop { instance: id(1), grace: Duration::ZERO };
    assert_eq!(world.step(NOW), std::slice::from_ref(&stop));
    world.local.begin(&stop, &world.plan, NOW);
    assert_eq!(world.slot().status.failure.as_ref().map(|it| it.reason), Some(Reason::WorkloadExited));
}

#[test]
fn who_never_answered_at_all_is_taken_down_too() {
    let mut world = World::new();
    assert!(world.hears(full(1, 1, &[(1, Desired::Running)])));
    world.does(Action::Prepare(id(1)), Outcome::Prepared { took_ms: 2 });
    world.does(Action::Boot(id(1)), started(id(1)));
    let late = NOW + Limits::default().startup_max;
    world.local.begin(&Action::Stop { instance: id(1), grace: Duration::ZERO }, &world.plan, late);
    let failure = world.slot().status.failure.as_ref().map(ToString::to_string);
    assert_eq!(failure.as_deref(), Some("startup_timeout: the workload did not become ready in time"));
}

#[test]
fn a_dismissed_node_takes_down_what_it_has() {
    let mut world = World::running();
    world.local.dismiss(&mut world.plan);
    let grace = world.local.limits.drain_grace;
    assert_eq!(world.step(NOW), [Action::Stop { instance: id(1), grace }]);
}

#[test]
fn what_cannot_be_started_has_failed() {
    let mut world = World::new();
    assert!(world.hears(full(1, 1, &[(1, Desired::Running)])));
    world.does(Action::Prepare(id(1)), Outcome::Prepared { took_ms: 2 });
    world.local.begin(&Action::Boot(id(1)), &world.plan, NOW);
    let failure = Failure::new(Reason::VmmStartFailed, "no memory");
    world.local.absorb(id(1), Outcome::Failed(failure.clone()), NOW);
    assert_eq!(
        (world.slot().status.phase, world.slot().status.failure.as_ref()),
        (InstancePhase::Failed, Some(&failure))
    );
    assert_eq!(
        world.step(NOW),
        [Action::Stop { instance: id(1), grace: Duration::ZERO }],
        "something of it may be there"
    );
}

#[test]
fn a_snapshot_of_the_log_before_does_not_leave_the_plan_astray() {
    let mut world = World::new();
    assert!(world.hears(full(1, 5, &[(1, Desired::Running)])) && world.hears(full(2, 3, &[(1, Desired::Running)])));
    let late = full(1, 5, &[]);
    assert!(world.hears(late), "which of the two is right, nobody can tell from here");
    let (log, term, seq) = (id::<LogId>(2), Term(1), Seq(4));
    let change = PlanChange::Delta { upserts: Vec::new(), drops: vec![id(1)] };
    let message = PlanMessage { position: Position { log, term, seq }, change, volumes: None };
    assert_eq!(world.local.hear(&mut world.plan, message), Hearing::Astray, "but that it has to be asked anew");
}
