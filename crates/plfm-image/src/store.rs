//! Keeps images by content: each layer is made once, whoever asks, and found again after a restart.
//!
//! ```text
//! layers/sha256/<diff id>.erofs   one layer          beside each: .json, what is known of it; its time is the last use
//! merged/sha256/<key>.erofs       several layers
//! images/sha256/<manifest>.json   the devices of an image that was ready once
//! documents/sha256/<digest>       manifests, indexes, configurations
//! pins/<instance>                 what a machine runs
//! tmp/                            what is not finished; emptied when the store opens
//! ```
//!
//! A file gets its name only when it is complete and on disk, so whatever has a name is right. Nothing unpinned is
//! promised to stay: [`ImageStore::acquire`] comes before [`ImageStore::ensure`].

mod build;
mod collect;
mod files;
mod gate;
mod pins;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plfm_core::digest::Digest;
use plfm_core::ids::InstanceId;
use tokio::sync::{OnceCell, Semaphore};

pub use collect::Collected;

use crate::error::ImageError;
use crate::limits::Limits;
use crate::manifest::{Config, Descriptor, Document, ImageConfig, Manifest, choose};
use crate::platform::Platform;
use crate::reference::ImageRef;
use crate::registry::Registries;
use crate::source::Source;
use files::{Files, Kind, Ready};
use gate::{Gate, InUse};

/// An image on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Of the platform's manifest.
    pub digest: Digest,
    pub config: ImageConfig,
    /// File system images, lowest first; at most four.
    pub devices: Vec<PathBuf>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many layers have to be fetched, of so many.
    Missing {
        layers: usize,
        of: usize,
    },
    Fetching {
        layer: Digest,
        bytes: u64,
        of: u64,
    },
    Built {
        layer: Digest,
    },
    /// Layers become fewer images.
    Merging {
        layers: usize,
    },
}

pub struct ImageStore {
    files: Files,
    limits: Limits,
    gate: Gate,
    in_use: InUse,
    parallel: Semaphore,
}

/// One request for one image: what its steps share.
struct Request<'a> {
    image: &'a ImageRef,
    registries: &'a Registries,
    source: OnceCell<Arc<Source>>,
    progress: &'a (dyn Fn(Progress) + Send + Sync),
}

impl Request<'_> {
    /// Opened only when something is missing: a cached image needs no network.
    async fn source(&self) -> Result<&Arc<Source>, ImageError> {
        self.source.get_or_try_init(|| async { Source::open(self.image, self.registries).await.map(Arc::new) }).await
    }
}

impl ImageStore {
    /// Opens or makes a store; the directory belongs to one process at a time.
    pub fn open(root: PathBuf, limits: Limits) -> Result<Self, ImageError> {
        let parallel = Semaphore::new(limits.parallel.max(1));
        Ok(Self { files: Files::open(root)?, limits, gate: Gate::default(), in_use: InUse::default(), parallel })
    }

    pub fn root(&self) -> &Path {
        self.files.root()
    }

