//! The last things that happened, kept as values and put into words only when someone has to read them.

use std::collections::VecDeque;
use std::fmt;

use plfm_core::event::Envelope;
use plfm_core::ids::InstanceId;
use plfm_core::units::Timestamp;
use plfm_node::mind::{Action, Outcome};

/// Enough to see what led to a violation, few enough to be read.
const KEPT: usize = 20;

#[derive(Debug, Default)]
pub struct Trace(VecDeque<(Timestamp, Note)>);

#[derive(Debug)]
pub enum Note {
    Event(Box<Envelope>),
    Begins(usize, Action),
    Came(usize, InstanceId, Outcome),
    Machine(usize, InstanceId, &'static str),
    Node(usize, &'static str),
    Writer(&'static str),
}

impl Trace {
    pub fn add(&mut self, at: Timestamp, note: Note) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((at, note));
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(at, note)| writeln!(f, "  {at}  {note}"))
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(envelope) => write!(f, "log {} {:?}", envelope.seq, envelope.event),
            Self::Begins(node, action) => write!(f, "node {node} begins {action:?}"),
            Self::Came(node, id, outcome) => write!(f, "node {node} {id} {outcome:?}"),
            Self::Machine(node, id, what) => write!(f, "node {node} machine of {id} {what}"),
            Self::Node(node, what) => write!(f, "node {node} {what}"),
            Self::Writer(what) => write!(f, "writer {what}"),
        }
    }
}
