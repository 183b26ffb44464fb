//! The volumes of a machine: found, or made where the server has said that they have never been.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;

use plfm_api::documents::Workload;
use plfm_core::ids::{InstanceId, VolumeId};
use plfm_core::reason::{Failure, Reason, chain};
use plfm_core::units::Mebibytes;
use plfm_image::Image;
use plfm_runtime::volumes::{VolumeError, Volumes};
use plfm_runtime::{MachineSpec, VolumeDisk};

use super::{Hands, spec};

pub struct Disks {
    pub volumes: Volumes,
    /// Those that may be made, and how large.
    to_make: Mutex<BTreeMap<VolumeId, Mebibytes>>,
}

impl Disks {
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        Ok(Self { volumes: Volumes::open(dir)?, to_make: Mutex::default() })
    }

    pub fn may_make(&self, volumes: BTreeMap<VolumeId, Mebibytes>) {
        *self.to_make.lock().expect("no panic while it is held") = volumes;
    }

    async fn find(&self, volume: VolumeId) -> Result<PathBuf, VolumeError> {
        let size = self.to_make.lock().expect("no panic while it is held").get(&volume).copied();
        if let Some(size) = size {
            self.volumes.make(volume, size).await?;
        }
        self.volumes.find(volume)
    }
}

impl Hands {
    /// With its volumes, which are there then.
    pub(super) async fn spec(
        &self,
        id: InstanceId,
        workload: &Workload,
        image: &Image,
    ) -> Result<MachineSpec, Failure> {
        let mut volumes = Vec::new();
        for mount in &workload.mounts {
            let path = self.disks.find(mount.volume).await.map_err(|error| unattached(&error))?;
            volumes.push(VolumeDisk { path, read_only: mount.read_only });
        }
        Ok(MachineSpec { volumes, ..spec(id, workload, image) })
    }

    /// Nobody wants what is in them.
    pub fn remove_volumes(&self, volumes: &[VolumeId]) {
        for volume in volumes {
            match self.disks.volumes.remove(*volume) {
                Ok(()) => tracing::info!(%volume, "removed"),
                Err(error) => tracing::warn!(%volume, error = chain(&error), "it is removed later"),
            }
        }
    }
}

fn unattached(error: &VolumeError) -> Failure {
    let reason = if error.is_for_room() { Reason::DiskFull } else { Reason::VolumeAttachFailed };
    Failure::new(reason, chain(error))
}
