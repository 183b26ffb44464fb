//! A few lines that follow what happens: drawn over on a terminal; elsewhere each new line is written once.

use std::collections::BTreeSet;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::Printer;

/// Calm enough to read, quick enough to look alive.
const TICK: Duration = Duration::from_millis(120);

pub struct Live {
    bar: Option<ProgressBar>,
    written: BTreeSet<String>,
}

impl Live {
    pub(super) fn new(terminal: bool) -> Self {
        let bar = terminal.then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(ProgressStyle::with_template("{spinner} {elapsed} {msg}").expect("the template is sound"));
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { bar, written: BTreeSet::new() }
    }

    /// What is the case now.
    pub fn show(&mut self, out: &mut Printer, lines: &[String]) {
        if let Some(bar) = &self.bar {
            return bar.set_message(lines.join("\n  "));
        }
        for line in lines {
            if self.written.insert(line.clone()) {
                out.note(line);
            }
        }
    }

    pub fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
