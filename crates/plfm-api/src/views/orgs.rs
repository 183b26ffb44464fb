//! Orgs: what one may have, and its part when there is not enough for all.

use std::collections::BTreeMap;

use plfm_core::fair::Class;
use plfm_core::ids::OrgId;
use plfm_core::labels::Labels;
use plfm_core::quota::Dimension;
use plfm_core::state::State;
use plfm_core::units::Timestamp;
use serde::{Deserialize, Serialize};

/// `PATCH /v1/orgs/{org}/limits`: what is not named stays, null is as by default.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsRequest {
    pub limits: BTreeMap<Dimension, Option<u64>>,
}

/// `PUT …/weight`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightRequest {
    pub weight: u32,
}

/// `PUT …/constraints`, in whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConstraintsRequest {
    pub constraints: Labels,
}

/// `PUT …/class`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassRequest {
    pub class: Class,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrgView {
    pub name: String,
    /// Against other orgs, when there is not enough for all.
    pub weight: u32,
    /// Labels of the nodes that get its work.
    pub constraints: Labels,
    pub limits: BTreeMap<Dimension, LimitView>,
    pub projects: Vec<ProjectView>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitView {
    pub limit: u64,
    /// What is decided counts, placed or not; of starts those of the last minute.
    pub used: u64,
    /// Whether someone said so.
    pub is_default: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectView {
    pub name: String,
    /// Against other projects of its org.
    pub weight: u32,
}

pub fn org(state: &State, id: OrgId, now: Timestamp) -> Option<OrgView> {
    let org = state.orgs.get(&id)?;
    let limit = |dimension: &Dimension| {
        let is_default = !org.limits.0.contains_key(dimension);
        let (limit, used) = (org.limits.of(*dimension), used(state, id, *dimension, now));
        (*dimension, LimitView { limit, used, is_default })
    };
    let projects = state.projects.values().filter(|project| project.org == id);
    Some(OrgView {
        name: org.name.clone(),
        weight: org.weight,
        constraints: org.constraints.clone(),
        limits: Dimension::ALL.iter().map(limit).collect(),
        projects: projects.map(|it| ProjectView { name: it.name.clone(), weight: it.weight }).collect(),
    })
}

fn used(state: &State, org: OrgId, dimension: Dimension, now: Timestamp) -> u64 {
    let usage = state.index().usage(org);
    match dimension {
        Dimension::Instances => usage.promised.instances.into(),
        Dimension::Memory => usage.promised.memory.0,
        Dimension::Cpu => usage.promised.cpu.0.into(),
        Dimension::Apps => usage.apps,
        Dimension::Projects => usage.projects,
        Dimension::Envs => usage.envs,
        Dimension::Routes => usage.routes,
        Dimension::Snapshots => usage.snapshots,
        Dimension::Volumes => usage.volumes,
        Dimension::VolumeSize => usage.volume_size.0,
        Dimension::StartsPerMinute => state.starts(org, now).count() as u64,
    }
}
