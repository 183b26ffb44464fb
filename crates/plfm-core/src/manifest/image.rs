//! The grammar of image references: `[registry/]name`, and for images on this machine `oci:/dir` (an OCI layout) and
//! `oci-archive:/file` (the same as a tar), each with `[:tag][@sha256:…]`.
//!
//! Which registry a bare name means, and what a tag points at, is for whoever fetches.

use std::fmt;

use super::Code;
use super::rules::{Refusal, Ruled, quoted};
use crate::digest::Digest;

/// With tag and digest, the digest decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReference {
    pub place: ImagePlace,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImagePlace {
    Registry { host: Option<String>, name: String },
    Layout(String),
    Archive(String),
}

/// As registries bound it (distribution, `reference.NameTotalLengthMax`).
const NAME_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;

type MakePlace = fn(&str) -> Result<ImagePlace, &'static str>;
const SCHEMES: [(&str, MakePlace); 3] = [("oci:", layout), ("oci-archive:", archive), ("", registry)];

pub fn image_reference(text: &str) -> Ruled<ImageReference> {
    let found = SCHEMES.iter().find_map(|(scheme, place)| text.strip_prefix(scheme).zip(Some(place)));
    let (rest, place) = found.expect("the last scheme is empty");
    let (rest, digest) = rest.rsplit_once('@').map_or((rest, None), |(rest, digest)| (rest, Some(digest)));
    let (path, tag) = split_tag(rest);
    let place = place(path).map_err(|hint| refuse(text, hint))?;
    if !tag.is_none_or(is_tag) {
        return Err(refuse(text, "write a tag of letters, digits, `_`, `.` and `-`, at most 128, no `.` or `-` first"));
    }
    Ok(ImageReference { place, tag: tag.map(str::to_owned), digest: digest.map(parse_digest).transpose()? })
}

/// A colon before a slash belongs to a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (text, None),
    }
}

fn layout(path: &str) -> Result<ImagePlace, &'static str> {
    local_path(path).map(ImagePlace::Layout)
}

fn archive(path: &str) -> Result<ImagePlace, &'static str> {
    local_path(path).map(ImagePlace::Archive)
}

fn registry(text: &str) -> Result<ImagePlace, &'static str> {
    let (host, name) = split_host(text);
    if text.len() > NAME_BYTES_MAX || !host.is_none_or(is_host) || !name.split('/').all(is_name_part) {
        if name.chars().any(char::is_uppercase) {
            return Err("write the name in lower case, for example `example.com/web:v1`");
        }
        return Err("write `registry/name:tag` or `registry/name@sha256:…`, for example `example.com/web:v1`");
    }
    Ok(ImagePlace::Registry { host: host.map(str::to_owned), name: name.to_owned() })
}

fn local_path(path: &str) -> Result<String, &'static str> {
    let printable = path.chars().all(|each| !each.is_control() && each != ':');
    if path.len() < 2 || !path.starts_with('/') || !printable {
        return Err("write an absolute path, for example `oci:/srv/images/web:v1`");
    }
    Ok(path.to_owned())
}

fn parse_digest(digest: &str) -> Ruled<Digest> {
    digest.parse().map_err(|_| {
        let message = format!("{} is not a digest of an image", quoted(digest));
        Refusal::new(Code::ImageDigest, message, "write `@sha256:` and 64 lower-case hex digits")
    })
}

fn refuse(text: &str, hint: &str) -> Refusal {
    Refusal::new(Code::ImageRef, format!("{} is not an image reference", quoted(text)), hint)
}

/// The first part is a host when it has a dot or a port, or is `localhost`.
fn split_host(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), rest),
        _ => (None, text),
    }
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    address.map_or_else(|| host.split('.').all(is_host_label), is_ipv6) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse().is_ok_and(|port: u16| port > 0)
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<std::net::Ipv6Addr>().is_ok()
}

fn is_host_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_name_part(part: &str) -> bool {
    let word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separator = |run: &[u8]| matches!(run, b"" | b"." | b"_" | b"__") || run.iter().all(|byte| *byte == b'-');
    let (first, last) = (part.as_bytes().first(), part.as_bytes().last());
    first.is_some_and(word) && last.is_some_and(word) && part.as_bytes().split(word).all(separator)
}

fn is_tag(tag: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=TAG_BYTES_MAX).contains(&tag.len()) && tag.bytes().all(inner) && !tag.starts_with(['.', '-'])
}

impl fmt::Display for ImagePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry { host: Some(host), name } => write!(f, "{host}/{name}"),
            Self::Registry { host: None, name } => f.write_str(name),
            Self::Layout(directory) => write!(f, "oci:{directory}"),
            Self::Archive(file) => write!(f, "oci-archive:{file}"),
        }
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}
