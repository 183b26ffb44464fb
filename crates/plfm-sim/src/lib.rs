//! The whole fleet in one thread, from a seed: servers on one log, nodes, edges and clients on one queue of virtual time.
//!
//! What thinks is the real thing: `decide` and `reconcile` at a `Desk`, the plan stream, the node's mind, the route table. What acts
//! is played: machines, pulls and probes take time and fail, documents are lost, doubled, late and out of order, servers, nodes and
//! the log's disk crash at any step. A [`Scenario`] says what clients ask and what goes wrong; after eight virtual minutes of it the
//! faults end, every environment gets a sound release, and all of it has to become ready with nothing left over. A judge reads along
//! and knows what must never be. A scenario that fails is [shrunk](shrink) to the steps that matter.

pub mod ctx;
pub mod scenario;
pub mod world;

mod client;
mod coverage;
mod disk;
mod edge;
mod host;
mod judge;
mod node;
mod queue;
mod server;
mod settled;
mod shrink;
mod trace;

#[cfg(feature = "broken")]
pub mod broken;

pub use coverage::Coverage;
pub use ctx::Minds;
pub use scenario::Scenario;
pub use shrink::shrink;
pub use trace::KEPT;
pub use world::{Failed, Passed, run};

#[cfg(test)]
mod tests;
