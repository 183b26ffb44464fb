//! Walks a TOML document and gathers every error with its place.
//!
//! A [`Section`] remembers the keys it was asked for and refuses the others, so the function that reads a table is
//! also the list of its fields. What is wrong or missing is none, so a rule over several fields speaks only when it
//! has them all.

use std::cell::RefCell;

use toml_edit::{ArrayOfTables, Item, Key, Table, TableLike, Value};

use super::Code;
use super::error::{Lines, ManifestError};
use super::refused_keys::refuse_key;
use super::rules::{Refusal, Ruled, shortened};

/// What was found wrong, in the order of finding.
#[derive(Default)]
pub(super) struct Report(RefCell<Vec<(usize, String, Refusal)>>);

impl Report {
    pub fn into_errors(self, lines: &Lines) -> Vec<ManifestError> {
        let mut found = self.0.into_inner();
        found.sort_by_key(|(at, ..)| *at);
        found.into_iter().map(|(at, path, refusal)| ManifestError::new(refusal, path, lines, at)).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

/// A spot in the file: what an error points at.
#[derive(Clone)]
pub(super) struct Place<'a> {
    report: &'a Report,
    path: String,
    pub name: &'a str,
    at: usize,
}

impl<'a> Place<'a> {
    pub fn refuse<T>(&self, refusal: Refusal) -> Option<T> {
        self.report.0.borrow_mut().push((self.at, self.path.clone(), refusal));
        None
    }

    pub fn judge<T>(&self, ruled: Ruled<T>) -> Option<T> {
        ruled.map_or_else(|refusal| self.refuse(refusal), Some)
    }

    fn absent(&self, key: &'static str) -> Self {
        Self { path: join(&self.path, key), name: key, ..*self }
    }

    fn key(&self, key: &'a Key) -> Self {
        Self {
            at: key.span().map_or(self.at, |span| span.start),
            path: join(&self.path, key.get()),
            name: key.get(),
            ..*self
        }
    }

    fn element(&self, index: usize) -> Self {
        Self { path: format!("{}[{index}]", self.path), ..*self }
    }
}

fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let dot = if path.is_empty() { "" } else { "." };
    let shown = shortened(key);
    if bare { format!("{path}{dot}{shown}") } else { format!("{path}{dot}{shown:?}") }
}

/// A value with its place.
pub(super) struct Node<'a> {
    pub place: Place<'a>,
    toml: Toml<'a>,
}

#[derive(Clone, Copy)]
enum Toml<'a> {
    Value(&'a Value),
    Table(&'a Table),
    Tables(&'a ArrayOfTables),
}

impl<'a> Node<'a> {
    fn new(place: Place<'a>, toml: Toml<'a>) -> Self {
        let span = match toml {
            Toml::Value(value) => value.span(),
            Toml::Table(table) => table.span(),
            Toml::Tables(tables) => tables.span(),
        };
        Self { place: Place { at: span.map_or(place.at, |span| span.start), ..place }, toml }
    }

    fn of_item(place: Place<'a>, item: &'a Item) -> Option<Self> {
        let toml = match item {
            Item::None => return None,
            Item::Value(value) => Toml::Value(value),
            Item::Table(table) => Toml::Table(table),
            Item::ArrayOfTables(tables) => Toml::Tables(tables),
        };
        Some(Self::new(place, toml))
    }

    pub fn value(&self) -> Option<&'a Value> {
        if let Toml::Value(value) = self.toml { Some(value) } else { None }
    }

    /// The table, or a report that it is none.
    pub fn table(&self) -> Option<&'a dyn TableLike> {
        self.as_table().or_else(|| self.mistyped("a table", "{ key = \"value\" }"))
    }

    /// The elements of the list, or a report that it is none.
    pub fn elements(&self) -> Option<Vec<Node<'a>>> {
        self.as_list().or_else(|| self.mistyped("an array", "[\"one\", \"two\"]"))
    }

    fn as_table(&self) -> Option<&'a dyn TableLike> {
        match self.toml {
            Toml::Table(table) => Some(table),
            Toml::Value(value) => value.as_inline_table().map(|table| table as &dyn TableLike),
            Toml::Tables(_) => None,
        }
    }

    fn as_list(&self) -> Option<Vec<Node<'a>>> {
        let toml: Vec<Toml> = match self.toml {
            Toml::Table(_) => return None,
            Toml::Value(value) => value.as_array()?.iter().map(Toml::Value).collect(),
            Toml::Tables(tables) => tables.iter().map(Toml::Table).collect(),
        };
        Some(toml.into_iter().enumerate().map(|(index, toml)| Node::new(self.place.element(index), toml)).collect())
    }

    /// Reports that the value has another type than the field: `wanted` says which, `example` shows one.
    pub fn mistyped<T>(&self, wanted: &str, example: &str) -> Option<T> {
        let found = self.type_name();
        let hint = match (wanted, found) {
            ("a string", "integer" | "float" | "boolean" | "datetime") => "put the value in quotes".to_owned(),
            _ => format!("write {wanted}, for example `{example}`"),
        };
        self.place.refuse(Refusal::new(Code::Type, format!("expected {wanted}, found {found}"), hint))
    }

    fn type_name(&self) -> &'static str {
        match self.toml {
            Toml::Value(value) => value.type_name(),
            Toml::Table(_) => "table",
            Toml::Tables(_) => "array of tables",
        }
    }
}

