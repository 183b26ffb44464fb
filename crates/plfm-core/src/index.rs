//! What would otherwise be searched for: who lives where, what is held and promised, who is not as wanted.
//!
//! Part of the fold, and nothing but a consequence of the rest of the state: [`Index::of`] says the same from scratch, and `check`
//! compares the two. It is not stored; whoever reads a stored state makes it anew.

use imbl::{OrdMap, OrdSet};
use ulid::Ulid;

use crate::ids::*;
use crate::phase::{DeployStatus, Desired};
use crate::state::{Committed, Deploy, Env, Instance, Replica, Role, Snapshot, State, Volume};
use crate::units::{Mebibytes, Timestamp};

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Index {
    /// Instances that hold resources.
    by_env: OrdSet<(EnvId, InstanceId)>,
    by_node: OrdSet<(NodeId, InstanceId)>,
    held: OrdMap<NodeId, Committed>,
    projects: OrdMap<ProjectId, Committed>,
    sandboxes: OrdSet<InstanceId>,
    snapshots: OrdSet<InstanceId>,
    /// Those that nobody wants for themselves.
    loose: OrdSet<InstanceId>,
    /// Those that somebody wants by a name.
    named: OrdSet<(OrgId, String, InstanceId)>,
    /// How many sandboxes that are not to be stopped go on from a snapshot.
    forks: OrdMap<InstanceId, u32>,
    /// When sandboxes are to be stopped, the soonest first.
    ending: OrdSet<(Timestamp, InstanceId)>,
    /// Those that hold nothing any more, the longest ended first.
    ended: OrdSet<(Timestamp, InstanceId)>,
    deploying: OrdSet<(EnvId, DeployId)>,
    standings: OrdMap<EnvId, Standing>,
    unsettled: OrdSet<EnvId>,
    usage: OrdMap<OrgId, Usage>,
    /// Those that are wanted, by name.
    volumes: OrdMap<(EnvId, String), VolumeId>,
}

/// How an env stands.
#[derive(Debug, Clone, Default, PartialEq)]
struct Standing {
    tallies: Vec<Tally>,
    /// What counts against the org's quota.
    counted: Committed,
    /// What its groups add up to, before any node adds its overhead.
    asked: Committed,
}

/// The live instances of one process type on one release.
#[derive(Debug, Clone, PartialEq)]
struct Tally {
    process: String,
    release: ReleaseId,
    live: u32,
    ready: u32,
}

/// What an org has of what its quota limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Instances that are not to be stopped.
    pub counted: Committed,
    /// For each env the greater of what it has and what it asks for, summed: what is decided but not yet placed counts too.
    pub promised: Committed,
    pub projects: u64,
    pub apps: u64,
    pub envs: u64,
    pub routes: u64,
    pub snapshots: u64,
    pub volumes: u64,
    pub volume_size: Mebibytes,
}

impl Index {
    /// From the rest of the state alone.
    pub fn of(state: &State) -> Self {
        let mut state = State { index: Self::default(), ..state.clone() };
        let owned = state.clone();
        owned.projects.values().for_each(|it| state.index.own(it.org, |usage| usage.projects += 1));
        owned.apps.values().for_each(|it| state.index.own(it.org, |usage| usage.apps += 1));
        owned.envs.values().for_each(|it| state.index.own(it.org, |usage| usage.envs += 1));
        owned.routes.values().for_each(|it| state.index.own(it.org, |usage| usage.routes += 1));
        owned.instances.iter().for_each(|(id, it)| state.index.enter(*id, it));
        owned.volumes.iter().for_each(|(id, it)| state.index.keep(*id, it));
        owned.deploys.iter().for_each(|(id, it)| state.index.deploys(*id, it));
        for (id, env) in &owned.envs {
            state.index.ask(*id, env, asked(&owned, env));
            settle(&mut state, *id);
        }
        state.index
    }

    pub fn in_env(&self, env: EnvId) -> impl Iterator<Item = InstanceId> {
        self.by_env.range((env, least())..=(env, greatest())).map(|(_, id)| *id)
    }

    pub fn on_node(&self, node: NodeId) -> impl Iterator<Item = InstanceId> {
        self.by_node.range((node, least())..=(node, greatest())).map(|(_, id)| *id)
    }

    pub fn held(&self, node: NodeId) -> Committed {
        self.held.get(&node).copied().unwrap_or_default()
    }

