//! What the tests of this crate share: tars in all shapes, and images as text.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use plfm_core::digest::Digest;
use tar::{EntryType, Header};

use crate::erofs::{Entry, FileType, Image};
use crate::error::ImageError;
use crate::layer::{self, Job, Layer};
use crate::limits::{Budget, Limits};
use crate::manifest::Descriptor;

/// A header with its checksum, as a tool would write it; the closure may spoil it before.
pub fn header(kind: u8, path: &str, size: u64, spoil: impl FnOnce(&mut Header)) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::new(kind));
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(7);
    header.set_size(size);
    header.as_ustar_mut().expect("made as one").dev_major.fill(0);
    header.as_ustar_mut().expect("made as one").dev_minor.fill(0);
    spoil(&mut header);
    header.set_cksum();
    header.as_bytes().to_vec()
}

pub fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

pub fn file(path: &str, content: &[u8]) -> Vec<u8> {
    [header(b'0', path, content.len() as u64, |_| {}), padded(content.to_vec())].concat()
}

pub fn dir(path: &str) -> Vec<u8> {
    header(b'5', path, 0, |_| {})
}

pub fn link(kind: u8, path: &str, target: &str) -> Vec<u8> {
    header(kind, path, 0, |header| header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes()))
}

/// An extended header with these records.
pub fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (1..9).map(|digits| rest + digits).find(|length| length.to_string().len() + rest == *length);
        bytes.extend(format!("{} {key}=", length.expect("short records")).bytes());
        bytes.extend(*value);
        bytes.push(b'\n');
    }
    [header(b'x', "pax", bytes.len() as u64, |_| {}), padded(bytes)].concat()
}

pub fn tar(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::bufread::GzEncoder::new(bytes, flate2::Compression::fast())
        .read_to_end(&mut out)
        .expect("memory does not fail");
    out
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).expect("memory does not fail")
}

pub fn descriptor(compression: &str, bytes: &[u8]) -> Descriptor {
    let media_type = format!("application/vnd.oci.image.layer.v1.tar{compression}");
    Descriptor { media_type, digest: Digest::of(bytes), size: bytes.len() as u64 }
}

/// Makes a layer of these bytes, in chunks of an odd size.
pub async fn make(
    tmp: &Path,
    blob: Descriptor,
    diff_id: Digest,
    bytes: &[u8],
    limits: &Limits,
) -> Result<Layer, ImageError> {
    let (to, verdict) = layer::start(Job { blob, diff_id, tmp: tmp.to_owned(), budget: Arc::new(Budget::new(limits)) });
    let send = async {
        for chunk in bytes.chunks(1000) {
            if to.send(Bytes::copy_from_slice(chunk)).await.is_err() {
                break;
            }
        }
        drop(to);
    };
    tokio::join!(send, verdict).1
}

/// A plain tar that is what it says.
pub async fn layer(tmp: &Path, tar: &[u8]) -> Result<Layer, ImageError> {
    make(tmp, descriptor("", tar), Digest::of(tar), tar, &Limits::default()).await
}

pub fn open(layer: &Layer) -> Image {
    Image::open(layer.file.reopen().unwrap()).unwrap()
}

pub fn reopen(file: &File) -> Image {
    Image::open(file.try_clone().unwrap()).unwrap()
}

/// A line for each name, in the order in which they are stored.
pub fn show(image: &Image) -> String {
    let mut text = String::new();
    show_directory(image, &image.root().unwrap(), "", &mut text);
    text
}

fn show_directory(image: &Image, directory: &Entry, path: &str, text: &mut String) {
    show_entry(image, directory, if path.is_empty() { "/" } else { path }, text);
    let mut names = image.names(directory);
    while let Some((name, nid)) = names.next(image).unwrap() {
        let path = format!("{path}/{}", String::from_utf8_lossy(&name));
        let entry = image.entry(nid).unwrap();
        match entry.kind {
            FileType::Directory => show_directory(image, &entry, &path, text),
            _ => show_entry(image, &entry, &path, text),
        }
    }
}

fn show_entry(image: &Image, entry: &Entry, path: &str, text: &mut String) {
    let mut content = Vec::new();
    image.content(entry).read_to_end(&mut content).unwrap();
    let what = match entry.kind {
        FileType::Directory if entry.opaque => "dir opaque".to_owned(),
        FileType::Directory => "dir".to_owned(),
        FileType::Char if entry.is_whiteout() => "gone".to_owned(),
        FileType::Symlink => format!("-> {}", String::from_utf8_lossy(&content)),
        FileType::Regular if content.len() < 40 => format!("{:?}", String::from_utf8_lossy(&content)),
        FileType::Regular => format!("{} bytes, {}", content.len(), &Digest::of(&content).hex()[..8]),
        kind => format!("{kind:?} {:x}", entry.rdev).to_lowercase(),
    };
    let (mode, uid, gid) = (entry.meta.mode, entry.meta.uid, entry.meta.gid);
    write!(text, "{path} {what} {mode:o} {uid}:{gid} @{}", entry.meta.mtime.seconds).unwrap();
    if entry.nlink > 1 && entry.kind != FileType::Directory {
        write!(text, " x{}", entry.nlink).unwrap();
    }
    text.push_str(if entry.implied { " implied\n" } else { "\n" });
}
