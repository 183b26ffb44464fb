//! Manifests, indexes and configurations, of OCI and of Docker, version 2 each.
//!
//! Their bytes come from strangers, but whole and bounded; what is read here has the digest that was asked for.

use std::collections::BTreeMap;

use plfm_core::digest::Digest;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::error::ImageError;
use crate::limits::Limits;
use crate::platform::Platform;

pub const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// A manifest for one platform, or an index of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    Manifest(Manifest),
    Index(Vec<IndexEntry>),
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Manifest {
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct IndexEntry {
    pub digest: Digest,
    #[serde(default)]
    pub platform: Option<Platform>,
    #[serde(default)]
    pub annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Descriptor {
    #[serde(rename = "mediaType")]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Descriptor {
    pub fn compression(&self) -> Result<Compression, ImageError> {
        match self.media_type.as_str() {
            "application/vnd.oci.image.layer.v1.tar" => Ok(Compression::None),
            "application/vnd.oci.image.layer.v1.tar+gzip" => Ok(Compression::Gzip),
            "application/vnd.oci.image.layer.v1.tar+zstd" => Ok(Compression::Zstd),
            "application/vnd.docker.image.rootfs.diff.tar" => Ok(Compression::None),
            "application/vnd.docker.image.rootfs.diff.tar.gzip" => Ok(Compression::Gzip),
            "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok(Compression::Zstd),
            other => Err(ImageError::MediaType { digest: self.digest, media_type: other.chars().take(80).collect() }),
        }
    }
}

impl Document {
    pub fn parse(digest: &Digest, bytes: &[u8]) -> Result<Self, ImageError> {
        #[derive(Deserialize)]
        struct Either {
            #[serde(rename = "schemaVersion")]
            schema_version: u32,
            #[serde(rename = "mediaType", default)]
            media_type: Option<String>,
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
            manifests: Option<Vec<IndexEntry>>,
        }
        let what = || format!("manifest {digest}");
        let refuse = |why: &str| ImageError::Document { what: what(), why: why.to_owned() };
        let either: Either = json(what, bytes)?;
        if either.schema_version != 2 {
            return Err(refuse("only schema version 2 is known"));
        }
        if either.media_type.as_deref().is_some_and(|media_type| !MANIFEST_TYPES.contains(&media_type)) {
            return Err(refuse("its media type is none of an image"));
        }
        // A document that is both could be read differently by two readers.
        match (either.config, either.layers, either.manifests) {
            (Some(config), Some(layers), None) => Ok(Self::Manifest(Manifest { config, layers })),
            (None, None, Some(manifests)) => Ok(Self::Index(manifests)),
            _ => Err(refuse("it is neither a manifest nor an index")),
        }
    }
}

impl Manifest {
    /// Refuses what can be refused before a layer is fetched.
    pub fn check(&self, limits: &Limits) -> Result<(), ImageError> {
        if self.layers.is_empty() {
            return Err(ImageError::NoLayers);
        }
        if self.layers.len() > limits.layers {
            return Err(ImageError::TooLarge { what: "layers", limit: limits.layers as u64 });
        }
        let bytes = self.layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
        if bytes > limits.compressed_bytes {
            return Err(ImageError::TooLarge { what: "compressed bytes", limit: limits.compressed_bytes });
        }
        self.layers.iter().try_for_each(|layer| layer.compression().map(drop))
    }
}

/// The entry of an index for a platform. Entries without one, such as attestations, are for nobody.
pub fn choose(entries: &[IndexEntry], wanted: &Platform) -> Result<Digest, ImageError> {
    let serves = |entry: &&IndexEntry| entry.platform.as_ref().is_some_and(|platform| platform.serves(wanted));
    let exact = entries.iter().find(|entry| entry.platform.as_ref() == Some(wanted));
    let entry = exact.or_else(|| entries.iter().find(serves));
    entry
        .map(|entry| entry.digest)
        .ok_or_else(|| ImageError::Platform { wanted: wanted.clone(), available: platforms(entries) })
}

/// The platforms of an index, without those that nothing runs on.
pub fn platforms(entries: &[IndexEntry]) -> Vec<Platform> {
    entries.iter().filter_map(|entry| entry.platform.clone()).filter(|platform| platform.os != "unknown").collect()
}

/// A manifest's configuration: what to run, and the digests of the unpacked layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub platform: Platform,
    pub diff_ids: Vec<Digest>,
    pub image: ImageConfig,
}

/// How a process starts in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `NAME=value`
    pub env: Vec<String>,
    /// User name or id, and group if there is one: `user[:group]`; empty for root.
    pub user: String,
    pub workdir: String,
    /// `80/tcp`
    pub exposed_ports: Vec<String>,
    pub stop_signal: Option<String>,
}

impl Config {
    pub fn parse(digest: &Digest, bytes: &[u8], layers: usize) -> Result<Self, ImageError> {
        let what = || format!("configuration {digest}");
        let raw: RawConfig = json(what, bytes)?;
        if raw.rootfs.diff_ids.len() != layers {
            let why = format!("it has {} diff ids for {layers} layers", raw.rootfs.diff_ids.len());
            return Err(ImageError::Document { what: what(), why });
        }
        let RawConfig { os, architecture, variant, config, rootfs } = raw;
        let platform = Platform { os, architecture, variant: variant.filter(|variant| !variant.is_empty()) };
        Ok(Self { platform, diff_ids: rootfs.diff_ids, image: config.unwrap_or_default().into() })
    }
}

#[derive(Deserialize)]
struct RawConfig {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    config: Option<RawRun>,
    rootfs: RawRootfs,
}

#[derive(Deserialize)]
struct RawRootfs {
    diff_ids: Vec<Digest>,
}

/// Any field may be missing or null: Docker writes both.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawRun {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    exposed_ports: Option<BTreeMap<String, IgnoredAny>>,
    stop_signal: Option<String>,
}

impl From<RawRun> for ImageConfig {
    fn from(raw: RawRun) -> Self {
        Self {
            entrypoint: raw.entrypoint.unwrap_or_default(),
            cmd: raw.cmd.unwrap_or_default(),
            env: raw.env.unwrap_or_default(),
            user: raw.user.unwrap_or_default(),
            workdir: raw.working_dir.unwrap_or_default(),
            exposed_ports: raw.exposed_ports.unwrap_or_default().into_keys().collect(),
            stop_signal: raw.stop_signal.filter(|signal| !signal.is_empty()),
        }
    }
}

fn json<T: DeserializeOwned>(what: impl FnOnce() -> String, bytes: &[u8]) -> Result<T, ImageError> {
    serde_json::from_slice(bytes).map_err(|error| ImageError::Document { what: what(), why: error.to_string() })
}

#[cfg(test)]
mod tests;