    pub fn volume(&self, env: EnvId, name: &str) -> Option<VolumeId> {
        self.volumes.get(&(env, name.to_owned())).copied()
    }

    pub fn held_by(&self, project: ProjectId) -> Committed {
        self.projects.get(&project).copied().unwrap_or_default()
    }

    /// Sandboxes that hold resources.
    pub fn sandboxes(&self) -> impl Iterator<Item = InstanceId> {
        self.sandboxes.iter().copied()
    }

    /// Snapshots that hold resources.
    pub fn snapshots(&self) -> impl Iterator<Item = InstanceId> {
        self.snapshots.iter().copied()
    }

    /// Snapshots of a name, the oldest first.
    pub fn named(&self, org: OrgId, name: &str) -> impl Iterator<Item = InstanceId> {
        let range = (org, name.to_owned(), least())..=(org, name.to_owned(), greatest());
        self.named.range(range).map(|(_, _, id)| *id)
    }

    /// Snapshots whose name a newer one has that is there.
    pub fn outdated<'a>(&'a self, state: &'a State) -> impl Iterator<Item = InstanceId> {
        let pairs = self.named.iter().zip(self.named.iter().skip(1)).filter(|(a, b)| (&a.0, &a.1) == (&b.0, &b.1));
        let has_newer = |(org, name, id): &(OrgId, String, InstanceId)| {
            let newer = state.index.named(*org, name).filter(|other| other > id);
            newer.filter_map(|id| state.instances.get(&id)).any(Instance::is_taken)
        };
        pairs.map(|(older, _)| older).filter(move |older| has_newer(older)).map(|(_, _, id)| *id)
    }

    /// Sandboxes that went on from a snapshot, or are to, and that are not to be stopped.
    pub fn forks_of(&self, snapshot: InstanceId) -> u32 {
        self.forks.get(&snapshot).copied().unwrap_or_default()
    }

    /// Snapshots that nobody wants, for themselves or for what went on from them.
    pub fn useless(&self) -> impl Iterator<Item = InstanceId> {
        self.loose.iter().copied().filter(|id| self.forks_of(*id) == 0)
    }

    pub fn ending(&self) -> impl Iterator<Item = (Timestamp, InstanceId)> {
        self.ending.iter().copied()
    }

    pub fn ended(&self) -> impl Iterator<Item = (Timestamp, InstanceId)> {
        self.ended.iter().copied()
    }

    /// Unfinished deploys.
    pub fn deploying(&self) -> impl Iterator<Item = DeployId> {
        self.deploying.iter().map(|(_, id)| *id)
    }

    pub fn deploying_to(&self, env: EnvId) -> impl Iterator<Item = DeployId> {
        self.deploying.range((env, least())..=(env, greatest())).map(|(_, id)| *id)
    }

    /// Envs where something may be left to do.
    pub fn unsettled(&self) -> impl Iterator<Item = EnvId> {
        self.unsettled.iter().copied()
    }

    pub fn usage(&self, org: OrgId) -> Usage {
        self.usage.get(&org).copied().unwrap_or_default()
    }

    /// What an env adds to its org's `promised`, and would add if it asked for something else.
    pub fn promise(&self, env: EnvId, asked: Committed) -> (Committed, Committed) {
        let standing = self.standings.get(&env).cloned().unwrap_or_default();
        (standing.promised(), standing.counted.greater(asked))
    }

    pub(crate) fn own(&mut self, org: OrgId, change: impl FnOnce(&mut Usage)) {
        edit(&mut self.usage, org, change);
    }

    pub(crate) fn enter(&mut self, id: InstanceId, it: &Instance) {
        if !it.holds_resources() {
            self.ended.insert((it.changed_at, id));
            return;
        }
        self.by_node.insert((it.node, id));
        edit(&mut self.held, it.node, |held| *held = held.plus(it.held()));
        edit(&mut self.projects, it.project, |held| *held = held.plus(it.held()));
        self.ending.extend(it.ends_at().map(|at| (at, id)));
        match &it.role {
            Role::Replica(replica) => {
                self.by_env.insert((replica.env, id));
                self.stand(replica.env, it.org, |standing| standing.enter(it, replica));
            }
            Role::Sandbox(sandbox) => {
                self.sandboxes.insert(id);
                let from = sandbox.from.filter(|_| it.desired != Desired::Stopped).map(|from| from.snapshot);
                from.into_iter().for_each(|from| edit(&mut self.forks, from, |forks| *forks += 1));
                self.own(it.org, |usage| usage.count(it, Committed::plus));
            }
            Role::Snapshot(snapshot) => {
                self.snapshots.insert(id);
                self.loose.extend((!snapshot.kept && it.desired != Desired::Stopped).then_some(id));
                self.named.extend(name(it, snapshot).map(|name| (it.org, name, id)));
                self.own(it.org, |usage| usage.snapshots += 1);
            }
        }
    }

    pub(crate) fn leave(&mut self, id: InstanceId, it: &Instance) {
        if !it.holds_resources() {
            self.ended.remove(&(it.changed_at, id));
            return;
        }
        self.by_node.remove(&(it.node, id));
        edit(&mut self.held, it.node, |held| *held = held.less(it.held()));
        edit(&mut self.projects, it.project, |held| *held = held.less(it.held()));
        it.ends_at().iter().for_each(|at| {
            self.ending.remove(&(*at, id));
        });
        match &it.role {
            Role::Replica(replica) => {
                self.by_env.remove(&(replica.env, id));
                self.stand(replica.env, it.org, |standing| standing.leave(it, replica));
            }
            Role::Sandbox(sandbox) => {
                self.sandboxes.remove(&id);
                let from = sandbox.from.filter(|_| it.desired != Desired::Stopped).map(|from| from.snapshot);
                from.into_iter().for_each(|from| edit(&mut self.forks, from, |forks| *forks -= 1));
                self.own(it.org, |usage| usage.count(it, Committed::less));
            }
            Role::Snapshot(snapshot) => {
                self.snapshots.remove(&id);
                self.loose.remove(&id);
                name(it, snapshot).into_iter().for_each(|name| drop(self.named.remove(&(it.org, name, id))));
                self.own(it.org, |usage| usage.snapshots -= 1);
            }
        }
    }

    /// A volume takes its room as long as it is anywhere; no instance needs to have it.
    pub(crate) fn keep(&mut self, id: VolumeId, it: &Volume) {
        if it.phase.is_wanted() {
            self.volumes.insert((it.env, it.name.clone()), id);
        }
        self.count_volume(it, |count| count + 1, Committed::plus);
    }

    pub(crate) fn discard(&mut self, it: &Volume) {
        if it.phase.is_wanted() {
            self.volumes.remove(&(it.env, it.name.clone()));
        }
        self.count_volume(it, |count| count - 1, Committed::less);
    }

    fn count_volume(
        &mut self,
        it: &Volume,
        count: impl Fn(u64) -> u64,
        add: impl Fn(Committed, Committed) -> Committed,
    ) {
        let size = Committed { disk: it.size, ..Committed::default() };
        if let Some(home) = it.home {
            edit(&mut self.held, home, |held| *held = add(*held, size));
        }
        self.own(it.org, |usage| {
            usage.volumes = count(usage.volumes);
            usage.volume_size = add(Committed { disk: usage.volume_size, ..Committed::default() }, size).disk;
        });
    }

    /// Of an instance that counts as before, whether it is ready may have changed.
    pub(crate) fn turn(&mut self, before: &Instance, after: &Instance) {
        if before.is_ready() != after.is_ready()
            && let Some(replica) = after.replica()
            && let Some(standing) = self.standings.get_mut(&replica.env)
        {
            standing.turn(after, replica);
        }
    }

    pub(crate) fn deploys(&mut self, id: DeployId, deploy: &Deploy) {
        let key = (deploy.env, id);
        if deploy.status.is_final() {
            self.deploying.remove(&key)
        } else {
            self.deploying.insert(key)
        };
    }

    pub(crate) fn ask(&mut self, id: EnvId, env: &Env, asked: Committed) {
        self.stand(id, env.org, |standing| standing.asked = asked);
    }

    fn stand(&mut self, env: EnvId, org: OrgId, change: impl FnOnce(&mut Standing)) {
        let (mut before, mut after) = Default::default();
        edit(&mut self.standings, env, |standing| {
            before = (standing.counted, standing.promised());
            change(standing);
            after = (standing.counted, standing.promised());
        });
        self.own(org, |usage| {
            usage.counted = usage.counted.less(before.0).plus(after.0);
            usage.promised = usage.promised.less(before.1).plus(after.1);
        });
    }
}

