//! What the node remembers over a restart, in one file, replaced as a whole.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::NodeError;
use crate::mind::Local;

pub struct Memory {
    path: PathBuf,
    /// What the file holds, so that it is written only when something changed.
    saved: Vec<u8>,
}

impl Memory {
    /// None when there is nothing to remember.
    pub fn open(dir: &Path) -> Result<(Self, Option<Local>), NodeError> {
        let path = dir.join("local.json");
        let saved = match std::fs::read(&path) {
            Ok(saved) => saved,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok((Self { path, saved: Vec::new() }, None));
            }
            Err(error) => return Err(NodeError::file(&path)(error)),
        };
        let local = serde_json::from_slice(&saved);
        let local = local.map_err(|error| NodeError::Damaged { path: path.clone(), detail: error.to_string() })?;
        Ok((Self { path, saved }, Some(local)))
    }

    pub fn save(&mut self, local: &Local) -> Result<(), NodeError> {
        let bytes = serde_json::to_vec(local).expect("ids become strings, and the rest is plain");
        if bytes == self.saved {
            return Ok(());
        }
        let fresh = self.path.with_extension("json.new");
        let written = File::create(&fresh).and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()));
        written.and_then(|()| std::fs::rename(&fresh, &self.path)).map_err(NodeError::file(&self.path))?;
        self.saved = bytes;
        Ok(())
    }
}
