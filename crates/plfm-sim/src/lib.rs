//! The whole fleet in one thread, from a seed: one writer, three nodes, one queue of virtual time.
//!
//! What decides is the real thing: `Sequencer`, `decide`, `reconcile`, the plan stream, the node's mind. What acts is played:
//! machines, pulls and probes take random time and fail, documents are lost, doubled, late and out of order, writer and nodes crash
//! at any step. After ten virtual minutes of that the faults end, every environment gets a sound release, and all of it has to
//! become ready with nothing left over. A [`Judge`](judge::Judge) reads along and knows what must never be.

pub mod world;

mod coverage;
mod ctx;
mod host;
mod judge;
mod node;
mod operator;
mod queue;
mod settled;
mod trace;
mod writer;

pub use coverage::Coverage;
pub use trace::KEPT;
pub use world::{Failed, run};

#[cfg(test)]
mod tests;
