//! The proofs of A-TEN-15 to -18, on a pool that is one heap of everything.

use std::cell::RefCell;
use std::rc::Rc;

use proptest::collection::vec;
use proptest::prelude::*;
use ulid::Ulid;

use super::*;

/// A heap, and who got how much of it.
#[derive(Debug, Clone)]
struct Heap {
    free: Amounts,
    kept: Option<Amounts>,
    got: BTreeMap<usize, u32>,
}

/// A team's wish: the index of the team and one task.
#[derive(Debug, Clone, Copy)]
struct Task {
    team: usize,
    needs: Amounts,
}

impl Heap {
    fn of(free: Amounts) -> Self {
        Self { free, kept: None, got: BTreeMap::new() }
    }
}

impl Pool<Task> for Heap {
    fn take(&mut self, task: &Task, _: Class) -> Option<Amounts> {
        self.free = minus(self.free, task.needs).filter(|_| self.kept.is_none())?;
        *self.got.entry(task.team).or_default() += 1;
        Some(task.needs)
    }

    fn reserve(&mut self, task: &Task) -> bool {
        self.kept = Some(task.needs);
        true
    }
}

fn minus(from: Amounts, what: Amounts) -> Option<Amounts> {
    let covered = from.0.iter().zip(what.0).all(|(from, what)| *from >= what);
    covered.then(|| Amounts(std::array::from_fn(|resource| from.0[resource] - what.0[resource])))
}

fn times(amounts: Amounts, count: u32) -> Amounts {
    Amounts(amounts.0.map(|amount| amount * u64::from(count)))
}

#[derive(Debug, Clone, Copy)]
struct Team {
    weight: u32,
    needs: Amounts,
    wants: u32,
}

fn project(team: usize) -> ProjectId {
    Ulid::from_parts(1, team as u128).into()
}

/// How many tasks each team gets of an empty heap; all teams in one org, or each in its own.
fn fill_as(capacity: Amounts, teams: &[Team], own_orgs: bool) -> Vec<u32> {
    let mut queue = Queue::new(Timestamp(0), capacity);
    for (team, it) in teams.iter().enumerate() {
        let account = Account { weight: it.weight, used: Amounts::default() };
        let org = OrgId::new(Ulid::from_parts(1, if own_orgs { team as u128 } else { 0 }));
        queue.org(org, account);
        queue.project(org, project(team), account, Turns::default());
        if it.wants > 0 {
            queue.push(project(team), Class::Normal, Timestamp(0), it.wants, Task { team, needs: it.needs });
        }
    }
    let mut heap = Heap::of(capacity);
    queue.serve(&mut heap);
    (0..teams.len()).map(|team| heap.got.get(&team).copied().unwrap_or(0)).collect()
}

fn fill(capacity: Amounts, teams: &[Team]) -> Vec<u32> {
    fill_as(capacity, teams, false)
}

fn share(capacity: Amounts, needs: Amounts, count: u32) -> f64 {
    times(needs, count).dominant(capacity).as_f64()
}

#[test]
fn the_textbook_vector() {
    let capacity = Amounts([9, 18, 0, 0]);
    let team = |cpu, memory| Team { weight: 1, needs: Amounts([cpu, memory, 0, 0]), wants: 100 };
    let teams = [team(1, 4), team(3, 1)];
    assert_eq!(fill(capacity, &teams), [3, 2]);
    for (team, got) in teams.iter().zip([3, 2]) {
        assert_eq!(times(team.needs, got).dominant(capacity), Amounts([2, 0, 0, 0]).dominant(Amounts([3, 0, 0, 0])));
    }
}

const WHOLE: u64 = 1_000;

/// Tasks are at most a twentieth of the whole, so that what is proven of divisible goods holds within a task.
fn teams(most: usize) -> impl Strategy<Value = Vec<Team>> {
    let needs = (10..50u64, 10..50u64, 0..50u64).prop_map(|(cpu, memory, disk)| Amounts([cpu, memory, disk, 1]));
    vec((1..5u32, needs).prop_map(|(weight, needs)| Team { weight, needs, wants: u32::MAX }), 2..most)
}

fn capacity() -> Amounts {
    Amounts([WHOLE, WHOLE, WHOLE, WHOLE])
}

/// The dominant share of one task.
fn task(team: &Team) -> f64 {
    share(capacity(), team.needs, 1)
}

/// What the first team gets if it says that it needs so many times as much of a resource; and what it may get: as by the truth, and a
/// task. Tasks are whole: where the lie costs another its last one, what that would have taken is left for whoever needs little of it.
fn lie(teams: &[Team], inflated: usize, inflation: u64) -> (u32, u32) {
    let truth = fill(capacity(), teams)[0];
    let mut lie = teams.to_vec();
    lie[0].needs.0[inflated] *= inflation;
    let (mine, told) = (teams[0].needs, fill(capacity(), &lie)[0]);
    let freed = |other: &Team| (0..4).filter_map(|it| other.needs.0[it].checked_div(mine.0[it])).max();
    let freed: u64 = teams[1..].iter().filter_map(freed).sum();
    (told, truth + 1 + u32::try_from(freed).unwrap_or(u32::MAX))
}

