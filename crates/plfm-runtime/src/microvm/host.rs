//! What all machines of a node share: the monitor, what runs the guests' instructions, the kernel and the initramfs.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::accel::{self, Accel};
use super::assets::{self, Assets};
use super::firecracker::Firecracker;
use super::probe::{self, Verdict};
use super::qemu::Qemu;
use super::vmm::Vmm;
use super::{Config, tools};
use crate::RuntimeError;
use crate::kernel::Kernel;

pub struct Host {
    pub vmm: Arc<dyn Vmm>,
    pub accel: Accel,
    pub assets: Assets,
    pub tsc_khz: u64,
    pub kvm: Verdict,
}

impl Host {
    pub async fn prepare(config: &Config) -> Result<Self, RuntimeError> {
        let dir = config.dir.join(assets::DIR);
        fs::create_dir_all(&dir).map_err(unprepared("a directory for the kernel"))?;
        tools::require(tools::MKE2FS).map_err(unprepared("disks"))?;
        let assets = make_assets(&dir, config).await?;
        let tsc_khz = assets::remember(&dir.join("tsc.json"), &assets::host_boot(), accel::measure_tsc_khz()).await;
        let shared = |vmm| Self { vmm, accel: Accel::Kvm, assets: assets.clone(), tsc_khz, kvm: Verdict::not_asked() };
        if let Some(program) = &config.firecracker {
            let firecracker = Firecracker::open(program.clone()).await.map_err(unprepared("Firecracker"))?;
            let mut host = shared(Arc::new(firecracker));
            host.choose(&dir.join(probe::FIRECRACKER_MEMO), config).await;
            if host.kvm.usable {
                return Ok(host);
            }
            tracing::warn!(why = host.kvm.detail, "Firecracker is not used: machines run under QEMU");
        }
        let program = tools::require(tools::QEMU).map_err(unprepared("QEMU"))?;
        let version = tools::qemu_version(&program).await.map_err(unprepared("QEMU"))?;
        let mut host = shared(Arc::new(Qemu { program, version }));
        host.choose(&dir.join(probe::MEMO), config).await;
        Ok(host)
    }

    /// KVM only if a guest has booted on it, whatever `/dev/kvm` promises.
    async fn choose(&mut self, memo: &Path, config: &Config) {
        if config.accel != Some(Accel::Tcg) {
            let key = format!("{} {} {}", self.vmm.version(), self.assets.kernel_digest, assets::host_boot());
            self.kvm = match probe::opens() {
                Ok(()) => assets::remember(memo, &key, probe::run(self, &config.dir)).await,
                Err(verdict) => verdict,
            };
        }
        self.accel = if self.kvm.usable { Accel::Kvm } else { Accel::Tcg };
    }
}

/// Reading, hashing and unpacking a kernel is tens of milliseconds of work.
async fn make_assets(dir: &Path, config: &Config) -> Result<Assets, RuntimeError> {
    let (dir, roots, guest) = (dir.to_owned(), config.kernel_roots.clone(), config.guest.clone());
    let made = tokio::task::spawn_blocking(move || Assets::make(&dir, &Kernel::find(&roots)?, &guest));
    made.await.map_err(unprepared("the kernel"))?.map_err(unprepared("the kernel"))
}

pub fn unprepared<E: Error + Send + Sync + 'static>(what: &'static str) -> impl FnOnce(E) -> RuntimeError {
    move |source| RuntimeError::Unprepared { what, source: Box::new(source) }
}
