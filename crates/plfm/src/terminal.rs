//! This side's terminal: its size, and raw mode for as long as someone else's program is typed to.

use std::io::{self, IsTerminal};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Where there is no terminal to ask.
const SIZE: (u16, u16) = (80, 24);

/// Columns and rows.
pub fn size() -> (u16, u16) {
    let asked = [rustix::stdio::stdout(), rustix::stdio::stderr(), rustix::stdio::stdin()].into_iter();
    let sizes = asked.filter(IsTerminal::is_terminal).filter_map(|terminal| tcgetwinsize(terminal).ok());
    let known = sizes.map(|size| (size.ws_col, size.ws_row)).find(|(cols, rows)| *cols > 0 && *rows > 0);
    known.unwrap_or(SIZE)
}

/// Every key goes to the other side, until this is dropped.
pub struct Raw {
    before: Termios,
}

impl Raw {
    pub fn enter() -> io::Result<Self> {
        let before = tcgetattr(rustix::stdio::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &self.before);
    }
}
