//! Names of images, completed: a name without a host is one of docker.io, and without a namespace of its `library`, as everyone
//! writes them. The grammar itself is the manifest's.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use plfm_core::digest::Digest;
use plfm_core::manifest::{ImagePlace, image_reference};

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
/// Another name of the same registry.
const DEFAULT_HOST_INDEX: &str = "index.docker.io";
const DEFAULT_NAMESPACE: &str = "library";
const DEFAULT_TAG: &str = "latest";

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
        let named = image_reference(text).map_err(ImageError::Reference)?;
        let needs_tag = named.digest.is_none() && matches!(named.place, ImagePlace::Registry { .. });
        let tag = named.tag.or_else(|| needs_tag.then(|| DEFAULT_TAG.to_owned()));
        Ok(Self { place: named.place.into(), tag, digest: named.digest })
    }
}

impl From<ImagePlace> for Place {
    fn from(place: ImagePlace) -> Self {
        match place {
            ImagePlace::Layout(path) => Self::Layout(path.into()),
            ImagePlace::Archive(path) => Self::Archive(path.into()),
            ImagePlace::Registry { host, name } => registry(host.as_deref().unwrap_or(DEFAULT_HOST), name),
        }
    }
}

fn registry(host: &str, name: String) -> Place {
    let host = if host == DEFAULT_HOST_INDEX { DEFAULT_HOST } else { host };
    let bare = host == DEFAULT_HOST && !name.contains('/');
    let repository = if bare { format!("{DEFAULT_NAMESPACE}/{name}") } else { name };
    Place::Registry { host: host.to_owned(), repository }
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