/// Found by a seed: one task of the other takes as much disk as seventeen of the first.
#[test]
fn a_lie_may_win_what_anothers_last_task_leaves() {
    let team = |weight, needs| Team { weight, needs: Amounts(needs), wants: u32::MAX };
    let (told, bound) = lie(&[team(1, [26, 39, 2, 1]), team(4, [13, 10, 34, 1])], 2, 2);
    assert_eq!((told, bound), (12, 25));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shares_are_fair(teams in teams(6), inflation in 1..4u64, inflated in 0..3usize) {
        let capacity = capacity();
        let got = fill(capacity, &teams);

        // Pareto: nobody's next task fits.
        let used = teams.iter().zip(&got).fold(Amounts::default(), |used, (team, got)| used.plus(times(team.needs, *got)));
        let free = minus(capacity, used).expect("nothing is given twice");
        prop_assert!(teams.iter().all(|team| minus(free, team.needs).is_none()));

        // Sharing incentive: as good as a part of everything by weight. Whoever's task no longer fits leaves less than that task, and
        // each of the others may be ahead by one.
        let (weights, tasks): (u32, f64) = (teams.iter().map(|team| team.weight).sum(), teams.iter().map(task).sum());
        for (team, count) in teams.iter().zip(&got) {
            let part = f64::from(team.weight) / f64::from(weights);
            prop_assert!(share(capacity, team.needs, *count) >= part * (1.0 - tasks) - 1e-9, "{count} of {team:?}");
        }

        // No envy: with what another got by weight, less one task, nobody could do more than a task better.
        for (one, count) in teams.iter().zip(&got) {
            for (other, others) in teams.iter().zip(&got) {
                let bundle = times(other.needs, others.saturating_sub(1) * one.weight / other.weight);
                let usable = (0..4).filter(|it| one.needs.0[*it] > 0).map(|it| bundle.0[it] / one.needs.0[it]).min();
                // What is left when one's own task no longer fits goes to others; it is less than a task, by weight.
                let slack = 1 + u64::from(one.weight.div_ceil(other.weight));
                prop_assert!(usable.unwrap_or(0) <= u64::from(*count) + slack, "{one:?} {count} envies {other:?} {others}");
            }
        }

        // Strategy-proof: asking for more than one uses gains nothing.
        let (told, bound) = lie(&teams, inflated, inflation);
        prop_assert!(told <= bound, "{told} by a lie, more than {bound}");
    }

    #[test]
    fn orgs_share_as_projects_do(teams in teams(4)) {
        let capacity = Amounts([300, 300, 300, 0]);
        prop_assert_eq!(fill_as(capacity, &teams, false), fill_as(capacity, &teams, true));
    }

    #[test]
    fn one_resource_is_shared_as_much_as_wanted_and_by_weight(
        wishes in vec((1..5u32, 0..40u32), 2..6),
    ) {
        let capacity = Amounts([60, 0, 0, 0]);
        let team = |(weight, wants): &(u32, u32)| Team { weight: *weight, needs: Amounts([1, 0, 0, 0]), wants: *wants };
        let teams: Vec<_> = wishes.iter().map(team).collect();
        let got = fill(capacity, &teams);
        // Max-min: who has less than wished has, by weight, as much as anyone, within a task.
        for (short, count) in teams.iter().zip(&got).filter(|(team, got)| **got < team.wants) {
            for (other, others) in teams.iter().zip(&got) {
                let (mine, theirs) = (count * other.weight, others * short.weight);
                prop_assert!(theirs <= mine + short.weight.max(other.weight) * other.weight.max(short.weight));
            }
        }
        let wanted: u32 = teams.iter().map(|team| team.wants).sum();
        prop_assert_eq!(got.iter().sum::<u32>(), wanted.min(60));
    }
}

/// A heap over time: tasks come, are served, run for a while, and leave.
struct Dynamics {
    now: u64,
    capacity: Amounts,
    teams: Vec<Team>,
    held: Vec<Amounts>,
    /// By when they came.
    waiting: Vec<std::collections::VecDeque<u64>>,
    running: BTreeMap<u64, Vec<Task>>,
    waits: Vec<Vec<u64>>,
}

/// Serves from the heap of the moment and tells who was served.
struct Moment(Rc<RefCell<(Heap, Vec<usize>)>>);

impl Pool<Task> for Moment {
    fn take(&mut self, task: &Task, class: Class) -> Option<Amounts> {
        let (heap, served) = &mut *self.0.borrow_mut();
        let amounts = heap.take(task, class)?;
        served.push(task.team);
        Some(amounts)
    }

    fn reserve(&mut self, task: &Task) -> bool {
        self.0.borrow_mut().0.reserve(task)
    }
}

impl Dynamics {
    fn new(capacity: Amounts, teams: Vec<Team>) -> Self {
        let count = teams.len();
        let (held, waiting) = (vec![Amounts::default(); count], vec![Default::default(); count]);
        Self { now: 0, capacity, teams, held, waiting, running: BTreeMap::new(), waits: vec![Vec::new(); count] }
    }

