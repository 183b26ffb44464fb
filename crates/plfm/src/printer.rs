//! All that is written: data to standard output, the rest to standard error. Colour only on a terminal, and words always suffice.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use plfm_core::units::Timestamp;
use serde::Serialize;
use serde_json::Value;

mod live;
mod table;

pub use live::Live;
pub use table::Table;

pub struct Printer {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    json: bool,
    colour: bool,
    /// Whether standard error is a terminal, where a line can be written over.
    live: bool,
}

#[derive(Debug, Clone, Copy)]
pub enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Cyan = 36,
    Dim = 2,
}

impl Printer {
    pub fn standard(json: bool) -> Self {
        let live = io::stderr().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { out: Box::new(io::stdout()), err: Box::new(io::stderr()), json, colour: live && !plain, live }
    }

    /// Writes where a test can read it; no terminal, no colour.
    pub fn to(out: impl Write + Send + 'static, err: impl Write + Send + 'static, json: bool) -> Self {
        Self { out: Box::new(out), err: Box::new(err), json, colour: false, live: false }
    }

    /// Whether the only thing on standard output is JSON.
    pub const fn is_json(&self) -> bool {
        self.json
    }

    /// A line of data.
    pub fn line(&mut self, line: impl fmt::Display) -> io::Result<()> {
        writeln!(self.out, "{line}")
    }

    /// Bytes of data, at once.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    /// Bytes of what a program said on its standard error.
    pub fn error_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.err.write_all(bytes)?;
        self.err.flush()
    }

    /// The one document of a command: what is given, with its `schema`.
    pub fn document(&mut self, kind: &str, body: &impl Serialize) -> io::Result<()> {
        let mut document = object(body)?;
        document.insert("schema".to_owned(), schema(kind));
        serde_json::to_writer_pretty(&mut self.out, &document)?;
        writeln!(self.out)
    }

    /// One line of a stream of JSON.
    pub fn item(&mut self, kind: &str, at: Timestamp, body: &impl Serialize) -> io::Result<()> {
        let mut item = object(body)?;
        item.insert("schema".to_owned(), schema(kind));
        item.insert("type".to_owned(), kind.into());
        item.insert("ts".to_owned(), at.to_string().into());
        serde_json::to_writer(&mut self.out, &item)?;
        writeln!(self.out)?;
        self.out.flush()
    }

    pub fn table(&mut self, table: &Table) -> io::Result<()> {
        write!(self.out, "{table}")
    }

    /// Something to know, for people.
    pub fn note(&mut self, text: impl fmt::Display) {
        // Who cannot read what standard error says does not need it.
        let _ = writeln!(self.err, "{text}");
    }

    pub fn done(&mut self, text: impl fmt::Display) {
        let mark = self.paint(Colour::Green, "done:");
        self.note(format_args!("{mark} {text}"));
    }

    pub fn warn(&mut self, text: impl fmt::Display) {
        let mark = self.paint(Colour::Yellow, "warning:");
        self.note(format_args!("{mark} {text}"));
    }

    /// What went wrong, why, and what to do.
    pub fn error(&mut self, error: &dyn std::error::Error, hint: &str, request: Option<&str>) {
        let mark = self.paint(Colour::Red, "error:");
        self.note(format_args!("{mark} {error}"));
        let mut before = error.to_string();
        for cause in std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string) {
            // Some errors quote their cause.
            if !before.contains(&cause) {
                self.note(format_args!("  cause: {cause}"));
            }
            before = cause;
        }
        if !hint.is_empty() {
            let mark = self.paint(Colour::Cyan, "hint:");
            self.note(format_args!("\n{mark} {hint}"));
        }
        if let Some(request) = request {
            self.note(format_args!("request: {request}"));
        }
    }

    pub fn live(&self) -> Live {
        Live::new(self.live && !self.json)
    }

    pub fn paint(&self, colour: Colour, text: &str) -> String {
        if self.colour { format!("\x1b[{}m{text}\x1b[0m", colour as u8) } else { text.to_owned() }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn schema(kind: &str) -> Value {
    format!("plfm.{kind}.v1").into()
}

/// A list becomes `items`.
fn object(body: &impl Serialize) -> io::Result<serde_json::Map<String, Value>> {
    Ok(match serde_json::to_value(body)? {
        Value::Object(object) => object,
        other => serde_json::Map::from_iter([("items".to_owned(), other)]),
    })
}

/// Where a test reads what was written.
#[cfg(test)]
#[derive(Clone, Default)]
pub struct Memory(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

#[cfg(test)]
impl Memory {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no test panics in it").clone()).expect("text was written")
    }
}

#[cfg(test)]
impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no test panics in it").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
