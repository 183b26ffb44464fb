//! `plfm rollback`: a release that ran here before is deployed once more, with the variables that it had.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::command::Deploy;
use crate::event::Event;
use crate::facts::Facts;
use crate::ids::*;
use crate::phase::DeployStatus;
use crate::refusal::Refusal;
use crate::state::State;

use super::deploy::deploy;

/// To the newest that has succeeded and is not what is wanted now, unless one is named.
pub fn rollback(state: &State, env: EnvId, named: Option<ReleaseId>, facts: &Facts) -> Result<Vec<Event>, Refusal> {
    let known = state.envs.get(&env).ok_or(Refusal::EnvNotFound(env))?;
    let now: BTreeSet<_> = known.groups.values().map(|group| group.release).collect();
    let release = match named {
        Some(release) if now.len() == 1 && now.contains(&release) => return Err(Refusal::ReleaseCurrent(release)),
        Some(release) => release,
        None => before(state, env, &now).ok_or(Refusal::NothingBefore(env))?,
    };
    let of_app = state.releases.get(&release).filter(|it| it.app == known.app);
    let it = of_app.ok_or(Refusal::ReleaseNotFound(release))?;
    let org = state.orgs.get(&known.org).ok_or(Refusal::EnvNotFound(env))?.name.clone();
    let app = state.apps.get(&known.app).ok_or(Refusal::EnvNotFound(env))?.name.clone();
    let (env, image, manifest) = (known.name.clone(), it.image.clone(), it.manifest.clone());
    deploy(
        state,
        Deploy { org, app, env, image, manifest, vars: it.vars, expose: Vec::new(), create_volumes: false },
        facts,
    )
}

fn before(state: &State, env: EnvId, now: &BTreeSet<ReleaseId>) -> Option<ReleaseId> {
    let deploys = state.deploys.iter().filter(|(_, it)| it.env == env && it.status == DeployStatus::Succeeded);
    let others = deploys.filter(|(_, it)| !now.contains(&it.release));
    others.min_by_key(|(id, it)| Reverse((it.created_at, **id))).map(|(_, it)| it.release)
}
