//! Eviction: what no machine runs and nobody asked for in the longest time goes first.

use super::Keys;
use super::files::{DOCUMENTS, Files, IMAGES, Kind, LAYERS, MERGED};
use super::gate::InUse;
use super::pins;
use crate::error::ImageError;
use crate::manifest::Document;
use plfm_core::digest::Digest;
use std::collections::BTreeSet;
use std::fs;

/// What an eviction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    pub removed: usize,
    pub removed_bytes: u64,
    pub kept_bytes: u64,
}

pub fn collect(files: &Files, in_use: &InUse, keep_bytes: u64) -> Result<Collected, ImageError> {
    let held = in_use.lock();
    let roots = roots(files)?;
    let pinned = pinned(files, &roots)?;
    let mut images = images(files)?;
    images.sort_by_key(|(kind, key, _)| (files.last_use(*kind, key), *kind, *key));
    let mut done = Collected { kept_bytes: images.iter().map(|(_, _, bytes)| bytes).sum(), ..Collected::default() };
    for (kind, key, bytes) in images {
        if done.kept_bytes <= keep_bytes {
            break;
        }
        if pinned.contains(&(kind, key)) || held.contains_key(&(kind, key)) {
            continue;
        }
        files.remove(kind, &key)?;
        done.removed += 1;
        done.removed_bytes += bytes;
        done.kept_bytes -= bytes;
    }
    sweep(files, &roots)?;
    Ok(done)
}

/// The manifests that machines hold, by themselves or through an index.
fn roots(files: &Files) -> Result<BTreeSet<Digest>, ImageError> {
    let mut roots = BTreeSet::new();
    for (_, digest) in pins::all(files)? {
        roots.insert(digest);
        roots.extend(children(files, &digest)?);
    }
    Ok(roots)
}

fn children(files: &Files, digest: &Digest) -> Result<Vec<Digest>, ImageError> {
    let Some(bytes) = files.document(digest)? else { return Ok(Vec::new()) };
    Ok(match Document::parse(digest, &bytes) {
        Ok(Document::Index(entries)) => entries.iter().map(|entry| entry.digest).collect(),
        _ => Vec::new(),
    })
}

fn pinned(files: &Files, roots: &BTreeSet<Digest>) -> Result<Keys, ImageError> {
    let mut pinned = Keys::new();
    for manifest in roots {
        pinned.extend(files.ready_record(manifest)?.into_iter().flat_map(|ready| ready.devices));
    }
    Ok(pinned)
}

/// Every image file, records without one included: both go together.
fn images(files: &Files) -> Result<Vec<(Kind, Digest, u64)>, ImageError> {
    let mut images = Vec::new();
    for (kind, directory) in [(Kind::Layer, LAYERS), (Kind::Merged, MERGED)] {
        for key in files.digests(directory)? {
            let bytes = fs::metadata(files.image(kind, &key)).map_or(0, |metadata| metadata.len());
            images.push((kind, key, bytes));
        }
    }
    Ok(images)
}

/// Documents that no ready and no pinned image needs.
fn sweep(files: &Files, roots: &BTreeSet<Digest>) -> Result<(), ImageError> {
    let mut needed = roots.clone();
    for manifest in files.digests(IMAGES)? {
        if files.ready(&manifest)?.is_none() && !roots.contains(&manifest) {
            files.remove_ready(&manifest)?;
            continue;
        }
        needed.insert(manifest);
        needed.extend(files.ready_record(&manifest)?.map(|ready| ready.config));
    }
    for document in files.digests(DOCUMENTS)? {
        let above = children(files, &document)?.iter().any(|child| needed.contains(child));
        if !needed.contains(&document) && !above {
            files.remove_document(&document)?;
        }
    }
    Ok(())
}
