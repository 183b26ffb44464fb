//! From a tag to digests, once, when a release is made: afterwards only digests are asked for.

use plfm_core::digest::Digest;

use crate::error::ImageError;
use crate::manifest::{Config, Document};
use crate::platform::Platform;
use crate::reference::ImageRef;
use crate::registry::Registries;
use crate::source::Source;

/// What a reference means now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Of the index, or of the manifest where there is only one.
    pub digest: Digest,
    pub platforms: Vec<(Platform, Digest)>,
}

impl Resolved {
    /// The manifest for a platform.
    pub fn require(&self, wanted: &Platform) -> Result<Digest, ImageError> {
        let exact = self.platforms.iter().find(|(platform, _)| platform == wanted);
        let found = exact.or_else(|| self.platforms.iter().find(|(platform, _)| platform.serves(wanted)));
        found.map(|(_, digest)| *digest).ok_or_else(|| ImageError::Platform {
            wanted: wanted.clone(),
            available: self.platforms.iter().map(|(platform, _)| platform.clone()).collect(),
        })
    }
}

pub async fn resolve(image: &ImageRef, registries: &Registries) -> Result<Resolved, ImageError> {
    let source = Source::open(image, registries).await?;
    let (digest, bytes) = source.find(image).await?;
    let platforms = match Document::parse(&digest, &bytes)? {
        Document::Index(entries) => {
            let known = entries.into_iter().filter_map(|entry| Some((entry.platform?, entry.digest)));
            known.filter(|(platform, _)| platform.os != "unknown").collect()
        }
        Document::Manifest(manifest) => {
            let config = source.document("configuration", &manifest.config).await?;
            let config = Config::parse(&manifest.config.digest, &config, manifest.layers.len())?;
            vec![(config.platform, digest)]
        }
    };
    Ok(Resolved { digest, platforms })
}
