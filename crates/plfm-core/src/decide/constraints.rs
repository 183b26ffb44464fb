//! Which nodes orgs and environments want, by label (P-SCH-20). It is asked of new work; what runs stays where it is.

use crate::event::Event;
use crate::ids::*;
use crate::labels::Labels;
use crate::refusal::Refusal;
use crate::state::State;

pub fn set_of_org(state: &State, org: OrgId, constraints: Labels) -> Result<Vec<Event>, Refusal> {
    let known = state.orgs.get(&org).ok_or(Refusal::OrgUnknown(org))?;
    check(&constraints)?;
    let is_so = known.constraints == constraints;
    Ok(if is_so { Vec::new() } else { vec![Event::OrgConstraintsSet { org, constraints }] })
}

pub fn set_of_env(state: &State, env: EnvId, constraints: Labels) -> Result<Vec<Event>, Refusal> {
    let known = state.envs.get(&env).ok_or(Refusal::EnvNotFound(env))?;
    check(&constraints)?;
    let is_so = known.constraints == constraints;
    Ok(if is_so { Vec::new() } else { vec![Event::EnvConstraintsSet { env, org: known.org, constraints }] })
}

fn check(constraints: &Labels) -> Result<(), Refusal> {
    if constraints.are_sound() { Ok(()) } else { Err(Refusal::InvalidLabels) }
}
