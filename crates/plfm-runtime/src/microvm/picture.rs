//! A machine at one moment, on disk: its memory, its devices, and for a snapshot its writable disk.
//!
//! ```text
//!   DIR/snapshots/SNAPSHOT/          picture.json  memory  devices  rw.ext4      any number of machines go on from it
//!   DIR/machines/INSTANCE/paused/    picture.json  memory  devices               the machine itself does
//! ```
//!
//! It is made under another name and renamed when it is whole, so what has its name can be gone on from.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use plfm_api::channel::Secret;
use plfm_core::units::Mebibytes;
use serde::{Deserialize, Serialize};

use super::accel::Accel;
use super::host::Host;
use super::record::hex;
use super::vmm::{DEVICES, MEMORY};
use crate::MachineSpec;
use crate::points::Point;

const FILE: &str = "picture.json";
const FORMAT: u32 = 1;
/// It names at most four images.
const BYTES_MAX: u64 = 64 << 10;
/// A guest's clock follows the host's counter: this much faster or slower is another host.
const TSC_TOLERANCE_PER_MILLE: u64 = 1;

/// What has to be the same for a machine to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    format: u32,
    /// The monitor's version: a state is read by the one that has written it.
    monitor: String,
    accel: Accel,
    tsc_khz: u64,
    memory: Mebibytes,
    vcpus: u32,
    images: Vec<PathBuf>,
    card: bool,
    /// Of the channel; the guest has it in its memory.
    #[serde(with = "hex")]
    pub secret: Secret,
}

impl Picture {
    pub fn of(host: &Host, spec: &MachineSpec, card: bool, secret: Secret) -> Self {
        Self {
            format: FORMAT,
            monitor: host.vmm.version().to_owned(),
            accel: host.accel,
            tsc_khz: host.tsc_khz,
            memory: spec.memory,
            vcpus: spec.vcpus(),
            images: spec.images.clone(),
            card,
            secret,
        }
    }

    pub fn load(dir: &Path) -> io::Result<Self> {
        let file = File::open(dir.join(FILE))?;
        Ok(serde_json::from_reader(io::Read::take(file, BYTES_MAX))?)
    }

    /// Makes a directory with the devices and the memory in it the picture `to`. A durable one survives the loss of power.
    pub fn complete(&self, fresh: &Path, to: &Path, durable: bool) -> io::Result<()> {
        // Monitors of other users map it; the directories above let nobody through but us.
        fs::set_permissions(fresh.join(MEMORY), Permissions::from_mode(0o666))?;
        fs::set_permissions(fresh.join(DEVICES), Permissions::from_mode(0o444))?;
        let mut file = File::create(fresh.join(FILE))?;
        file.write_all(&serde_json::to_vec(self)?)?;
        if durable {
            for entry in fs::read_dir(fresh)? {
                File::open(entry?.path())?.sync_all()?;
            }
            File::open(fresh)?.sync_all()?;
        }
        fs::rename(fresh, to)?;
        Point::PictureNamed.pass();
        // Its own name, and that of the directory that it is in.
        let mut named_in = to.ancestors().skip(1).take(if durable { 2 } else { 0 });
        let synced = named_in.try_for_each(|dir| File::open(dir)?.sync_all());
        if synced.is_err() {
            // The machine goes on: what it was now must not be taken for what it is later.
            fs::remove_dir_all(to)?;
        }
        synced
    }

    /// Why a machine like this cannot go on from it here.
    pub fn misfit(&self, host: &Host, spec: &MachineSpec, card: bool) -> Option<&'static str> {
        let here = Self::of(host, spec, card, self.secret.clone());
        let drift = self.tsc_khz.abs_diff(here.tsc_khz) * 1000;
        match () {
            () if self.format != FORMAT => Some("it is of another version of plfm"),
            () if self.monitor != here.monitor => Some("the monitor has another version"),
            () if self.accel != here.accel => Some("it was made with another accelerator"),
            () if drift > self.tsc_khz * TSC_TOLERANCE_PER_MILLE => Some("this host's clock runs at another rate"),
            () if (self.memory, self.vcpus) != (here.memory, here.vcpus) => {
                Some("it has another size of memory or number of processors")
            }
            () if self.images != here.images => Some("it has other images"),
            () if self.card != here.card => Some("one of them has a network card and the other has none"),
            () => None,
        }
    }
}

/// Makes the memory of a picture the one that a machine begins with. The file stays for as long as one of them has it.
pub fn link_memory(picture: &Path, machine: &Path) -> io::Result<PathBuf> {
    let (fresh, to) = (machine.join("memory.new"), machine.join(MEMORY));
    let _ = fs::remove_file(&fresh);
    fs::hard_link(picture.join(MEMORY), &fresh)?;
    fs::rename(fresh, &to)?;
    Ok(to)
}
