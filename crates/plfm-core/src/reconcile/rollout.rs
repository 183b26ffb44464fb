//! One step of one group towards its release: start what is missing, drain what is too much (P-SCH-30 to -33, -36).

use std::time::Duration;

use crate::command::Command;
use crate::event::{DesiredChange, Waiting};
use crate::facts::Facts;
use crate::ids::*;
use crate::manifest::Process;
use crate::phase::{DeployStatus, Desired, InstancePhase, NodePhase};
use crate::place::{Kind, Wanted, has_room, is_eligible};
use crate::reason::Remedy;
use crate::state::{Group, Instance, State};
use crate::units::Timestamp;

use super::agenda::Agenda;
use super::deploys::FAILURES_MAX;
use super::{Fleet, Member, set_desired};

/// New instances beyond the wanted count while old ones still serve.
const SURGE_MAX: usize = 1;
/// A node that has not begun with an instance by then is not counted on (P-SCH-36).
pub const TAKE_UP_MAX: Duration = Duration::from_secs(120);
/// A group whose deploy failed tries one instance this often, until someone deploys again.
pub const TRY_AGAIN_AFTER: Duration = Duration::from_secs(300);

pub struct Step<'a> {
    pub state: &'a State,
    pub facts: &'a Facts,
    pub fleet: &'a Fleet<'a>,
    pub env: EnvId,
    pub process: &'a str,
    pub group: &'a Group,
}

