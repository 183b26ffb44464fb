//! What the integration tests share: trees as text, mounts, layouts, and reasons to skip.
#![allow(dead_code)]

pub mod registry;

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use plfm_core::digest::Digest;
use plfm_image::ImageError;
use plfm_image::layer::{self, Job, Layer};
use plfm_image::limits::{Budget, Limits};
use plfm_image::manifest::Descriptor;

/// Says so, for a test that can't run here.
pub fn skip(test: &str, reason: &str) {
    eprintln!("skipped: {test}: {reason}");
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).exists())
}

/// Runs a program, which has to succeed.
pub fn run(program: &str, arguments: &[&OsStr]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{out}{err}", output.status);
    out.into_owned() + &err
}

#[macro_export]
macro_rules! run {
    ($program:expr $(, $argument:expr)* $(,)?) => {
        $crate::support::run($program, &[$(std::ffi::OsStr::new(&$argument)),*])
    };
}

/// A mount that ends with the test.
pub struct Mounted {
    at: tempfile::TempDir,
    /// What the mount needs until it ends.
    _below: tempfile::TempDir,
}

impl Mounted {
    pub fn new(arguments: &[&OsStr]) -> Option<Self> {
        Self::over(tempfile::tempdir().unwrap(), arguments)
    }

    fn over(below: tempfile::TempDir, arguments: &[&OsStr]) -> Option<Self> {
        let at = tempfile::tempdir().unwrap();
        let mount = Command::new("mount").args(arguments).arg(at.path()).output().ok()?;
        mount.status.success().then_some(Self { at, _below: below })
    }

    pub fn erofs(image: &Path) -> Option<Self> {
        Self::new(&["-t".as_ref(), "erofs".as_ref(), "-o".as_ref(), "loop,ro".as_ref(), image.as_os_str()])
    }

    /// Layers as the kernel stacks them; an empty one below changes nothing, but one alone is no overlay.
    pub fn overlay(lowest_first: &[Mounted]) -> Option<Self> {
        let below = tempfile::tempdir().unwrap();
        let dirs = lowest_first.iter().rev().map(|mounted| mounted.path());
        let dirs: Vec<_> = dirs.chain([below.path()]).map(|dir| dir.display().to_string()).collect();
        let options = format!("ro,lowerdir={}", dirs.join(":"));
        Self::over(below, &["-t", "overlay", "-o", &options, "overlay"].map(OsStr::new))
    }

    pub fn path(&self) -> &Path {
        self.at.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.at.path()).output();
    }
}

/// What the caller compares: everything of a tree but the order on disk.
#[derive(Clone, Copy)]
pub struct Look {
    pub links: bool,
    pub xattrs: bool,
    pub nanos: bool,
    pub directory_times: bool,
    pub set_id: bool,
}

pub const ALL: Look = Look { links: true, xattrs: true, nanos: true, directory_times: true, set_id: true };

/// A line for each file below a directory.
pub fn show(root: &Path, look: Look) -> String {
    let mut text = String::new();
    let mut numbers = BTreeMap::new();
    walk(root, Path::new(""), look, &mut numbers, &mut text);
    text
}

