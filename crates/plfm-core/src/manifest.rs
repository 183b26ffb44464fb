//! The manifest `plfm.toml`: what is run, read and checked the same way by the command line and the server (P-MAN-1..10).
//!
//! [`Manifest::parse`] turns bytes into a [`Manifest`] with every default applied, or into *all* errors in file order.
//! The canonical form (JSON for the hash, TOML for people) depends on what a manifest means, not on how it is laid out.
//! Reading the file, resolving tags and finding volumes belong to the callers; `docs/manifest.md` is the reference for users.

use std::str;

use toml_edit::Document;

pub use self::code::Code;
pub use self::effective::{Effective, Prestart};
pub use self::error::{ManifestError, render};
pub use self::image::{ImagePlace, ImageReference, image_reference};
pub use self::model::{
    App, Health, HealthCheck, Image, Manifest, Mount, Port, Process, PullPolicy, Resources, Restart, RestartPolicy,
    Scaling, SchemaVersion, Secrets, Settings, TERMINATION_GRACE_SECONDS, Volume,
};
pub use self::notation::{mebibytes, millis};
pub use self::rules::{Refusal, mount_path, mounts_overlap};

mod canonical;
mod code;
mod effective;
mod error;
mod image;
mod model;
mod mounts;
mod notation;
mod ports;
mod process;
mod read;
mod readers;
mod refused_keys;
mod rules;
mod section;

/// P-MAN-1. The server parses what strangers send; 64 KiB hold hundreds of processes.
pub const MANIFEST_BYTES_MAX: usize = 64 * 1024;

impl Manifest {
    pub fn parse(bytes: &[u8]) -> Result<Self, Vec<ManifestError>> {
        let text = text(bytes).map_err(|error| vec![error])?;
        let document = Document::parse(text).map_err(|error| vec![ManifestError::syntax(text, &error)])?;
        read::manifest(&document)
    }
}

fn text(bytes: &[u8]) -> Result<&str, ManifestError> {
    if bytes.len() > MANIFEST_BYTES_MAX {
        return Err(ManifestError::too_large(bytes.len()));
    }
    str::from_utf8(bytes).map_err(|error| ManifestError::utf8(bytes, error.valid_up_to()))
}

#[cfg(test)]
mod tests;
