//! The server: one writer over the log, the HTTP API, the plans of the nodes and their reports.
//!
//! A handler is four steps: parse, make the command, submit, show the view. What is decided is decided in `plfm-core`; this crate
//! brings the clock, the entropy, the disk and the sockets. It never speaks to a machine: that is the node's.

pub mod ca;
mod cluster;
mod error;
mod handlers;
mod identity;
mod metrics;
pub mod routes;
pub mod secrets;
mod serve;
mod terminal;
mod traffic;
pub mod writer;

pub use error::{ApiError, ServerError};
pub use plfm_store::StoreError;
pub use serve::{Config, Server};
