//! Why something that is wanted has no place yet. Part of the events, and so of the contract.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::quota::{Dimension, Excess};
use crate::units::Mebibytes;

/// Why a group gets no instance just now (P-RSN-2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Waiting {
    NoNodesActive,
    NoCapacityMemory {
        wanted: Mebibytes,
        largest_free: Mebibytes,
    },
    NoCapacityDisk {
        wanted: Mebibytes,
        largest_free: Mebibytes,
    },
    NoCapacityInstances {
        most: u32,
    },
    /// There is room, but it is kept for one that has waited longer.
    Reserved,
    /// Not for want of room: the org has as much as it may have.
    OrgQuotaExceeded(Excess),
    /// No node that takes work has all the labels that its org and env ask for, each as `zone=a`.
    NoNodeLabelled {
        asked: Vec<String>,
    },
    ImagePlatformUnavailable {
        offered: Vec<String>,
        nodes: Vec<String>,
    },
    /// Its volumes are on this node, which takes no work.
    VolumeHomeNodeOffline {
        node: String,
    },
    /// They are on this node, which has no room for it.
    VolumeLocalityNoNode {
        node: String,
    },
    /// They are on different nodes.
    VolumeConstraintsInvalid,
}

impl Waiting {
    /// As P-RSN-2 names them.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoNodesActive => "no_nodes_active",
            Self::NoCapacityMemory { .. } => "no_capacity_memory",
            Self::NoCapacityDisk { .. } => "no_capacity_disk",
            Self::NoCapacityInstances { .. } => "no_capacity_instances",
            Self::Reserved => "reserved",
            Self::OrgQuotaExceeded(_) => "org_quota_exceeded",
            Self::NoNodeLabelled { .. } => "no_node_labelled",
            Self::ImagePlatformUnavailable { .. } => "image_platform_unavailable",
            Self::VolumeHomeNodeOffline { .. } => "volume_home_node_offline",
            Self::VolumeLocalityNoNode { .. } => "volume_locality_no_node",
            Self::VolumeConstraintsInvalid => "volume_constraints_invalid",
        }
    }

    /// Whether there is too little room for it, and nothing else is in its way.
    pub fn is_for_free_room(&self) -> bool {
        self.is_for_room() && !matches!(self, Self::OrgQuotaExceeded(_))
    }

    /// Whether it would have a place if something else left.
    pub fn is_for_room(&self) -> bool {
        match self {
            Self::NoNodesActive
            | Self::NoNodeLabelled { .. }
            | Self::ImagePlatformUnavailable { .. }
            | Self::VolumeHomeNodeOffline { .. }
            | Self::VolumeConstraintsInvalid => false,
            Self::OrgQuotaExceeded(excess) => excess.dimension != Dimension::StartsPerMinute,
            _ => true,
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNodesActive => write!(f, "no node takes new work"),
            Self::NoCapacityMemory { wanted, largest_free } => {
                write!(f, "no node has {wanted} of memory free (the most is {largest_free})")
            }
            Self::NoCapacityDisk { wanted, largest_free } => {
                write!(f, "no node has {wanted} of disk free (the most is {largest_free})")
            }
            Self::Reserved => write!(f, "the room there is is kept for one that has waited longer"),
            Self::OrgQuotaExceeded(excess) => write!(f, "{excess}"),
            Self::NoCapacityInstances { most } => write!(f, "every node with room runs {most} instances already"),
            Self::NoNodeLabelled { asked } => {
                write!(f, "no node that takes work and could run it is labelled {}", asked.join(", "))
            }
            Self::ImagePlatformUnavailable { offered, nodes } if offered.is_empty() => {
                write!(f, "the image is made for no Linux machine, the nodes are {}", nodes.join(", "))
            }
            Self::ImagePlatformUnavailable { offered, nodes } => {
                write!(f, "the image is made for {}, the nodes are {}", offered.join(", "), nodes.join(", "))
            }
            Self::VolumeHomeNodeOffline { node } => write!(f, "its volumes are on {node}, which takes no new work"),
            Self::VolumeLocalityNoNode { node } => write!(f, "its volumes are on {node}, which has no room for it"),
            Self::VolumeConstraintsInvalid => write!(f, "its volumes are on different nodes"),
        }
    }
}
