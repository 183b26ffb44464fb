//! A disk of an env that outlives its instances.

use serde::{Deserialize, Serialize};

use crate::ids::*;
use crate::phase::VolumePhase;
use crate::units::{Mebibytes, Seq, Timestamp};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub org: OrgId,
    pub env: EnvId,
    /// One of this name in an env, among those that are wanted.
    pub name: String,
    pub size: Mebibytes,
    pub backup_enabled: bool,
    /// Where the first instance that had it was placed. It stays there (P-SCH-21).
    pub home: Option<NodeId>,
    pub phase: VolumePhase,
    pub created_at: Timestamp,
    pub version: Seq,
}
