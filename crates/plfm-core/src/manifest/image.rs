//! The grammar of image references: `[registry/]name[:tag][@sha256:…]`, and for images on this machine
//! `oci:/dir[:tag]` (an OCI layout) and `oci-archive:/file[:tag]` (the same as a tar).
//!
//! Which registry a bare name means, and what a tag points at, is for whoever fetches.

use std::fmt;

use super::Code;
use super::rules::{Refusal, Ruled, quoted};
use crate::digest::Digest;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageReference {
    Registry { registry: Option<String>, name: String, tag: Option<String>, digest: Option<Digest> },
    Layout { directory: String, tag: Option<String> },
    Archive { file: String, tag: Option<String> },
}

/// As registries bound it (distribution, `reference.NameTotalLengthMax`).
const NAME_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;

pub fn image_reference(text: &str) -> Ruled<ImageReference> {
    if let Some(local) = text.strip_prefix("oci:") {
        return local_path(text, local).map(|(directory, tag)| ImageReference::Layout { directory, tag });
    }
    if let Some(local) = text.strip_prefix("oci-archive:") {
        return local_path(text, local).map(|(file, tag)| ImageReference::Archive { file, tag });
    }
    registry_reference(text)
}

fn local_path(text: &str, local: &str) -> Ruled<(String, Option<String>)> {
    let (path, tag) = match local.rsplit_once(':') {
        Some((path, tag)) if is_tag(tag) => (path, Some(tag.to_owned())),
        _ => (local, None),
    };
    let printable = path.chars().all(|each| !each.is_control() && each != ':');
    if path.len() < 2 || !path.starts_with('/') || !printable {
        return Err(refuse(text, "write an absolute path, for example `oci:/srv/images/web:v1`"));
    }
    Ok((path.to_owned(), tag))
}

fn registry_reference(text: &str) -> Ruled<ImageReference> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(parse_digest(digest)?)),
        None => (text, None),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    let (registry, name) = split_registry(path);
    let holds = path.len() <= NAME_BYTES_MAX
        && registry.is_none_or(is_registry)
        && name.split('/').all(is_name_part)
        && tag.is_none_or(is_tag);
    if !holds {
        return Err(refuse(
            text,
            "write `registry/name:tag` or `registry/name@sha256:…`, for example `example.com/web:v1`",
        ));
    }
    let (registry, tag) = (registry.map(str::to_owned), tag.map(str::to_owned));
    Ok(ImageReference::Registry { registry, name: name.to_owned(), tag, digest })
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

/// The first part is a registry when it could be no name: it has a dot, a port or capitals, or is `localhost`.
fn split_registry(path: &str) -> (Option<&str>, &str) {
    let host = |part: &str| {
        part.contains(['.', ':']) || part == "localhost" || part.bytes().any(|byte| byte.is_ascii_uppercase())
    };
    match path.split_once('/') {
        Some((first, rest)) if host(first) => (Some(first), rest),
        _ => (None, path),
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_address = || host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(is_ipv6);
    (host.split('.').all(is_host_label) || is_address())
        && port.is_none_or(|port| port.parse().is_ok_and(|port: u16| port > 0))
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

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tag = match self {
            Self::Registry { registry, name, tag, .. } => {
                registry.iter().try_for_each(|registry| write!(f, "{registry}/"))?;
                f.write_str(name).map(|()| tag)?
            }
            Self::Layout { directory, tag } => write!(f, "oci:{directory}").map(|()| tag)?,
            Self::Archive { file, tag } => write!(f, "oci-archive:{file}").map(|()| tag)?,
        };
        tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        match self {
            Self::Registry { digest: Some(digest), .. } => write!(f, "@{digest}"),
            _ => Ok(()),
        }
    }
}