/// A table that is being read.
pub(super) struct Section<'a> {
    place: Place<'a>,
    table: Option<&'a dyn TableLike>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub fn root<T>(report: &'a Report, table: &'a Table, reader: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let place = Place { report, path: String::new(), name: "", at: 0 };
        Self::new(place, Some(table)).read(reader)
    }

    pub fn new(place: Place<'a>, table: Option<&'a dyn TableLike>) -> Self {
        Self { place, table, known: Vec::new() }
    }

    pub fn read<T>(mut self, reader: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let value = reader(&mut self);
        self.refuse_unknown_keys();
        value
    }

    /// The key of this table in the one around it.
    pub fn name(&self) -> &'a str {
        self.place.name
    }

    fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    pub fn optional<T>(&mut self, key: &'static str, reader: impl FnOnce(Node<'a>) -> Option<T>) -> Option<T> {
        self.known.push(key);
        self.node(key).and_then(reader)
    }

    /// None only when the value is wrong.
    pub fn or<T>(&mut self, key: &'static str, default: T, reader: impl FnOnce(Node<'a>) -> Option<T>) -> Option<T> {
        let absent = !self.has(key);
        self.optional(key, reader).or(absent.then_some(default))
    }

    pub fn required<T>(
        &mut self,
        key: &'static str,
        (code, example): (Code, &str),
        reader: impl FnOnce(Node<'a>) -> Option<T>,
    ) -> Option<T> {
        if !self.has(key) {
            let refusal = Refusal::new(code, format!("`{key}` is missing"), format!("add `{example}`"));
            self.place.absent(key).refuse::<T>(refusal);
        }
        self.optional(key, reader)
    }

    /// A table whose fields have defaults or duties also when it is not written.
    pub fn table<T>(&mut self, key: &'static str, reader: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.has(key) {
            return self.optional(key, |node| Self::new(node.place.clone(), Some(node.table()?)).read(reader));
        }
        self.known.push(key);
        Section::new(self.place.absent(key), None).read(reader)
    }

    /// Reports at `key`, written or not.
    pub fn refuse<T>(&self, key: &'static str, refusal: Refusal) -> Option<T> {
        self.node(key).map_or_else(|| self.place.absent(key), |node| node.place).refuse(refusal)
    }

    /// Every key, known or not, with the place of the key itself and its value.
    pub fn entries(&self) -> Vec<(Place<'a>, Node<'a>)> {
        let keys = self.table.into_iter().flat_map(TableLike::iter).map(|(key, _)| key);
        keys.filter_map(|key| Some((self.key_place(key)?, self.node(key)?))).collect()
    }

    fn node(&self, key: &str) -> Option<Node<'a>> {
        Node::of_item(self.key_place(key)?, self.table?.get(key)?)
    }

    fn key_place(&self, key: &str) -> Option<Place<'a>> {
        self.table?.key(key).map(|key| self.place.key(key))
    }

    fn refuse_unknown_keys(&self) {
        for (place, _) in self.entries().iter().filter(|(place, _)| !self.known.contains(&place.name)) {
            place.refuse::<()>(refuse_key(self.name(), place.name, &self.known));
        }
    }
}
