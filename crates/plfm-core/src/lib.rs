//! The platform as pure functions.
//!
//! Everything that happened is an [`Event`](event::Event); [`State`](state::State) is a fold over them. [`decide`](decide::decide)
//! turns a command into events, [`evolve`](evolve::evolve) applies one, [`reconcile`](reconcile::reconcile) says what the platform itself
//! wants next, and [`check`](check::check) is the second reader that knows what must never be. Nothing here reads a clock, draws a
//! random number, does input or output, or waits.

pub mod check;
pub mod command;
pub mod decide;
pub mod digest;
pub mod event;
pub mod evolve;
pub mod explain;
pub mod facts;
pub mod fair;
pub mod ids;
pub mod index;
pub mod labels;
pub mod manifest;
pub mod phase;
pub mod place;
pub mod quota;
pub mod reason;
pub mod reconcile;
pub mod refusal;
pub mod sequencer;
pub mod state;
#[cfg(test)]
mod testing;
pub mod units;
