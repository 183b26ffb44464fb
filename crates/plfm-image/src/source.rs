//! Where the bytes of an image come from: a registry, or a layout on this machine.

use bytes::Bytes;
use plfm_core::digest::Digest;
use tokio::sync::mpsc;

use crate::error::ImageError;
use crate::layout::Layout;
use crate::limits::DOCUMENT_BYTES_MAX;
use crate::manifest::Descriptor;
use crate::reference::{ImageRef, Place};
use crate::registry::{Registries, Repository};

pub enum Source {
    Repository(Repository),
    Layout(Layout),
}

impl Source {
    pub async fn open(image: &ImageRef, registries: &Registries) -> Result<Self, ImageError> {
        Ok(match &image.place {
            Place::Registry { host, repository } => Self::Repository(Repository::new(host, repository, registries)?),
            Place::Layout(path) => Self::Layout(Layout::directory(path)),
            Place::Archive(path) => Self::Layout(Layout::archive(path).await?),
        })
    }

    /// The manifest or index that a reference means.
    pub async fn find(&self, image: &ImageRef) -> Result<(Digest, Vec<u8>), ImageError> {
        match (self, image.digest) {
            (Self::Repository(repository), digest) => {
                repository.manifest(image.tag.as_deref().unwrap_or_default(), digest.as_ref()).await
            }
            (Self::Layout(_), Some(digest)) => Ok((digest, self.manifest(digest).await?)),
            (Self::Layout(layout), None) => {
                let digest = layout.find(image.tag.as_deref()).await?;
                Ok((digest, self.manifest(digest).await?))
            }
        }
    }

    pub async fn manifest(&self, digest: Digest) -> Result<Vec<u8>, ImageError> {
        match self {
            Self::Repository(repository) => repository.manifest("", Some(&digest)).await.map(|(_, bytes)| bytes),
            Self::Layout(layout) => layout.document("manifest", digest).await,
        }
    }

    /// A blob that is small and kept whole.
    pub async fn document(&self, what: &'static str, blob: &Descriptor) -> Result<Vec<u8>, ImageError> {
        if blob.size > DOCUMENT_BYTES_MAX {
            return Err(ImageError::TooLarge { what: "bytes in one of its documents", limit: DOCUMENT_BYTES_MAX });
        }
        let (to, mut from) = mpsc::channel::<Bytes>(1);
        let collect = async {
            let mut bytes = Vec::new();
            while let Some(chunk) = from.recv().await {
                bytes.extend_from_slice(&chunk);
                if bytes.len() as u64 > blob.size {
                    from.close();
                }
            }
            bytes
        };
        let send = async {
            let tell = |_| {};
            let mut sink = Sink::new(to, &tell);
            self.blob(blob, &mut sink).await
        };
        let (sent, bytes) = tokio::join!(send, collect);
        sent?;
        check(what, blob, bytes)
    }

    /// A blob's bytes, unjudged.
    pub async fn blob(&self, blob: &Descriptor, into: &mut Sink<'_>) -> Result<(), ImageError> {
        match self {
            Self::Repository(repository) => repository.blob(blob, into).await,
            Self::Layout(layout) => layout.blob(blob, into).await,
        }
    }
}

fn check(what: &'static str, blob: &Descriptor, bytes: Vec<u8>) -> Result<Vec<u8>, ImageError> {
    let Descriptor { digest, size, .. } = *blob;
    let found = bytes.len() as u64;
    if found < size {
        return Err(ImageError::Short { what, digest, size, found });
    }
    if found > size {
        return Err(ImageError::Long { what, digest, size });
    }
    let found = Digest::of(&bytes);
    if found == digest { Ok(bytes) } else { Err(ImageError::Digest { what, expected: digest, found }) }
}

/// Takes a blob's bytes in order, knows how many there were, and tells.
pub struct Sink<'a> {
    to: mpsc::Sender<Bytes>,
    sent: u64,
    tell: &'a (dyn Fn(u64) + Send + Sync),
}

impl<'a> Sink<'a> {
    pub fn new(to: mpsc::Sender<Bytes>, tell: &'a (dyn Fn(u64) + Send + Sync)) -> Self {
        Self { to, sent: 0, tell }
    }

    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// False when nobody takes more: then the verdict is known already.
    pub async fn send(&mut self, chunk: Bytes) -> bool {
        self.sent += chunk.len() as u64;
        (self.tell)(self.sent);
        chunk.is_empty() || self.to.send(chunk).await.is_ok()
    }
}
