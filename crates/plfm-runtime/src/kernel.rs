//! The guest kernel: found where a distribution's package put it, made ready once.
//!
//! [`vmlinux`] takes the ELF image out of a bzImage (a guest that decompresses itself pays a third of a second under emulation);
//! [`modules`] puts the drivers that the kernel does not have built in into the order in which they load. Building a kernel is left to
//! `cargo xtask kernel`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub mod modules;
pub mod vmlinux;

/// What the guest needs and a distribution's kernel has as modules: its disks, port, network card and file systems.
pub const DRIVERS: &[&str] =
    &["virtio_mmio", "virtio_blk", "virtio_console", "virtio_net", "virtio_rng", "erofs", "overlay", "ext4"];

/// What it needs besides under Firecracker, which says so on the kernel's command line.
pub const VSOCK_DRIVERS: &[&str] = &["vmw_vsock_virtio_transport", "virtio_balloon"];
pub const VSOCK: &str = "plfm.vsock";

/// A kernel with its modules, as a package lays them out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    pub version: String,
    pub image: PathBuf,
    pub modules: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("no `boot/vmlinuz-*-cloud-amd64` with its modules under {0:?}")]
    NotFound(Vec<PathBuf>),
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("kernel {version}: {source}")]
    Image { version: String, source: vmlinux::ImageError },
    #[error("kernel {version}: {source}")]
    Modules { version: String, source: modules::ModuleError },
}

impl Kernel {
    /// The newest kernel under the first root that has one.
    pub fn find(roots: &[PathBuf]) -> Result<Self, KernelError> {
        roots.iter().find_map(|root| newest_under(root)).ok_or_else(|| KernelError::NotFound(roots.to_vec()))
    }

    /// The image as the package holds it.
    pub fn packed(&self) -> Result<Vec<u8>, KernelError> {
        fs::read(&self.image).map_err(|source| KernelError::Read { path: self.image.clone(), source })
    }

    /// The image as a monitor loads it best.
    pub fn vmlinux(&self, packed: Vec<u8>) -> Result<Vec<u8>, KernelError> {
        vmlinux::extract(packed).map_err(|source| KernelError::Image { version: self.version.clone(), source })
    }

    /// The modules of [`DRIVERS`] and [`VSOCK_DRIVERS`] and what they need, in load order. A kernel can do without the latter.
    pub fn drivers(&self) -> Result<Vec<modules::Module>, KernelError> {
        let fail = |source| KernelError::Modules { version: self.version.clone(), source };
        let mut modules = modules::in_load_order(&self.modules, DRIVERS).map_err(fail)?;
        let all = [DRIVERS, VSOCK_DRIVERS].concat();
        let with_vsock = modules::in_load_order(&self.modules, &all).unwrap_or_default();
        let more = with_vsock.into_iter().skip(modules.len());
        modules.extend(more.map(|module| modules::Module { only_with: Some(VSOCK), ..module }));
        Ok(modules)
    }
}

fn newest_under(root: &Path) -> Option<Kernel> {
    let boot = fs::read_dir(root.join("boot")).ok()?;
    let names = boot.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| kernel_named(root, &name)).max_by_key(|kernel| numbers(&kernel.version))
}

fn kernel_named(root: &Path, name: &str) -> Option<Kernel> {
    let version = name.strip_prefix("vmlinuz-").filter(|version| version.ends_with("-cloud-amd64"))?;
    let places = ["lib/modules", "usr/lib/modules"].map(|place| root.join(place).join(version));
    let modules = places.into_iter().find(|place| place.join("modules.builtin").is_file())?;
    Some(Kernel { version: version.to_owned(), image: root.join("boot").join(name), modules })
}

/// `6.1.0-56-cloud-amd64` sorts after `6.1.0-9-cloud-amd64`.
fn numbers(version: &str) -> Vec<u64> {
    version.split(|char: char| !char.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests;