    /// The image a pinned reference means for a platform, fetched and built if it is not here yet.
    /// Dropping the future abandons what it began; others who wait for the same layers go on by themselves.
    pub async fn ensure(
        &self,
        image: &ImageRef,
        platform: &Platform,
        registries: &Registries,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Image, ImageError> {
        let digest = image.digest()?;
        let request = Request { image, registries, source: OnceCell::new(), progress };
        let within = self.ensure_unbounded(&request, digest, platform);
        let seconds = self.limits.pull_time.as_secs();
        let late = |_| Err(ImageError::Timeout { what: format!("image {digest}"), seconds });
        tokio::time::timeout(self.limits.pull_time, within).await.unwrap_or_else(late)
    }

    /// A machine runs this image, or will: nothing of it is evicted. Manifests and indexes may be pinned before they
    /// are here.
    pub fn acquire(&self, digest: Digest, holder: InstanceId) -> Result<(), ImageError> {
        pins::add(&self.files, digest, holder)
    }

    pub fn release(&self, holder: InstanceId) -> Result<(), ImageError> {
        pins::remove_all(&self.files, holder)
    }

    /// The images that need not be fetched, by the manifest of their platform.
    pub fn ready(&self) -> Result<Vec<Digest>, ImageError> {
        self.files.digests(files::IMAGES)
    }

    /// Who holds what.
    pub fn holders(&self) -> Result<Vec<(InstanceId, Digest)>, ImageError> {
        pins::all(&self.files)
    }

    /// Removes what is unpinned and was not used for longest, until no more than this many bytes of images are left.
    /// Blocks on the disk.
    pub fn collect(&self, keep_bytes: u64) -> Result<Collected, ImageError> {
        collect::collect(&self.files, &self.in_use, keep_bytes)
    }

    async fn ensure_unbounded(
        &self,
        request: &Request<'_>,
        digest: Digest,
        platform: &Platform,
    ) -> Result<Image, ImageError> {
        let (digest, manifest) = self.manifest(request, digest, platform).await?;
        manifest.check(&self.limits)?;
        let config = self.document("configuration", request, &manifest.config).await?;
        let config = Config::parse(&manifest.config.digest, &config, manifest.layers.len())?;
        if !config.platform.serves(platform) {
            return Err(ImageError::Platform { wanted: platform.clone(), available: vec![config.platform] });
        }
        let layers = distinct(&manifest, &config);
        let mut hold = self.in_use.hold();
        hold.add(layers.iter().map(|(_, diff_id)| (Kind::Layer, *diff_id)));
        hold.add(self.files.ready_record(&digest)?.into_iter().flat_map(|ready| ready.devices));
        let devices = match self.files.ready(&digest)? {
            Some(devices) => devices,
            None => {
                let devices = self.build(request, &layers, &mut hold).await?;
                self.files.set_ready(&digest, &Ready::new(manifest.config.digest, devices.clone()))?;
                devices
            }
        };
        self.files.touch(&devices);
        let devices = devices.iter().map(|(kind, key)| self.files.image(*kind, key)).collect();
        Ok(Image { digest, config: config.image, devices })
    }

    async fn manifest(
        &self,
        request: &Request<'_>,
        digest: Digest,
        platform: &Platform,
    ) -> Result<(Digest, Manifest), ImageError> {
        let digest = match Document::parse(&digest, &self.manifest_bytes(request, digest).await?)? {
            Document::Manifest(manifest) => return Ok((digest, manifest)),
            Document::Index(entries) => choose(&entries, platform)?,
        };
        match Document::parse(&digest, &self.manifest_bytes(request, digest).await?)? {
            Document::Manifest(manifest) => Ok((digest, manifest)),
            Document::Index(_) => {
                let why = "an index within an index is not supported".to_owned();
                Err(ImageError::Document { what: format!("manifest {digest}"), why })
            }
        }
    }

    async fn manifest_bytes(&self, request: &Request<'_>, digest: Digest) -> Result<Vec<u8>, ImageError> {
        if let Some(bytes) = self.files.document(&digest)? {
            return Ok(bytes);
        }
        let bytes = request.source().await?.manifest(digest).await?;
        self.files.set_document(&digest, &bytes)?;
        Ok(bytes)
    }

    async fn document(
        &self,
        what: &'static str,
        request: &Request<'_>,
        blob: &Descriptor,
    ) -> Result<Vec<u8>, ImageError> {
        if let Some(bytes) = self.files.document(&blob.digest)? {
            return Ok(bytes);
        }
        let bytes = request.source().await?.document(what, blob).await?;
        self.files.set_document(&blob.digest, &bytes)?;
        Ok(bytes)
    }
}

/// The layers, lowest first; one right above itself changes nothing.
fn distinct(manifest: &Manifest, config: &Config) -> Vec<(Descriptor, Digest)> {
    let mut layers: Vec<_> = manifest.layers.iter().cloned().zip(config.diff_ids.iter().copied()).collect();
    layers.dedup_by_key(|(_, diff_id)| *diff_id);
    layers
}

/// What a directory of digests holds.
type Keys = BTreeSet<(Kind, Digest)>;
