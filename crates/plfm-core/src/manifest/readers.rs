//! Readers turn a [`Node`] into a value, or report why not and return nothing. They are composed, as in
//! `each(table(port))`.

use std::collections::BTreeMap;

use toml_edit::Value;

use super::Code;
use super::rules::{Refusal, Ruled};
use super::section::{Node, Place, Section};

pub(super) fn table<T>(mut reader: impl FnMut(&mut Section) -> Option<T>) -> impl FnMut(Node) -> Option<T> {
    move |node| Section::new(node.place.clone(), Some(node.table()?)).read(&mut reader)
}

/// A list, each element by `reader`; nothing when one of them is wrong, after all of them were read.
pub(super) fn each<T>(mut reader: impl FnMut(Node) -> Option<T>) -> impl FnMut(Node) -> Option<Vec<T>> {
    move |node| all(node.elements()?.into_iter().map(&mut reader))
}

/// A table whose keys are names: `rule` says which, `reader` reads the values.
pub(super) fn entries<T>(
    rule: impl Fn(&str) -> Ruled<String>,
    mut reader: impl FnMut(Node) -> Option<T>,
) -> impl FnMut(Node) -> Option<BTreeMap<String, T>> {
    move |node| {
        let section = Section::new(node.place.clone(), Some(node.table()?));
        let entries = section.entries().into_iter();
        let read = |(place, value): (Place, Node)| {
            let (name, value) = (place.judge(rule(place.name)), reader(value));
            name.zip(value)
        };
        all(entries.map(read)).map(BTreeMap::from_iter)
    }
}

/// Reads to the end before it gives up, so that every error is reported.
fn all<T>(values: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    let values: Vec<Option<T>> = values.collect();
    values.into_iter().collect()
}

/// A string that obeys `rule`.
pub(super) fn text<T>(mut rule: impl FnMut(&str) -> Ruled<T>) -> impl FnMut(Node) -> Option<T> {
    move |node| match node.value().and_then(Value::as_str) {
        Some(text) => node.place.judge(without_nul(text).and_then(&mut rule)),
        None => node.mistyped("a string", "\"text\""),
    }
}

fn without_nul(text: &str) -> Ruled<&str> {
    if text.contains('\0') {
        return Err(Refusal::new(Code::Type, "a string with a NUL byte can't reach a process", "remove `\\u0000`"));
    }
    Ok(text)
}

pub(super) fn integer<T>(mut rule: impl FnMut(i64) -> Ruled<T>) -> impl FnMut(Node) -> Option<T> {
    move |node| match node.value().and_then(Value::as_integer) {
        Some(number) => node.place.judge(rule(number)),
        None => node.mistyped("an integer", "10"),
    }
}

/// An integer is a number too.
pub(super) fn number<T>(mut rule: impl FnMut(f64) -> Ruled<T>) -> impl FnMut(Node) -> Option<T> {
    move |node| match node.value().and_then(|value| value.as_float().or(value.as_integer().map(|whole| whole as f64))) {
        Some(number) => node.place.judge(rule(number)),
        None => node.mistyped("a number", "1.5"),
    }
}

pub(super) fn flag(node: Node) -> Option<bool> {
    node.value().and_then(Value::as_bool).or_else(|| node.mistyped("a boolean", "true"))
}
