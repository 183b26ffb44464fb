//! The node: keeps what its plan says, reports what is here. It never schedules, and nobody but the server speaks to it.
//!
//! [`mind`] thinks and is pure; the [`executor`] acts on what it says through the [`hands`]; the [`link`] carries plan and report;
//! the [`tunnel`] lets the server and the edges in.

mod capacity;
mod error;
mod executor;
mod guest;
mod hands;
pub mod join;
mod link;
mod logs;
mod memory;
pub mod mind;
pub mod net;
mod node;
mod tunnel;

pub use error::NodeError;
pub use node::{AtEnd, Claim, Config, Node};