    fn second(&mut self, lasts: impl Fn(usize, u64) -> u64) {
        self.now += 1;
        for task in self.running.remove(&self.now).unwrap_or_default() {
            self.held[task.team] = minus(self.held[task.team], task.needs).expect("it was held");
        }
        let used = self.held.iter().fold(Amounts::default(), |used, held| used.plus(*held));
        let heap = Heap::of(minus(self.capacity, used).expect("nothing is given twice"));
        let moment = Rc::new(RefCell::new((heap, Vec::new())));
        self.queue().serve(&mut Moment(moment.clone()));
        for team in moment.borrow().1.iter().copied() {
            let came = self.waiting[team].pop_front().expect("it waited");
            self.waits[team].push(self.now - came);
            let task = Task { team, needs: self.teams[team].needs };
            self.held[team] = self.held[team].plus(task.needs);
            self.running.entry(self.now + lasts(team, self.now)).or_default().push(task);
        }
    }

    fn queue(&self) -> Queue<Task> {
        let mut queue = Queue::new(Timestamp(self.now * 1_000), self.capacity);
        let org = OrgId::new(Ulid::nil());
        queue.org(org, Account { weight: 1, used: Amounts::default() });
        for (team, it) in self.teams.iter().enumerate() {
            queue.project(org, project(team), Account { weight: it.weight, used: self.held[team] }, Turns::default());
            for came in self.waiting[team].iter().take(12) {
                let task = Task { team, needs: it.needs };
                queue.push(project(team), Class::Normal, Timestamp(came * 1_000), 1, task);
            }
        }
        queue
    }

    fn key(&self, team: usize) -> f64 {
        Account { weight: self.teams[team].weight, used: self.held[team] }.key(self.capacity).as_f64()
    }
}

fn twenty() -> Vec<Team> {
    let team = |team: u64| Team {
        weight: 1 + (team % 3) as u32,
        needs: Amounts([1 + team % 4, 1 + team % 7, 1, 1]),
        wants: 0,
    };
    (0..20).map(team).collect()
}

fn lasts(team: usize, now: u64) -> u64 {
    5 + (now * 7 + team as u64 * 13) % 20
}

#[test]
fn over_time_shares_stay_even() {
    let mut world = Dynamics::new(Amounts([2_000, 3_000, 10_000, 10_000]), twenty());
    let windows = 6;
    for _ in 0..windows {
        let mut sums = [0.0; 20];
        for _ in 0..300 {
            // Half of the teams always want more; the others come and go.
            for team in 0..20 {
                let always = team < 10;
                let (now, backlog) = (world.now, world.waiting[team].len());
                let wants = if always {
                    12_usize.saturating_sub(backlog)
                } else {
                    usize::from((now / 60 + team as u64).is_multiple_of(2))
                };
                world.waiting[team].extend(std::iter::repeat_n(now, wants));
            }
            world.second(lasts);
            (0..20).for_each(|team| sums[team] += world.key(team));
        }
        let always = &sums[..10];
        let (sum, squares) = (always.iter().sum::<f64>(), always.iter().map(|it| it * it).sum::<f64>());
        let jain = sum * sum / (always.len() as f64 * squares);
        assert!(jain >= 0.95, "Jain's index is {jain} of {always:?}");
    }
}

#[test]
fn a_flood_of_one_team_does_not_hold_up_another() {
    let p95 = |flood: usize| {
        let mut world = Dynamics::new(Amounts([400, 600, 10_000, 10_000]), twenty());
        world.waiting[0].extend(std::iter::repeat_n(0, flood));
        for _ in 0..600 {
            let now = world.now;
            (1..20).filter(|team| now % 20 == *team as u64).for_each(|team| world.waiting[team].push_back(now));
            world.second(lasts);
        }
        let mut waits: Vec<_> = world.waits[1..].iter().flatten().copied().collect();
        waits.sort_unstable();
        waits[waits.len() * 95 / 100]
    };
    let (quiet, flooded) = (p95(0), p95(10_000));
    assert!(flooded <= quiet + 2, "from {quiet} s to {flooded} s");
}

#[test]
fn who_wants_much_at_once_is_not_starved_by_many_who_want_little() {
    let small = |_| Team { weight: 1, needs: Amounts([1, 1, 1, 1]), wants: 0 };
    let mut teams: Vec<_> = (0..9).map(small).collect();
    teams.push(Team { weight: 1, needs: Amounts([60, 60, 60, 1]), wants: 0 });
    let mut world = Dynamics::new(Amounts([100, 100, 100, 1_000]), teams);
    for second in 0..600 {
        for team in 0..9 {
            let more = 12_usize.saturating_sub(world.waiting[team].len());
            let now = world.now;
            world.waiting[team].extend(std::iter::repeat_n(now, more));
        }
        if second % 120 == 60 {
            let now = world.now;
            world.waiting[9].push_back(now);
        }
        // The turnover is the whole heap in 25 s: more than the request's size in 30 s.
        world.second(lasts);
    }
    assert_eq!(world.waits[9].len(), 5);
    assert!(world.waits[9].iter().all(|wait| *wait <= 60), "{:?}", world.waits[9]);
}
