//! Which machine runs which image: a file per machine, so that a restart knows it too.

use std::fs;
use std::io;

use plfm_core::digest::Digest;
use plfm_core::ids::InstanceId;

use super::files::{Files, PINS, remove};
use crate::error::ImageError;

pub fn add(files: &Files, digest: Digest, holder: InstanceId) -> Result<(), ImageError> {
    let mut digests = of(files, holder)?;
    if digests.contains(&digest) {
        return Ok(());
    }
    digests.push(digest);
    let lines: String = digests.iter().map(|digest| format!("{digest}\n")).collect();
    files.write(&files.root().join(PINS).join(holder.to_string()), lines.as_bytes())
}

pub fn remove_all(files: &Files, holder: InstanceId) -> Result<(), ImageError> {
    remove(&files.root().join(PINS).join(holder.to_string()))
}

pub fn all(files: &Files) -> Result<Vec<(InstanceId, Digest)>, ImageError> {
    let holders = files.names(PINS)?.into_iter().filter_map(|name| name.parse().ok());
    let mut all = Vec::new();
    for holder in holders {
        all.extend(of(files, holder)?.into_iter().map(|digest| (holder, digest)));
    }
    Ok(all)
}

fn of(files: &Files, holder: InstanceId) -> Result<Vec<Digest>, ImageError> {
    match fs::read_to_string(files.root().join(PINS).join(holder.to_string())) {
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(ImageError::store("read the pins")(error)),
    }
}
