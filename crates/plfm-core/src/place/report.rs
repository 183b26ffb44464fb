//! Why a group has, or would get, a place on each node, computed when someone asks (`plfm explain`); never stored.

use std::collections::BTreeMap;
use std::fmt;

use crate::event::Degradation;
use crate::facts::{Facts, INELIGIBLE_AFTER};
use crate::ids::*;
use crate::phase::NodePhase;
use crate::state::{Node, State};
use crate::units::Mebibytes;

use super::kind::Kind;
use super::{NODE_INSTANCES_MAX, Wanted, score};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub wanted: Wanted,
    /// What one instance needs on a node like the nearest; with the overhead of the machine.
    pub needs: Option<(Mebibytes, Mebibytes)>,
    pub nodes: Vec<(NodeId, Verdict)>,
}

/// What a node says to one more instance; the first thing that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It has room, and is worth so many thousandths of a point.
    Fits {
        score: i64,
    },
    Full,
    Disk {
        short: Mebibytes,
    },
    Memory {
        short: Mebibytes,
    },
    Degraded(Degradation),
    Labels,
    Platform,
    Silent,
    Phase(NodePhase),
    /// Its volumes are elsewhere.
    Volumes,
}

/// One more of the group, held against every node as it stands.
pub fn report(state: &State, facts: &Facts, wanted: Wanted) -> Report {
    let kind = Kind::of(state, &wanted);
    let verdict = |(id, node): (&NodeId, &Node)| Some((*id, verdict(state, facts, &wanted, kind?, *id, node)));
    let nodes: Vec<_> = state.nodes.iter().filter_map(verdict).collect();
    let nearest = nodes.iter().min_by_key(|(id, verdict)| (*verdict, *id)).and_then(|(id, _)| state.nodes.get(id));
    let needs = kind.zip(nearest).map(|(kind, node)| kind.takes_on(node));
    Report { needs: needs.map(|it| (it.memory, it.disk)), wanted, nodes }
}

fn verdict(state: &State, facts: &Facts, wanted: &Wanted, kind: Kind<'_>, id: NodeId, node: &Node) -> Verdict {
    if !kind.home().is_at(id) {
        return Verdict::Volumes;
    }
    if node.phase != NodePhase::Active {
        return Verdict::Phase(node.phase);
    }
    if facts.silent(id) >= INELIGIBLE_AFTER {
        return Verdict::Silent;
    }
    if let Some(why) = node.trouble() {
        return Verdict::Degraded(why);
    }
    if !kind.runs_on(node) {
        return Verdict::Platform;
    }
    if !kind.asked().are_on(node) {
        return Verdict::Labels;
    }
    let (held, takes) = (state.index().held(id), kind.takes_on(node));
    let short = |takes: Mebibytes, free: Mebibytes| takes - free;
    let memory = short(takes.memory, node.capacity.memory - held.memory);
    let disk = short(takes.disk, node.capacity.disk - held.disk);
    match (memory, disk) {
        (Mebibytes(1..), _) => Verdict::Memory { short: memory },
        (_, Mebibytes(1..)) => Verdict::Disk { short: disk },
        _ if held.instances >= NODE_INSTANCES_MAX => Verdict::Full,
        _ => {
            let same = state.live_on(id).filter(|(_, it)| it.is_of(wanted.env, &wanted.process)).count();
            let spread = score::spread(u32::try_from(same).unwrap_or(u32::MAX), kind.replicas());
            let fetched = if kind.images().any(|image| facts.has_image(id, image)) { score::IMAGE } else { 0 };
            Verdict::Fits { score: score::of_node(node, held, facts.now) + spread + fetched }
        }
    }
}

impl Report {
    /// How many nodes lack the same thing.
    pub fn counts(&self) -> BTreeMap<&'static str, u32> {
        let mut counts = BTreeMap::new();
        for (_, verdict) in &self.nodes {
            *counts.entry(verdict.code()).or_default() += 1;
        }
        counts
    }

    /// The node that lacks least, if none has room.
    pub fn nearest_miss(&self) -> Option<(NodeId, Verdict)> {
        let nearest = self.nodes.iter().min_by_key(|(id, verdict)| (*verdict, *id)).copied();
        nearest.filter(|(_, verdict)| !matches!(verdict, Verdict::Fits { .. }))
    }
}

impl Verdict {
    pub const fn code(self) -> &'static str {
        match self {
            Self::Fits { .. } => "fits",
            Self::Full => "instances",
            Self::Disk { .. } => "disk",
            Self::Memory { .. } => "memory",
            Self::Degraded(why) => why.code(),
            Self::Labels => "labels",
            Self::Platform => "platform",
            Self::Silent => "silent",
            Self::Phase(phase) => phase.code(),
            Self::Volumes => "volumes",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fits { score } => write!(f, "has room, {}.{:03} points", score / 1_000, (score % 1_000).abs()),
            Self::Full => write!(f, "runs {NODE_INSTANCES_MAX} instances, as many as a node may"),
            Self::Disk { short } => write!(f, "lacks {short} of disk"),
            Self::Memory { short } => write!(f, "lacks {short} of memory"),
            Self::Degraded(Degradation::DiskPressure) => write!(f, "has a disk that is nearly full"),
            Self::Degraded(Degradation::KvmLoss) => write!(f, "has lost KVM"),
            Self::Labels => write!(f, "lacks a label that is asked for"),
            Self::Platform => write!(f, "is of another architecture than the image"),
            Self::Silent => write!(f, "has not been heard lately"),
            Self::Phase(phase) => write!(f, "is {phase}"),
            Self::Volumes => write!(f, "does not have its volumes"),
        }
    }
}