/// By which a snapshot can be asked for.
fn name(it: &Instance, snapshot: &Snapshot) -> Option<String> {
    snapshot.name.clone().filter(|_| snapshot.kept && it.desired != Desired::Stopped)
}

impl Usage {
    /// A sandbox asks for what it has, and for nothing once it is to be stopped.
    fn count(&mut self, it: &Instance, add: impl Fn(Committed, Committed) -> Committed) {
        if it.desired != Desired::Stopped {
            self.counted = add(self.counted, it.held());
            self.promised = add(self.promised, it.held());
        }
    }
}

impl Standing {
    fn promised(&self) -> Committed {
        self.counted.greater(self.asked)
    }

    fn enter(&mut self, it: &Instance, replica: &Replica) {
        if it.desired != Desired::Stopped {
            self.counted.add(&it.resources);
        }
        let place = self.tallies.iter().position(|tally| tally.is_of(replica)).unwrap_or_else(|| {
            let fresh = Tally { process: replica.process.clone(), release: replica.release, live: 0, ready: 0 };
            let key = |tally: &Tally| (tally.process.clone(), tally.release);
            let place = self.tallies.partition_point(|tally| key(tally) < key(&fresh));
            self.tallies.insert(place, fresh);
            place
        });
        self.tallies[place].live += 1;
        self.tallies[place].ready += u32::from(it.is_ready());
    }

