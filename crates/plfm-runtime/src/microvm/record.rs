//! What is kept of a machine in its directory, so that the next run of ours knows it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use plfm_api::channel::Secret;
use plfm_core::ids::{BootId, InstanceId};
use serde::{Deserialize, Serialize};

use super::process::ProcessId;
use crate::MachineSpec;

const FILE: &str = "machine.json";
/// A record is below 2 KiB; more is not ours.
const RECORD_BYTES_MAX: u64 = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub spec: MachineSpec,
    /// The identity of its monitor; none where we are not root.
    pub uid: Option<u32>,
    /// The newest start.
    pub run: Option<Run>,
}

/// Written before the process starts, and again when its id is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub boot: BootId,
    pub process: Option<ProcessId>,
    /// As whose its monitor was started, if it has been handed over since: its process and cgroup are named so.
    #[serde(default)]
    pub former: Option<InstanceId>,
    /// Its memory began as the file [`MEMORY`](super::vmm::MEMORY) in the machine's directory.
    #[serde(default)]
    pub from_saved: bool,
    /// The guest has a network card.
    #[serde(default)]
    pub card: bool,
    /// Of the channel.
    #[serde(with = "hex")]
    pub secret: Secret,
}

impl Record {
    pub fn load(dir: &Path) -> io::Result<Self> {
        let file = File::open(dir.join(FILE))?;
        Ok(serde_json::from_reader(io::Read::take(file, RECORD_BYTES_MAX))?)
    }

    /// Whose directory it is in counts: one that was handed over may not have been written again.
    pub fn of(mut self, id: InstanceId) -> Self {
        let former = std::mem::replace(&mut self.spec.id, id);
        if let Some(run) = self.run.as_mut().filter(|_| former != id) {
            run.former.get_or_insert(former);
        }
        self
    }

    /// In one step: a reader finds the record as it was or as it is now.
    pub fn save(&self, dir: &Path) -> io::Result<()> {
        let fresh = dir.join("machine.json.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_data()?;
        fs::rename(fresh, dir.join(FILE))
    }
}

pub(super) mod hex {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Secret;

    pub fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&secret.to_hex())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The argument by which a monitor's process is known on the host.
pub fn process_name(id: InstanceId, boot: BootId) -> String {
    format!("plfm-{id}-{boot}")
}
