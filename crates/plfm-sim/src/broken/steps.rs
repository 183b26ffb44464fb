//! Steps of a node with one thing wrong.

use plfm_core::phase::Desired;
use plfm_core::units::Timestamp;
use plfm_node::mind::{Action, Local, Observed, Plan, step};

fn without(actions: Vec<Action>, left_out: fn(&Action) -> bool) -> Vec<Action> {
    actions.into_iter().filter(|action| !left_out(action)).collect()
}

pub fn twice(local: &Local, plan: &Plan, observed: &Observed, now: Timestamp) -> Vec<Action> {
    let actions = step(local, plan, observed, now);
    actions.iter().flat_map(|action| [action.clone(), action.clone()]).collect()
}

pub fn never_stops(local: &Local, plan: &Plan, observed: &Observed, now: Timestamp) -> Vec<Action> {
    without(step(local, plan, observed, now), |action| matches!(action, Action::Stop { .. }))
}

pub fn never_destroys(local: &Local, plan: &Plan, observed: &Observed, now: Timestamp) -> Vec<Action> {
    without(step(local, plan, observed, now), |action| matches!(action, Action::Destroy(_)))
}

pub fn never_forgets(local: &Local, plan: &Plan, observed: &Observed, now: Timestamp) -> Vec<Action> {
    without(step(local, plan, observed, now), |action| matches!(action, Action::Forget(_)))
}

pub fn never_adopts(local: &Local, plan: &Plan, observed: &Observed, now: Timestamp) -> Vec<Action> {
    without(step(local, plan, observed, now), |action| matches!(action, Action::Adopt(..)))
}

pub fn stops_the_sound(local: &Local, plan: &Plan, observed: &Observed, now: Timestamp) -> Vec<Action> {
    let actions = step(local, plan, observed, now).into_iter();
    let wrong = |action| match action {
        Action::Probe(instance) => Action::Stop { instance, grace: local.limits.drain_grace },
        other => other,
    };
    actions.map(wrong).collect()
}

pub fn never_drains(local: &Local, plan: &Plan, observed: &Observed, now: Timestamp) -> Vec<Action> {
    let mut plan = plan.clone();
    plan.assignments.values_mut().for_each(|it| it.desired = Desired::Running);
    step(local, &plan, observed, now)
}

pub fn obeys_any_log(local: &Local, plan: &Plan, observed: &Observed, now: Timestamp) -> Vec<Action> {
    let mut local = local.clone();
    local.adopt(plan);
    step(&local, plan, observed, now)
}

pub fn acts_without_plan(local: &Local, plan: &Plan, observed: &Observed, now: Timestamp) -> Vec<Action> {
    let planned = Plan { position: plan.position.or(local.followed), ..plan.clone() };
    step(local, &planned, observed, now)
}

pub fn ignores_strays(local: &Local, plan: &Plan, observed: &Observed, now: Timestamp) -> Vec<Action> {
    let mut observed = observed.clone();
    observed.retain(|id, _| local.slots.contains_key(id));
    step(local, plan, &observed, now)
}

pub fn boots_unprepared(local: &Local, plan: &Plan, observed: &Observed, now: Timestamp) -> Vec<Action> {
    let actions = step(local, plan, observed, now).into_iter();
    let wrong = |action| match action {
        Action::Prepare(id) => Action::Boot(id),
        other => other,
    };
    actions.map(wrong).collect()
}

pub fn meddles(local: &Local, plan: &Plan, observed: &Observed, now: Timestamp) -> Vec<Action> {
    let mut local = local.clone();
    let takes = |doing: &Action| matches!(doing, Action::Take { .. });
    local.slots.values_mut().for_each(|slot| slot.doing = slot.doing.take().filter(|doing| !takes(doing)));
    step(&local, plan, observed, now)
}
