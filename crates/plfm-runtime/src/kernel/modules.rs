//! Kernel modules in the order in which they load.
//!
//! What a module needs is read from the module itself (`depends=` in its `.modinfo`): `modules.dep` says the same, but exists only
//! where `depmod` ran, and an unpacked package has none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The largest module of a distribution is a few MiB; a compressed one must not unpack without end.
const MODULE_BYTES_MAX: u64 = 64 << 20;

const SIGNED: &[u8] = b"~Module signature appended~\n";
const SIGNATURE_TAIL: usize = 12;

/// A module as the guest loads it, uncompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// With underscores, as the kernel names it.
    pub name: String,
    pub bytes: Vec<u8>,
    /// The word of the command line without which it is not needed.
    pub only_with: Option<&'static str>,
}

#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    #[error("module `{0}` is neither built in nor in the package")]
    Missing(String),
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// `wanted` and all it needs, each after what it needs; without what is built in.
pub fn in_load_order(dir: &Path, wanted: &[&str]) -> Result<Vec<Module>, ModuleError> {
    let mut loader = Loader { files: files(dir)?, settled: built_in(dir)?, order: Vec::new() };
    for name in wanted {
        loader.load(name)?;
    }
    Ok(loader.order)
}

struct Loader {
    files: BTreeMap<String, PathBuf>,
    settled: BTreeSet<String>,
    order: Vec<Module>,
}

impl Loader {
    fn load(&mut self, name: &str) -> Result<(), ModuleError> {
        // Settled before its needs are looked at, so that a circle in a broken package ends.
        if !self.settled.insert(name.to_owned()) {
            return Ok(());
        }
        let path = self.files.get(name).ok_or_else(|| ModuleError::Missing(name.to_owned()))?;
        let bytes = read(path).map_err(|source| ModuleError::Read { path: path.clone(), source })?;
        let bytes = without_signature(bytes);
        for need in depends(&bytes) {
            self.load(&need)?;
        }
        self.order.push(Module { name: name.to_owned(), bytes, only_with: None });
        Ok(())
    }
}

/// The names after `depends=`, which stands between two zero bytes.
fn depends(module: &[u8]) -> Vec<String> {
    let mut fields = module.split(|&byte| byte == 0);
    let list = fields.find_map(|field| field.strip_prefix(b"depends=")).unwrap_or_default();
    let names = list.split(|&byte| byte == b',').filter(|name| !name.is_empty());
    names.map(|name| canonical(&String::from_utf8_lossy(name))).collect()
}

/// Distributions sign modules. Twelve signatures cost an emulated guest a third of its boot, and prove nothing here: whoever could change
/// a module could change the kernel beside it. A kernel that does not insist loads the module all the same.
fn without_signature(mut module: Vec<u8>) -> Vec<u8> {
    if let Some(signed) = module.strip_suffix(SIGNED) {
        // Ends with its own length, behind eight bytes that say how it was made.
        let length = signed.last_chunk::<4>().map_or(0, |length| u32::from_be_bytes(*length) as usize);
        module.truncate(signed.len().saturating_sub(SIGNATURE_TAIL + length));
    }
    module
}

fn built_in(dir: &Path) -> Result<BTreeSet<String>, ModuleError> {
    let path = dir.join("modules.builtin");
    let list = fs::read_to_string(&path).map_err(|source| ModuleError::Read { path, source })?;
    Ok(list.lines().filter_map(|line| module_name(Path::new(line))).collect())
}

fn files(dir: &Path) -> Result<BTreeMap<String, PathBuf>, ModuleError> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.join("kernel")];
    while let Some(dir) = dirs.pop() {
        let entries = fs::read_dir(&dir).map_err(|source| ModuleError::Read { path: dir, source })?;
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => dirs.push(entry.path()),
                _ => found.extend(module_name(&entry.path()).map(|name| (name, entry.path()))),
            }
        }
    }
    Ok(found)
}

fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let name = file.strip_suffix(".ko").or_else(|| file.strip_suffix(".ko.xz"))?;
    Some(canonical(name))
}

fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = fs::File::open(path)?;
    let mut bytes = Vec::new();
    match path.extension() {
        Some(xz) if xz == "xz" => {
            lzma_rust2::XzReader::new(io::BufReader::new(file), true).take(MODULE_BYTES_MAX).read_to_end(&mut bytes)?
        }
        _ => file.take(MODULE_BYTES_MAX).read_to_end(&mut bytes)?,
    };
    Ok(bytes)
}
