//! The rules for single files.

use super::Finding;

/// rustfmt holds code to 120 columns; this bounds the comments and strings that it leaves alone.
const LINE_CHARS_MAX: usize = 140;
/// A longer file has a second reason to change.
const FILE_LINES_MAX: usize = 500;

/// Words that may not stand in any source, with what to do instead. In two halves, so that this file may.
const WORDS: &[(&str, &str, &str)] = &[
    ("to", "do!(", "write it, or return an error that says it can't be done"),
    ("unimple", "mented!(", "write it, or return an error that says it can't be done"),
    ("db", "g!(", "use tracing, or remove it"),
    ("TO", "DO", "do it, or open an issue"),
    ("FIX", "ME", "fix it, or open an issue"),
];

pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if is_text(path) {
        findings.extend(ends(text));
    }
    if path.ends_with(".rs") {
        findings.extend(words(text));
    }
    if path.ends_with(".rs") && !is_test(path) {
        let shipped = shipped(text);
        findings.extend(long_lines(shipped).chain(unwraps(shipped)).chain(long_file(shipped)).chain(headless(text)));
    }
    findings.into_iter().map(|(line, message)| Finding { path: path.to_owned(), line, message }).collect()
}

type Found = (usize, String);

fn is_text(path: &str) -> bool {
    [".rs", ".toml", ".md", ".proto", ".yml", ".sh"].iter().any(|ending| path.ends_with(ending))
}

/// What tests of other crates use, and a contract suite that every implementation runs, are tests too.
fn is_test(path: &str) -> bool {
    ["/tests.rs", "/testing.rs", "/contract.rs"].iter().any(|name| path.ends_with(name))
        || ["/tests/", "/benches/"].iter().any(|folder| path.contains(folder))
}

/// The text without the tests at its end.
fn shipped(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests {").map_or(text, |at| &text[..at])
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

fn long_lines(text: &str) -> impl Iterator<Item = Found> {
    let counted = numbered(text).map(|(number, line)| (number, line.chars().count()));
    let long = counted.filter(|(_, chars)| *chars > LINE_CHARS_MAX);
    long.map(|(number, chars)| (number, format!("{chars} characters in a line, {LINE_CHARS_MAX} are the limit")))
}

fn unwraps(text: &str) -> impl Iterator<Item = Found> {
    let code = numbered(text).filter(|(_, line)| !line.trim_start().starts_with("//"));
    let message = "`unwrap` outside tests: use `expect` with the reason why it can't fail, or return the error";
    code.filter(|(_, line)| line.contains(concat!(".unw", "rap()"))).map(|(number, _)| (number, message.to_owned()))
}

fn long_file(text: &str) -> Option<Found> {
    let lines = text.lines().count();
    (lines > FILE_LINES_MAX).then(|| (0, format!("{lines} lines without tests, {FILE_LINES_MAX} are the limit")))
}

fn headless(text: &str) -> Option<Found> {
    (!text.starts_with("//!")).then(|| (1, "the file does not open with `//!` and what it is for".to_owned()))
}

fn words(text: &str) -> impl Iterator<Item = Found> {
    WORDS.iter().flat_map(move |(one, two, instead)| {
        let word = format!("{one}{two}");
        let message = format!("`{word}`: {instead}");
        numbered(text).filter(move |(_, line)| line.contains(&word)).map(move |(number, _)| (number, message.clone()))
    })
}

fn ends(text: &str) -> impl Iterator<Item = Found> {
    let spaces = numbered(text).filter(|(_, line)| line.ends_with([' ', '\t', '\r']));
    let spaces = spaces.map(|(number, _)| (number, "white space at the end of the line".to_owned()));
    let last =
        (!text.is_empty() && !text.ends_with('\n')).then(|| (0, "no line feed at the end of the file".to_owned()));
    spaces.chain(last)
}

#[cfg(test)]
mod tests;
