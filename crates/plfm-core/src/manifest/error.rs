//! One error of a manifest, as data for programs and as text for people.

use std::fmt;

use serde::{Deserialize, Serialize};
use toml_edit::TomlError;

use super::rules::Refusal;
use super::{Code, MANIFEST_BYTES_MAX};

/// What is wrong, where, and what to write instead. Lines and columns (in characters) count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestError {
    pub code: Code,
    /// As `processes.web.ports[0].internal`; empty when the error concerns the file as such.
    pub path: String,
    pub line: u32,
    pub column: u32,
    pub message: String,
    pub hint: String,
}

/// The errors as a terminal shows them, one paragraph each.
pub fn render(errors: &[ManifestError], file_name: &str) -> String {
    errors.iter().map(|error| error.paragraph(file_name)).collect::<Vec<_>>().join("\n")
}

impl ManifestError {
    pub(super) fn new(refusal: Refusal, path: String, lines: &Lines, offset: usize) -> Self {
        let (line, column) = lines.position(offset);
        Self { code: refusal.code, path, line, column, message: refusal.message, hint: refusal.hint }
    }

    pub(super) fn too_large(bytes: usize) -> Self {
        let message = format!("the manifest has {bytes} bytes, the limit is {MANIFEST_BYTES_MAX}");
        let refusal =
            Refusal::new(Code::TooLarge, message, "move large values out of `vars`, into secrets or the image");
        Self::new(refusal, String::new(), &Lines::of(""), 0)
    }

    pub(super) fn utf8(bytes: &[u8], valid_up_to: usize) -> Self {
        let valid = String::from_utf8_lossy(&bytes[..valid_up_to]);
        let message = format!("byte {valid_up_to} of the manifest is not UTF-8");
        let refusal = Refusal::new(Code::Utf8, message, "save the file as UTF-8");
        Self::new(refusal, String::new(), &Lines::of(&valid), valid_up_to)
    }

    pub(super) fn syntax(text: &str, error: &TomlError) -> Self {
        let offset = error.span().map_or(text.len(), |span| span.start);
        let refusal = Refusal::new(Code::Syntax, error.message(), "see https://toml.io for the syntax of TOML");
        Self::new(refusal, String::new(), &Lines::of(text), offset)
    }

    fn paragraph(&self, file_name: &str) -> String {
        let Self { code, path, line, message, hint, .. } = self;
        let place = format!("{file_name}:{line} {path}");
        format!("error[{code}]: {message}\n  --> {}\n  hint: {hint}\n", place.trim_end())
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at line {}: {}", self.code, self.line, self.message)
    }
}

impl std::error::Error for ManifestError {}

/// Where each line of a text starts, so that an offset is found without reading the text again.
pub(super) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub fn of(text: &'a str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self { text, starts: std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect() }
    }

    fn position(&self, offset: usize) -> (u32, u32) {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.starts.partition_point(|start| *start <= offset);
        let column = self.text[self.starts[line - 1]..offset].chars().count() + 1;
        (count(line), count(column))
    }
}

fn count(places: usize) -> u32 {
    u32::try_from(places).unwrap_or(u32::MAX)
}