    fn turn(&mut self, it: &Instance, replica: &Replica) {
        if let Some(tally) = self.tallies.iter_mut().find(|tally| tally.is_of(replica)) {
            tally.ready = if it.is_ready() { tally.ready + 1 } else { tally.ready - 1 };
        }
    }

    fn leave(&mut self, it: &Instance, replica: &Replica) {
        if it.desired != Desired::Stopped {
            self.counted.remove(&it.resources);
        }
        for tally in self.tallies.iter_mut().filter(|tally| tally.is_of(replica)) {
            tally.live -= 1;
            tally.ready -= u32::from(it.is_ready());
        }
        self.tallies.retain(|tally| tally.live > 0);
    }
}

impl Tally {
    fn is_of(&self, replica: &Replica) -> bool {
        self.release == replica.release && self.process == replica.process
    }
}

/// Marks whether an env is as it should be: its deploy done, of each process type as many as wanted, all ready, and nothing else.
pub(crate) fn settle(state: &mut State, id: EnvId) {
    if is_settled(state, id) {
        state.index.unsettled.remove(&id)
    } else {
        state.index.unsettled.insert(id)
    };
}

fn is_settled(state: &State, id: EnvId) -> bool {
    let Some(env) = state.envs.get(&id) else { return true };
    let tallies = state.index.standings.get(&id).map(|standing| standing.tallies.as_slice()).unwrap_or_default();
    let as_wanted = |tally: &Tally| {
        let group = env.groups.get(&tally.process).filter(|group| group.release == tally.release);
        group.is_some() && tally.live == tally.ready && tally.ready == count(state, tally.release, &tally.process)
    };
    let complete = env.groups.iter().all(|(process, group)| {
        let done = state.deploys.get(&group.deploy).is_some_and(|it| it.status == DeployStatus::Succeeded);
        let empty = || count(state, group.release, process) == 0;
        done && group.waiting.is_none() && (tallies.iter().any(|tally| tally.process == *process) || empty())
    });
    complete && tallies.iter().all(as_wanted) && state.index.deploying_to(id).next().is_none()
}

fn count(state: &State, release: ReleaseId, process: &str) -> u32 {
    state.process(release, process).map_or(0, |process| process.scaling.min)
}

/// What the groups of an env add up to.
pub(crate) fn asked(state: &State, env: &Env) -> Committed {
    let of = |(process, group): (&String, &crate::state::Group)| {
        state.process(group.release, process).map(Committed::asked_by).unwrap_or_default()
    };
    env.groups.iter().map(of).fold(Committed::default(), Committed::plus)
}

/// Changes a value that is there only while it is not the default, so that the past leaves no trace.
fn edit<K: Ord + Clone, V: Clone + Default + PartialEq>(map: &mut OrdMap<K, V>, key: K, change: impl FnOnce(&mut V)) {
    let value = map.entry(key.clone()).or_default();
    change(value);
    if *value == V::default() {
        map.remove(&key);
    }
}

fn least<I: From<Ulid>>() -> I {
    Ulid(u128::MIN).into()
}

fn greatest<I: From<Ulid>>() -> I {
    Ulid(u128::MAX).into()
}
