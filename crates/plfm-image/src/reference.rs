//! Names of images: `host/name:tag`, `host/name@sha256:…`, `oci:/dir:tag`, `oci-archive:/file.tar:tag`.
//!
//! A name without a host is one of docker.io, and without a namespace of its `library`, as everyone writes them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use plfm_core::digest::Digest;

use crate::error::ImageError;

/// An image somewhere, by tag, by digest, or by both: then the digest decides.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageRef {
    pub place: Place,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    Registry {
        host: String,
        repository: String,
    },
    /// An OCI image layout in a directory of this machine.
    Layout(PathBuf),
    /// The same as one tar file.
    Archive(PathBuf),
}

const DEFAULT_HOST: &str = "docker.io";
const DEFAULT_NAMESPACE: &str = "library";
const DEFAULT_TAG: &str = "latest";
/// The bounds of the distribution specification for names and tags.
const REPOSITORY_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;

impl ImageRef {
    /// The same image, by its content.
    pub fn pinned(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    pub fn digest(&self) -> Result<Digest, ImageError> {
        self.digest.ok_or_else(|| ImageError::NotPinned(self.to_string()))
    }
}

impl FromStr for ImageRef {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        parse(text).map_err(|why| ImageError::Reference { reference: text.chars().take(80).collect(), why })
    }
}

fn parse(text: &str) -> Result<ImageRef, &'static str> {
    let (named, digest) = match text.rsplit_once('@') {
        Some((named, digest)) => (named, Some(digest.parse().map_err(|_| "what follows `@` is no sha256 digest")?)),
        None => (text, None),
    };
    if let Some(path) = named.strip_prefix("oci:") {
        let (path, tag) = local(path)?;
        return Ok(ImageRef { place: Place::Layout(path), tag, digest });
    }
    if let Some(path) = named.strip_prefix("oci-archive:") {
        let (path, tag) = local(path)?;
        return Ok(ImageRef { place: Place::Archive(path), tag, digest });
    }
    let (name, tag) = split_tag(named)?;
    let (host, repository) = split_host(name);
    check_host(&host)?;
    check_repository(&repository)?;
    let tag = tag.or_else(|| digest.is_none().then(|| DEFAULT_TAG.to_owned()));
    Ok(ImageRef { place: Place::Registry { host, repository }, tag, digest })
}

fn local(path: &str) -> Result<(PathBuf, Option<String>), &'static str> {
    let (path, tag) = split_tag(path)?;
    if path.starts_with('/') { Ok((path.into(), tag)) } else { Err("the path is not absolute") }
}

fn split_tag(named: &str) -> Result<(&str, Option<String>), &'static str> {
    match named.rsplit_once(':') {
        // A colon before a slash belongs to a port.
        Some((name, tag)) if !tag.contains('/') => check_tag(tag).map(|()| (name, Some(tag.to_owned()))),
        _ => Ok((named, None)),
    }
}

fn split_host(name: &str) -> (String, String) {
    match name.split_once('/') {
        Some((host, repository)) if host.contains(['.', ':']) || host == "localhost" => match (host, repository) {
            ("index.docker.io" | DEFAULT_HOST, one) if !one.contains('/') => library(one),
            ("index.docker.io", more) => (DEFAULT_HOST.to_owned(), more.to_owned()),
            _ => (host.to_owned(), repository.to_owned()),
        },
        Some(_) => (DEFAULT_HOST.to_owned(), name.to_owned()),
        None => library(name),
    }
}

fn library(name: &str) -> (String, String) {
    (DEFAULT_HOST.to_owned(), format!("{DEFAULT_NAMESPACE}/{name}"))
}

fn check_host(host: &str) -> Result<(), &'static str> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let v6 = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let fits = match v6 {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        }),
    };
    let port_fits =
        port.is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok());
    if fits && port_fits { Ok(()) } else { Err("the registry is no host name") }
}

fn check_repository(repository: &str) -> Result<(), &'static str> {
    let word =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    // Words joined by one dot, one or two underscores, or any number of dashes.
    let part = |part: &str| {
        let joined = part.replace("__", "\0").replace(['.', '_'], "\0");
        joined.split('\0').all(|piece| {
            let dashed = piece.split('-').filter(|piece| !piece.is_empty());
            !piece.starts_with('-') && !piece.ends_with('-') && !piece.is_empty() && dashed.into_iter().all(word)
        })
    };
    if repository.len() > REPOSITORY_BYTES_MAX {
        return Err("the name is longer than 255 characters");
    }
    if repository.split('/').all(part) {
        Ok(())
    } else {
        Err("the name has characters other than a-z, 0-9, `.`, `_` and `-`")
    }
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let fits = tag.bytes().next().is_some_and(word)
        && tag.len() <= TAG_BYTES_MAX
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
    if fits { Ok(()) } else { Err("the tag is not a word of at most 128 characters") }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Registry { host, repository } => write!(f, "{host}/{repository}")?,
            Place::Layout(path) => write!(f, "oci:{}", path.display())?,
            Place::Archive(path) => write!(f, "oci-archive:{}", path.display())?,
        }
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_completed_as_everyone_completes_them() {
        for (text, full) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20"),
            ("grafana/grafana", "docker.io/grafana/grafana:latest"),
            ("docker.io/alpine", "docker.io/library/alpine:latest"),
            ("index.docker.io/a/b", "docker.io/a/b:latest"),
            ("localhost/a", "localhost/a:latest"),
            ("localhost:5000/a/b/c:v1", "localhost:5000/a/b/c:v1"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            ("ghcr.io/o/some.app__x-y--z:T_1.2", "ghcr.io/o/some.app__x-y--z:T_1.2"),
            ("oci:/srv/image", "oci:/srv/image"),
            ("oci:/srv/image:v1", "oci:/srv/image:v1"),
            ("oci-archive:/srv/image.tar:v1", "oci-archive:/srv/image.tar:v1"),
        ] {
            assert_eq!(text.parse::<ImageRef>().unwrap().to_string(), full);
        }
        for named in ["localhost:5000/a", "docker.io/library/alpine:3.20", "oci:/srv/image:v1"] {
            let pinned = format!("{named}@{DIGEST}");
            assert_eq!(pinned.parse::<ImageRef>().unwrap().to_string(), pinned);
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let long = "a".repeat(256);
        for text in [
            "",
            "UPPER",
            "a b",
            "a/../b",
            "../a",
            "a//b",
            "a/",
            "/a",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a:",
            "a:-t",
            "a:t/",
            "a@",
            "a@sha256:00",
            "ex_ample.com/a",
            "host.com:99999/a",
            "host.com:x/a",
            "[::g]/a",
            ".com/a",
            "oci:relative",
            "oci:",
            "oci-archive:x",
            "http://a/b",
            "a?b",
            "a#b",
            "host.com/a%2e",
            "user@host.com/a",
            &long,
        ] {
            assert!(text.parse::<ImageRef>().is_err(), "{text}");
        }
    }
}
