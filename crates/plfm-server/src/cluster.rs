//! Which cluster a data directory is of, so that a file that is gone is not taken for a new beginning.

use std::io;
use std::path::Path;

use plfm_core::ids::LogId;

use crate::error::ServerError;
use crate::secrets::write_private;

pub const LOG: &str = "log.db";
/// The log's id, from when its first event was on disk.
const KNOWN: &str = "log.id";
/// What a cluster that has begun cannot be without.
const KEPT: [&str; 4] = ["ca.key", "ca.pem", "cluster.key", LOG];

/// The id of the log that was here before.
///
/// # Errors
/// Where one of the files that belong to it is not there, or has nothing in it.
pub fn known(data: &Path) -> Result<Option<String>, ServerError> {
    let id = match std::fs::read_to_string(data.join(KNOWN)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(ServerError::file(&data.join(KNOWN)))?,
    };
    let is_there = |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.len() > 0);
    match KEPT.iter().map(|name| data.join(name)).find(|path| !is_there(path)) {
        Some(gone) => Err(ServerError::Gone(gone)),
        None => Ok(Some(id.trim().to_owned())),
    }
}

pub fn is_same(data: &Path, known: Option<&str>, found: Option<LogId>) -> Result<(), ServerError> {
    let (Some(known), found) = (known, found.map_or_else(|| "an empty one".to_owned(), |id| id.to_string())) else {
        return Ok(());
    };
    if known == found {
        return Ok(());
    }
    Err(ServerError::OtherLog { path: data.join(LOG), found, known: known.to_owned() })
}

pub fn remember(data: &Path, known: Option<&str>, log: Option<LogId>) -> Result<(), ServerError> {
    match (known, log) {
        (None, Some(log)) => {
            // In one step: half an id would be another's.
            let (fresh, path) = (data.join("log.id.new"), data.join(KNOWN));
            let _ = std::fs::remove_file(&fresh);
            write_private(&fresh, log.to_string().as_bytes())?;
            std::fs::rename(&fresh, &path).map_err(ServerError::file(&path))
        }
        _ => Ok(()),
    }
}