impl<'a> Step<'a> {
    pub fn take(&self, agenda: &mut Agenda, commands: &mut Vec<Command>) -> Option<Wanted> {
        let process = self.state.process(self.group.release, self.process)?;
        let count = process.scaling.min as usize;
        let wanted = self.live().filter(|(_, instance)| instance.desired == Desired::Running);
        let (new, old): (Vec<Member<'a>>, Vec<_>) =
            wanted.partition(|(id, it)| is_new(self.state, it, self.group) && !self.fleet.is_leaving(*id));
        let tried = new.len();
        let new = self.give_up(new, agenda, commands);
        let gave_up = new.len() < tried;
        // A volume has one user: the old one leaves first, and until it has left nothing comes (P-SCH-32).
        let (users, old): (Vec<_>, Vec<_>) = old.into_iter().partition(|(_, it)| self.state.share_volume(it, process));
        commands.extend(users.iter().map(|(id, _)| set_desired(*id, Desired::Draining, self.why(*id))));
        self.drain(count, &new, &old, commands);
        let missing = if self.is_in_use(process, &new) { 0 } else { missing(count, new.len(), old.len()) };
        // What is given up in this round counts from the next one on.
        let missing = if gave_up && self.deploy_failed().is_some() { 0 } else { self.patience(missing, &new, agenda) };
        let wanted = || Wanted {
            env: self.env,
            process: self.process.to_owned(),
            release: self.group.release,
            count: missing as u32,
            class: self.state.envs.get(&self.env).map(|env| env.class).unwrap_or_default(),
            since: self.group.waiting_since,
        };
        (missing > 0).then(wanted)
    }

    fn live(&self) -> impl Iterator<Item = Member<'a>> + use<'a> {
        self.fleet.live(self.env, self.process)
    }

    /// A volume of it, by whoever is not of the new ones; of another process type too, as a release before may have it.
    fn is_in_use(&self, process: &Process, new: &[Member<'_>]) -> bool {
        let is_new = |id| new.iter().any(|(new, _)| *new == id);
        let has_volumes = !process.mounts.is_empty();
        has_volumes && self.state.live_in(self.env).any(|(id, it)| !is_new(id) && self.state.share_volume(it, process))
    }

    fn is_of_deploy(&self, it: &Instance) -> bool {
        it.deploy() == Some(self.group.deploy)
    }

    fn deploy_failed(&self) -> Option<Timestamp> {
        let deploy = self.state.deploys.get(&self.group.deploy)?;
        self.group.failed_at.filter(|_| deploy.status == DeployStatus::Failed)
    }

    /// Stops what failed for good, and what another node may do better; those that stay are left.
    fn give_up(&self, new: Vec<Member<'a>>, agenda: &mut Agenda, commands: &mut Vec<Command>) -> Vec<Member<'a>> {
        let (given_up, stay): (Vec<_>, Vec<_>) =
            new.into_iter().partition(|(_, it)| self.is_hopeless(it) || self.belongs_elsewhere(it, agenda));
        let stop = |(id, _): &Member<'_>| set_desired(*id, Desired::Stopped, DesiredChange::StartupFailed);
        commands.extend(given_up.iter().map(stop));
        stay
    }

    /// What a failed deploy began and did not bring to serve; a later try has its own chance. What once answered is worth its node's
    /// patience, whatever became of the deploy that brought it.
    fn is_hopeless(&self, it: &Instance) -> bool {
        let begun_before = |failed_at| it.created_at <= failed_at || it.status.phase == InstancePhase::Failed;
        self.is_of_deploy(it) && !it.served && self.deploy_failed().is_some_and(begun_before)
    }

    /// It could not start where it is, or its node has not taken it up, and there is another node. Where there is none, its node tries
    /// again.
    fn belongs_elsewhere(&self, it: &Instance, agenda: &mut Agenda) -> bool {
        let failure = it.status.failure.as_ref().filter(|_| it.status.phase == InstancePhase::Failed);
        let elsewhere = failure.is_some_and(|failure| failure.reason.remedy() == Remedy::Elsewhere);
        let tries_left = self.group.given_up + it.failures < FAILURES_MAX;
        (elsewhere || self.is_ignored(it, agenda)) && tries_left && !self.state.is_stateful(it) && self.has_another(it)
    }

    /// The node lives, and does nothing for it: its own limits cannot end that.
    fn is_ignored(&self, it: &Instance, agenda: &mut Agenda) -> bool {
        it.status.phase == InstancePhase::Allocated && !self.is_lost(it) && agenda.is_due(it.created_at + TAKE_UP_MAX)
    }

    fn has_another(&self, it: &Instance) -> bool {
        let kind = it.replica().and_then(|was| Kind::of_process(self.state, was.env, was.release, &was.process));
        let Some(kind) = kind else { return false };
        let mut others = self.state.nodes.iter().filter(|(id, _)| **id != it.node);
        others.any(|(id, node)| {
            let has_room = || has_room(node, self.state.index().held(*id), kind.takes_on(node));
            is_eligible(self.facts, *id, node) && kind.suits(*id, node) && has_room()
        })
    }

    /// After a failed deploy one try at a time, and not too often.
    fn patience(&self, missing: usize, new: &[Member<'_>], agenda: &mut Agenda) -> usize {
        let Some(failed_at) = self.deploy_failed().filter(|_| missing > 0) else { return missing };
        let trying = new.iter().any(|(_, it)| self.is_of_deploy(it) && !it.served);
        usize::from(!trying && agenda.is_due(failed_at + TRY_AGAIN_AFTER))
    }

    /// Never fewer ready than wanted, unless fewer are ready anyway; and who is not ready leaves only when another stands in its place,
    /// a ready one if it has served, for it may serve again (its node restarts, say). What was ready on a node that is lost is left
    /// until its node is back, or given up.
    fn drain(&self, count: usize, new: &[Member<'_>], old: &[Member<'_>], commands: &mut Vec<Command>) {
        let serves = |it: &Instance| it.is_ready() && !self.is_lost(it);
        let mut ready = new.iter().chain(old).filter(|(_, it)| serves(it)).count();
        let new_ready = new.iter().filter(|(_, it)| serves(it)).count();
        let mut left = old.iter().filter(|(_, it)| !self.is_lost(it)).count();
        let mut surplus: Vec<_> = new.to_vec();
        surplus.sort_by_key(drain_rank);
        surplus.truncate(new.len().saturating_sub(count));
        let mut old = old.to_vec();
        old.sort_by_key(drain_rank);
        for (id, it) in old.into_iter().filter(|(_, it)| !self.is_lost(it)) {
            let is_leaving = self.fleet.is_leaving(id);
            let instead = if it.served && !is_leaving { new_ready } else { new.len() };
            let never_was = is_leaving && !it.served && it.status.phase == InstancePhase::Failed;
            let may_leave = if it.is_ready() { ready > count } else { never_was || left + instead > count };
            if !may_leave {
                continue;
            }
            (ready, left) = (ready - usize::from(it.is_ready()), left - 1);
            commands.push(set_desired(id, Desired::Draining, self.why(id)));
        }
        for (id, it) in surplus.into_iter().filter(|(_, it)| !self.is_lost(it)) {
            if it.is_ready() && ready <= count {
                continue;
            }
            ready -= usize::from(it.is_ready());
            commands.push(set_desired(id, Desired::Draining, DesiredChange::ScaleDown));
        }
    }

    fn is_lost(&self, it: &Instance) -> bool {
        self.state.nodes.get(&it.node).is_none_or(|node| node.phase == NodePhase::Offline)
    }

    fn why(&self, old: InstanceId) -> DesiredChange {
        if self.fleet.is_leaving(old) { DesiredChange::NodeDraining } else { DesiredChange::RolloutReplace }
    }
}

/// Of the release that is wanted, and not a failure that the deploy has found: a new deploy asks for a new try. What fails after it is
/// its node's to try again, or not to, as for any other.
fn is_new(state: &State, instance: &Instance, group: &Group) -> bool {
    let deploy = state.deploys.get(&group.deploy).filter(|_| instance.deploy() != Some(group.deploy));
    let found_failed = deploy.is_some_and(|deploy| instance.changed_at <= deploy.created_at);
    instance.release() == Some(group.release) && !(found_failed && instance.status.phase == InstancePhase::Failed)
}

fn missing(count: usize, new: usize, old: usize) -> usize {
    let room = if old == 0 { count } else { (count + SURGE_MAX).saturating_sub(old) };
    count.min(room).saturating_sub(new)
}

/// Where there is no room for a surge, and the group has said so, one old instance goes first, and the next when its successor is
/// ready (P-SCH-31): one whose place a new one can take.
pub fn gives_way(state: &State, fleet: &Fleet<'_>, env: EnvId, process: &str, group: &Group) -> Option<InstanceId> {
    let leaves = fleet.live(env, process).any(|(_, instance)| instance.desired == Desired::Draining);
    if !group.waiting.as_ref().is_some_and(Waiting::is_for_room) || leaves {
        return None;
    }
    let count = state.process(group.release, process)?.scaling.min as usize;
    let members = fleet.live(env, process).filter(|(_, instance)| instance.desired == Desired::Running);
    let members: Vec<Member<'_>> = members.collect();
    let (new, old): (Vec<_>, Vec<_>) = members.into_iter().partition(|(_, it)| is_new(state, it, group));
    // A place that was given up before and is not taken yet: whoever got it, no second one goes for it.
    let before = old.iter().filter_map(|(_, it)| it.release()).filter_map(|release| state.process(release, process));
    let before = before.map(|process| process.scaling.min as usize).max().unwrap_or(0);
    let is_owed_one = new.len() + old.len() < before.min(count);
    if is_owed_one || new.len() + old.len() > count || !new.iter().all(|(_, it)| it.is_ready()) {
        return None;
    }
    let kind = Kind::of_process(state, env, group.release, process)?;
    let is_over_quota = matches!(group.waiting, Some(Waiting::OrgQuotaExceeded(_)));
    let leaves_room = |old: &Instance| {
        let has_place = is_over_quota || takes_place_of(state, old, kind).unwrap_or(false);
        has_place && leaves_quota(state, old, kind).unwrap_or(false)
    };
    let places = old.into_iter().filter(|(_, old)| leaves_room(old));
    places.min_by_key(drain_rank).map(|(id, _)| id)
}

/// Any that goes leaves its part of what the org may have; under a limit that was lowered that may not be enough.
fn leaves_quota(state: &State, old: &Instance, kind: Kind<'_>) -> Option<bool> {
    let (org, node) = (state.orgs.get(&old.org)?, state.nodes.get(&old.node)?);
    let held = state.index().usage(old.org).counted.less((&old.resources).into());
    Some(org.limits.check_held(held, (&kind.needs_on(node)).into()).is_ok())
}

fn takes_place_of(state: &State, old: &Instance, kind: Kind<'_>) -> Option<bool> {
    let node = state.nodes.get(&old.node).filter(|node| node.phase == NodePhase::Active)?;
    let held = state.index().held(old.node).less((&old.resources).into());
    Some(kind.suits(old.node, node) && has_room(node, held, kind.takes_on(node)))
}

/// Failed first, then what is not ready, then the oldest.
fn drain_rank((id, it): &Member<'_>) -> (u8, Timestamp, InstanceId) {
    let rank = match it.status.phase {
        InstancePhase::Failed => 0,
        InstancePhase::Ready => 2,
        _ => 1,
    };
    (rank, it.created_at, *id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_rollout_starts_all_and_a_later_one_a_surge() {
        for (count, new, old, expected) in
            [(3, 0, 0, 3), (3, 3, 0, 0), (3, 0, 3, 1), (3, 1, 3, 0), (3, 1, 2, 1), (0, 0, 2, 0)]
        {
            assert_eq!(missing(count, new, old), expected, "{count} wanted, {new} new, {old} old");
        }
    }
}
