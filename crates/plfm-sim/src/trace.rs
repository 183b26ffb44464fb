//! The last things that happened, kept as values and put into words only when someone has to read them.

use std::collections::VecDeque;
use std::fmt;

use plfm_core::event::Envelope;
use plfm_core::ids::InstanceId;
use plfm_core::units::Timestamp;
use plfm_node::mind::{Action, Outcome};

use crate::scenario::What;

/// Enough to see what led to a violation, few enough to be read.
pub const KEPT: usize = 20;

/// A release's manifest would fill the screen.
const CHARS_MAX: usize = 300;

#[derive(Debug)]
pub struct Trace {
    notes: VecDeque<(Timestamp, Note)>,
    kept: usize,
}

#[derive(Debug)]
pub enum Note {
    Event(Box<Envelope>),
    Begins(usize, Action),
    Came(usize, InstanceId, Outcome),
    Machine(usize, InstanceId, &'static str),
    Node(usize, &'static str),
    Server(usize, &'static str),
    Step(What),
}

impl Trace {
    pub fn new(kept: usize) -> Self {
        Self { notes: VecDeque::new(), kept }
    }

    pub fn add(&mut self, at: Timestamp, note: Note) {
        if self.notes.len() >= self.kept {
            self.notes.pop_front();
        }
        self.notes.push_back((at, note));
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.notes.iter().try_for_each(|(at, note)| writeln!(f, "  {at}  {note}"))
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(envelope) => write!(f, "log {} {:.CHARS_MAX$}", envelope.seq, format!("{:?}", envelope.event)),
            Self::Begins(node, action) => write!(f, "node {node} begins {action:?}"),
            Self::Came(node, id, outcome) => write!(f, "node {node} {id} {outcome:?}"),
            Self::Machine(node, id, what) => write!(f, "node {node} machine of {id} {what}"),
            Self::Node(node, what) => write!(f, "node {node} {what}"),
            Self::Server(server, what) => write!(f, "server {server} {what}"),
            Self::Step(what) => write!(f, "step {what:?}"),
        }
    }
}