fn walk(root: &Path, path: &Path, look: Look, numbers: &mut BTreeMap<u64, usize>, text: &mut String) {
    let full = root.join(path);
    // Overlayfs lists a whiteout that hides nothing, but there is no file behind it.
    let Ok(meta) = fs::symlink_metadata(&full) else { return };
    let kind = meta.mode() >> 12;
    let mode = if look.set_id { meta.mode() } else { meta.mode() & !0o7000 };
    write!(text, "{path:?} {mode:o} {}:{}", meta.uid(), meta.gid()).unwrap();
    if kind != 4 || look.directory_times {
        write!(text, " @{}.{}", meta.mtime(), if look.nanos { meta.mtime_nsec() } else { 0 }).unwrap();
    }
    if kind != 4 && look.links {
        // Which names are one file, whatever its number is.
        let next = numbers.len();
        write!(text, " x{}#{}", meta.nlink(), numbers.entry(meta.ino()).or_insert(next)).unwrap();
    }
    match kind {
        8 => write!(text, " {} {}", meta.len(), &Digest::of(&fs::read(&full).unwrap()).hex()[..12]).unwrap(),
        10 => write!(text, " -> {:?}", fs::read_link(&full).unwrap()).unwrap(),
        2 | 6 => write!(text, " dev {:x}", meta.rdev()).unwrap(),
        _ => {}
    }
    if look.xattrs {
        xattrs(&full)
            .iter()
            .for_each(|(name, value)| write!(text, " {name}={}", &Digest::of(value).hex()[..8]).unwrap());
    }
    text.push('\n');
    if kind == 4 {
        let mut names: Vec<_> = fs::read_dir(&full).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names.iter().for_each(|name| walk(root, &path.join(name), look, numbers, text));
    }
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut names = vec![0; 64 * 1024];
    let length = rustix::fs::llistxattr(&path, &mut names[..]).unwrap_or(0);
    names.truncate(length);
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 64 * 1024];
        let length = rustix::fs::lgetxattr(&path, CString::new(name).unwrap(), &mut value[..]).unwrap_or(0);
        value.truncate(length);
        value
    };
    names.map(|name| (String::from_utf8_lossy(name).into_owned(), value(name))).collect()
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    rustix::fs::lsetxattr(&path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

pub fn descriptor(suffix: &str, bytes: &[u8]) -> Descriptor {
    let media_type = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
    Descriptor { media_type, digest: Digest::of(bytes), size: bytes.len() as u64 }
}

/// Makes a layer of a plain tar.
pub async fn layer(tmp: &Path, tar: &[u8]) -> Result<Layer, ImageError> {
    let budget = Arc::new(Budget::new(&Limits::default()));
    let (to, verdict) =
        layer::start(Job { blob: descriptor("", tar), diff_id: Digest::of(tar), tmp: tmp.to_owned(), budget });
    let tar = Bytes::copy_from_slice(tar);
    let send = async move {
        for at in (0..tar.len()).step_by(100_000) {
            if to.send(tar.slice(at..tar.len().min(at + 100_000))).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(send, verdict).1
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::bufread::GzEncoder::new(bytes, flate2::Compression::fast()).read_to_end(&mut out).unwrap();
    out
}

/// A tar of regular files, with their parents as a container engine would write them.
pub fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut made = std::collections::BTreeSet::new();
    for (path, content) in files {
        let parents: Vec<_> =
            Path::new(path).ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()).collect();
        for parent in parents.into_iter().rev().filter(|parent| made.insert(parent.to_path_buf())) {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            builder.append_data(&mut header, parent, &[][..]).unwrap();
        }
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// An OCI image layout that is being written.
pub struct LayoutDir(pub PathBuf);

impl LayoutDir {
    pub fn new(root: &Path) -> Self {
        fs::create_dir_all(root.join("blobs/sha256")).unwrap();
        fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self(root.to_owned())
    }

    pub fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        fs::write(self.blob_path(&digest), bytes).unwrap();
        digest
    }

    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.0.join("blobs/sha256").join(digest.hex())
    }

    /// An image of plain tars, stored as their suffixes say: `""`, `+gzip`, `+zstd`.
    pub fn image(&self, architecture: &str, layers: &[(&str, Vec<u8>)]) -> serde_json::Value {
        let stored: Vec<_> = layers.iter().map(|(suffix, tar)| self.stored(suffix, tar)).collect();
        let diff_ids: Vec<_> = layers.iter().map(|(_, tar)| Digest::of(tar).to_string()).collect();
        let config = serde_json::json!({
            "os": "linux", "architecture": architecture, "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "config": { "Entrypoint": ["/bin/sh", "-c"], "Cmd": null, "Env": ["PATH=/bin"], "User": "1000:1000", "WorkingDir": "/srv",
                        "ExposedPorts": { "80/tcp": {}, "53/udp": {} }, "StopSignal": "SIGINT" },
        });
        let config = config.to_string();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": self.blob(config.as_bytes()), "size": config.len() },
            "layers": stored,
        });
        self.described("application/vnd.oci.image.manifest.v1+json", &manifest.to_string(), architecture)
    }

    pub fn index(&self, manifests: &[serde_json::Value]) -> serde_json::Value {
        let index = serde_json::json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests });
        self.described("application/vnd.oci.image.index.v1+json", &index.to_string(), "")
    }

    /// Writes `index.json` with one image under one tag, and gives its digest.
    pub fn tag(&self, tag: &str, image: &serde_json::Value) -> Digest {
        let mut image = image.clone();
        image["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": tag });
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": [image] });
        fs::write(self.0.join("index.json"), index.to_string()).unwrap();
        image["digest"].as_str().unwrap().parse().unwrap()
    }

    fn stored(&self, suffix: &str, tar: &[u8]) -> serde_json::Value {
        let bytes = match suffix {
            "+gzip" => gzip(tar),
            "+zstd" => zstd::stream::encode_all(tar, 1).unwrap(),
            _ => tar.to_vec(),
        };
        let Descriptor { media_type, digest, size } = descriptor(suffix, &bytes);
        self.blob(&bytes);
        serde_json::json!({ "mediaType": media_type, "digest": digest, "size": size })
    }

    fn described(&self, media_type: &str, text: &str, architecture: &str) -> serde_json::Value {
        let mut descriptor =
            serde_json::json!({ "mediaType": media_type, "digest": self.blob(text.as_bytes()), "size": text.len() });
        if !architecture.is_empty() {
            descriptor["platform"] = serde_json::json!({ "os": "linux", "architecture": architecture });
        }
        descriptor
    }
}
