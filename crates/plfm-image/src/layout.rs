//! OCI image layouts of this machine: a directory, or one tar of it.
//!
//! They are for operators and tests: whoever names a layout names files of this host, so a reference of this kind must
//! not come from a tenant.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use plfm_core::digest::Digest;
use tokio::task::spawn_blocking;

use crate::error::ImageError;
use crate::layer::tar::{Kind, Members};
use crate::limits::DOCUMENT_BYTES_MAX;
use crate::manifest::{Descriptor, Document, IndexEntry};
use crate::source::Sink;

#[derive(Debug, Clone)]
pub struct Layout(Files);

#[derive(Debug, Clone)]
enum Files {
    Directory(PathBuf),
    /// By name: where the file lies in the archive, and how long it is.
    Archive {
        path: PathBuf,
        index: Arc<HashMap<String, (u64, u64)>>,
    },
}

/// Files in an archive: a blob for each layer, and some documents.
const FILES_MAX: usize = 10_000;
/// So many of them wait before the decoder that larger ones would show in the memory bound.
const CHUNK_BYTES: usize = 64 * 1024;
/// The annotation that carries the tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

impl Layout {
    pub fn directory(path: &Path) -> Self {
        Self(Files::Directory(path.to_owned()))
    }

    pub async fn archive(path: &Path) -> Result<Self, ImageError> {
        let path = path.to_owned();
        let blocking = spawn_blocking(move || {
            let index = index(&path).map_err(|cause| match cause.kind() {
                io::ErrorKind::NotFound => ImageError::NoLayout(path.clone()),
                _ => ImageError::Layout { what: "the archive".to_owned(), cause },
            })?;
            Ok(Self(Files::Archive { path, index: Arc::new(index) }))
        });
        blocking.await.unwrap_or(Err(ImageError::Abandoned))
    }

    /// The digest behind a tag; without a tag, of the only image.
    pub async fn find(&self, tag: Option<&str>) -> Result<Digest, ImageError> {
        let bytes = self.read("index.json".to_owned(), "index".to_owned()).await?;
        let Document::Index(entries) = Document::parse(&Digest::of(&bytes), &bytes)? else {
            return Err(ImageError::LayoutLacks("index".to_owned()));
        };
        let named = |entry: &&IndexEntry| match tag {
            Some(tag) => entry.annotations.as_ref().and_then(|all| all.get(REF_NAME)).is_some_and(|name| name == tag),
            None => entries.len() == 1,
        };
        let lacks = || {
            ImageError::LayoutLacks(tag.map_or("single image; name a tag".to_owned(), |tag| format!("image `{tag}`")))
        };
        entries.iter().find(named).map(|entry| entry.digest).ok_or_else(lacks)
    }

    pub async fn document(&self, what: &'static str, digest: Digest) -> Result<Vec<u8>, ImageError> {
        let bytes = self.read(blob_name(&digest), format!("{what} {digest}")).await?;
        let found = Digest::of(&bytes);
        if found == digest { Ok(bytes) } else { Err(ImageError::Digest { what, expected: digest, found }) }
    }

    /// A blob's bytes, unjudged.
    pub async fn blob(&self, blob: &Descriptor, into: &mut Sink<'_>) -> Result<(), ImageError> {
        let (layout, name, what) = (self.clone(), blob_name(&blob.digest), format!("blob {}", blob.digest));
        let open = spawn_blocking(move || layout.open(&name, &what));
        let mut file = open.await.unwrap_or(Err(ImageError::Abandoned))?;
        loop {
            let read = spawn_blocking(move || {
                let mut chunk = Vec::with_capacity(CHUNK_BYTES);
                let read = (&mut file).take(CHUNK_BYTES as u64).read_to_end(&mut chunk);
                read.map(|_| (file, chunk))
            });
            let what = || format!("blob {}", blob.digest);
            let read = read.await.map_err(|_| ImageError::Abandoned)?;
            let (rest, chunk) = read.map_err(|cause| ImageError::Layout { what: what(), cause })?;
            file = rest;
            if chunk.is_empty() || !into.send(Bytes::from(chunk)).await {
                return Ok(());
            }
        }
    }

    async fn read(&self, name: String, what: String) -> Result<Vec<u8>, ImageError> {
        let layout = self.clone();
        let blocking = spawn_blocking(move || {
            let mut bytes = Vec::new();
            let file = layout.open(&name, &what)?;
            file.take(DOCUMENT_BYTES_MAX + 1)
                .read_to_end(&mut bytes)
                .map_err(|cause| ImageError::Layout { what, cause })?;
            Ok(bytes)
        });
        let bytes: Vec<u8> = blocking.await.unwrap_or(Err(ImageError::Abandoned))?;
        if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
            return Err(ImageError::TooLarge { what: "bytes in one of its documents", limit: DOCUMENT_BYTES_MAX });
        }
        Ok(bytes)
    }

    fn open(&self, name: &str, what: &str) -> Result<io::Take<File>, ImageError> {
        let lacks = || ImageError::LayoutLacks(what.to_owned());
        let wrong = |cause: io::Error| match cause.kind() {
            io::ErrorKind::NotFound => lacks(),
            _ => ImageError::Layout { what: what.to_owned(), cause },
        };
        match &self.0 {
            Files::Directory(path) if !path.is_dir() => Err(ImageError::NoLayout(path.clone())),
            Files::Directory(path) => File::open(path.join(name)).map(|file| file.take(u64::MAX)).map_err(wrong),
            Files::Archive { path, index } => {
                let (at, bytes) = *index.get(name).ok_or_else(lacks)?;
                let mut file = File::open(path).map_err(wrong)?;
                file.seek(SeekFrom::Start(at)).map_err(wrong)?;
                Ok(file.take(bytes))
            }
        }
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn index(path: &Path) -> io::Result<HashMap<String, (u64, u64)>> {
    let mut index = HashMap::new();
    let mut members = Members::new(BufReader::with_capacity(CHUNK_BYTES, File::open(path)?));
    while let Some(member) = members.next().map_err(io::Error::other)? {
        let name = String::from_utf8_lossy(&member.path);
        let name = name.trim_start_matches("./").to_owned();
        if let (Kind::Regular, Some(at)) = (member.kind, members.content_at()) {
            index.insert(name, (at, member.size));
        }
        if index.len() > FILES_MAX {
            return Err(io::Error::other("the archive has too many files"));
        }
    }
    Ok(index)
}
