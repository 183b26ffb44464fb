//! What an instance is, wherever it goes, and where it may go at all.

use std::collections::BTreeSet;

use crate::decide::resources_on;
use crate::digest::Digest;
use crate::event::{ReleaseImage, Resources};
use crate::ids::*;
use crate::labels::Labels;
use crate::manifest::{Process, Resources as Size};
use crate::state::{Committed, Node, State, Template};
use crate::units::Mebibytes;

use super::Wanted;

/// What an instance is, wherever it goes.
#[derive(Debug, Clone, Copy)]
pub struct Kind<'a> {
    image: &'a ReleaseImage,
    pub size: &'a Size,
    replicas: u32,
    asked: Asked<'a>,
    home: Home,
    /// Of its volumes that are nowhere yet: they come to be where it is.
    volumes: Mebibytes,
}

/// The labels that nodes must have: of the org, and of the env if it is in one.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a>([Option<&'a Labels>; 2]);

/// Where its volumes let it be (P-SCH-21).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// It has none, or none that is anywhere yet.
    Anywhere,
    On(NodeId),
    /// They are on different nodes.
    Apart,
}

/// One instance that wants a place.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    pub org: OrgId,
    pub kind: Kind<'a>,
    /// Instances of one group keep apart.
    pub group: Option<(EnvId, &'a str)>,
}

impl<'a> Wish<'a> {
    pub fn of(state: &'a State, want: &'a Wanted) -> Option<Self> {
        let org = state.envs.get(&want.env)?.org;
        Some(Self { org, kind: Kind::of(state, want)?, group: Some((want.env, &want.process)) })
    }

    pub fn of_template(state: &'a State, org: OrgId, template: &'a Template) -> Self {
        let asked = Asked::of(state, org, None);
        let kind = Kind { asked, ..Kind::anywhere(&template.image, &template.size) };
        Self { org, kind, group: None }
    }
}

impl<'a> Kind<'a> {
    pub fn of(state: &'a State, want: &Wanted) -> Option<Self> {
        Self::of_process(state, want.env, want.release, &want.process)
    }

    pub fn of_process(state: &'a State, env: EnvId, release: ReleaseId, process: &str) -> Option<Self> {
        let release = state.releases.get(&release)?;
        let process = release.manifest.processes.get(process)?;
        let asked = Asked::of(state, release.org, Some(env));
        let (home, volumes) = (Home::of(state, env, process), unsettled(state, env, process));
        let (size, replicas) = (&process.resources, process.scaling.min);
        Some(Self { image: &release.image, size, replicas, asked, home, volumes })
    }

    pub fn anywhere(image: &'a ReleaseImage, size: &'a Size) -> Self {
        let (asked, home, volumes) = (Asked([None; 2]), Home::Anywhere, Mebibytes(0));
        Self { image, size, replicas: 1, asked, home, volumes }
    }

    /// Whether it could be there at all, room or not.
    pub fn suits(self, id: NodeId, node: &Node) -> bool {
        self.home.is_at(id) && self.runs_on(node) && self.asked.are_on(node)
    }

    pub const fn home(self) -> Home {
        self.home
    }

    pub const fn image(self) -> &'a ReleaseImage {
        self.image
    }

    pub const fn asked(self) -> Asked<'a> {
        self.asked
    }

    pub fn runs_on(self, node: &Node) -> bool {
        self.image.platforms.contains_key(&node.capacity.arch)
    }

    /// One for each platform.
    pub fn images(self) -> impl Iterator<Item = &'a Digest> {
        self.image.platforms.values()
    }

    pub const fn replicas(self) -> u32 {
        self.replicas
    }

    pub fn needs_on(self, node: &Node) -> Resources {
        resources_on(self.size, node)
    }

    /// All that is gone from a node that it is placed on.
    pub fn takes_on(self, node: &Node) -> Committed {
        let needs = Committed::from(&self.needs_on(node));
        Committed { disk: needs.disk + self.volumes, ..needs }
    }
}

impl<'a> Asked<'a> {
    pub fn of(state: &'a State, org: OrgId, env: Option<EnvId>) -> Self {
        let (org, env) = (state.orgs.get(&org), env.and_then(|env| state.envs.get(&env)));
        Self([org.map(|org| &org.constraints), env.map(|env| &env.constraints)])
    }

    pub fn are_on(self, node: &Node) -> bool {
        self.0.into_iter().flatten().all(|asked| node.capacity.labels.have(asked))
    }

    /// Both where they contradict each other.
    pub fn all(self) -> Vec<String> {
        let asked: BTreeSet<_> = self.0.into_iter().flatten().flat_map(|asked| &asked.0).collect();
        asked.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
    }
}

fn unsettled(state: &State, env: EnvId, process: &Process) -> Mebibytes {
    let volumes = process.mounts.iter().filter_map(|mount| state.volume_named(env, &mount.volume));
    volumes.filter(|(_, volume)| volume.home.is_none()).map(|(_, volume)| volume.size).sum()
}

impl Home {
    fn of(state: &State, env: EnvId, process: &Process) -> Self {
        let volumes = process.mounts.iter().filter_map(|mount| state.volume_named(env, &mount.volume));
        let homes: BTreeSet<_> = volumes.filter_map(|(_, volume)| volume.home).collect();
        match Vec::from_iter(homes).as_slice() {
            [] => Self::Anywhere,
            [home] => Self::On(*home),
            _ => Self::Apart,
        }
    }

    pub fn is_at(self, node: NodeId) -> bool {
        match self {
            Self::Anywhere => true,
            Self::On(home) => home == node,
            Self::Apart => false,
        }
    }
}
