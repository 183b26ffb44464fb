//! Identifiers: `<prefix>_<ULID>`, one type per kind (P-ID-1, P-ID-2).
//!
//! Only the canonical form parses: lower-case prefix, one underscore, 26 characters of upper-case Crockford base32.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("an id is empty")]
    Empty,
    #[error("`{0}` has no `_` between prefix and ULID")]
    NoSeparator(String),
    #[error("`{found}` is not a `{expected}_…` id")]
    WrongPrefix { expected: &'static str, found: String },
    #[error("`{0}` does not end in a canonical ULID")]
    BadUlid(String),
}

fn parse(text: &str, prefix: &'static str) -> Result<Ulid, IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    let (found, suffix) = text.split_once('_').ok_or_else(|| IdError::NoSeparator(text.to_owned()))?;
    if found != prefix {
        return Err(IdError::WrongPrefix { expected: prefix, found: text.to_owned() });
    }
    let ulid = Ulid::from_string(suffix).map_err(|_| IdError::BadUlid(text.to_owned()))?;
    // Crockford's alphabet reads lower case and look-alikes too; one spelling per id keeps ids usable as keys.
    if ulid.to_string() == suffix { Ok(ulid) } else { Err(IdError::BadUlid(text.to_owned())) }
}

/// The longest prefix, `_` and a ULID.
const TEXT_MAX: usize = 5 + ulid::ULID_LEN;

/// An id's text. Not through `fmt`, nor over the heap: every event holds several, and this was a good part of an append.
fn spell<'a>(buffer: &'a mut [u8; TEXT_MAX], prefix: &str, ulid: Ulid) -> &'a str {
    let (head, tail) = buffer.split_at_mut(prefix.len() + 1);
    head[..prefix.len()].copy_from_slice(prefix.as_bytes());
    head[prefix.len()] = b'_';
    let (tail, _) = tail.split_first_chunk_mut().expect("there is room for a ULID");
    let len = head.len() + ulid.array_to_str(tail).len();
    str::from_utf8(&buffer[..len]).expect("prefixes and ULIDs are ASCII")
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal),* $(,)?) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub struct $name(Ulid);

            impl $name {
                pub const PREFIX: &'static str = $prefix;

                pub const fn new(ulid: Ulid) -> Self {
                    Self(ulid)
                }

                pub const fn ulid(self) -> Ulid {
                    self.0
                }
            }

            impl From<Ulid> for $name {
                fn from(ulid: Ulid) -> Self {
                    Self(ulid)
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(spell(&mut [0; TEXT_MAX], $prefix, self.0))
                }
            }

            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    fmt::Display::fmt(self, f)
                }
            }

            impl FromStr for $name {
                type Err = IdError;

                fn from_str(text: &str) -> Result<Self, IdError> {
                    parse(text, $prefix).map(Self)
                }
            }

            impl Serialize for $name {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.serialize_str(spell(&mut [0; TEXT_MAX], $prefix, self.0))
                }
            }

            impl<'de> Deserialize<'de> for $name {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                }
            }
        )*

        /// Every prefix, for the test that they differ.
        pub const PREFIXES: &[&str] = &[$($prefix),*];
    };
}

ids! {
    AppId = "app",
    BootId = "boot",
    DeployId = "dep",
    EnvId = "env",
    InstanceId = "inst",
    JoinTokenId = "enr",
    LogId = "log",
    NodeId = "node",
    OrgId = "org",
    ProjectId = "prj",
    ReleaseId = "rel",
    RequestId = "req",
    RouteId = "rt",
    SnapshotId = "snap",
    TemplateId = "tpl",
    TokenId = "tok",
    VolumeId = "vol",
}

#[cfg(test)]
mod tests;
