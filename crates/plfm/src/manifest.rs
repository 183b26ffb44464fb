//! The manifest on disk: finding `plfm.toml`, reading it within bounds, checking it with the library that the server uses.

use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use plfm_core::manifest::{MANIFEST_BYTES_MAX, Manifest};

use crate::CliError;

pub const FILE_NAME: &str = "plfm.toml";

/// A manifest that the rules accept.
pub struct Checked {
    /// As it is written.
    pub text: String,
    pub manifest: Manifest,
}

/// In this directory or the nearest above it.
pub fn find(from: &Path) -> Option<PathBuf> {
    from.ancestors().map(|dir| dir.join(FILE_NAME)).find(|path| path.is_file())
}

pub fn check(path: &Path) -> Result<Checked, CliError> {
    let bytes = read(path).map_err(|source| CliError::ManifestRead { path: path.to_owned(), source })?;
    let manifest = Manifest::parse(&bytes)
        .map_err(|errors| CliError::Manifest { path: shown(path).display().to_string(), errors })?;
    let text = String::from_utf8(bytes).expect("what was parsed is UTF-8");
    Ok(Checked { text, manifest })
}

/// As one would type it here.
pub fn shown(path: &Path) -> &Path {
    env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path)
}

/// One byte more than is allowed is enough to see that it is too long.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MANIFEST_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn it_is_found_in_a_parent_directory() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("src/deep");
        fs::create_dir_all(&deep).unwrap();
        let path = dir.path().join(FILE_NAME);
        fs::write(&path, "").unwrap();
        assert_eq!(find(&deep), Some(path));
    }

    #[test]
    fn one_that_is_too_long_is_not_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        fs::write(&path, vec![b'#'; MANIFEST_BYTES_MAX * 3]).unwrap();
        assert_eq!(read(&path).unwrap().len(), MANIFEST_BYTES_MAX + 1);
        assert!(matches!(check(&path), Err(CliError::Manifest { .. })));
    }
}
