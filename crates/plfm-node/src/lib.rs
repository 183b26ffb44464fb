//! The node: keeps what its plan says, reports what is here. It never schedules, and nobody but the server speaks to it.
//!
//! [`mind`] thinks and is pure; the `executor` acts on what it says through the `hands`; the `link` carries plan and report;
//! the `tunnel` lets the server and the edges in. Without the feature `host` only the mind is there.

#[cfg(feature = "host")]
mod capacity;
#[cfg(feature = "host")]
mod error;
#[cfg(feature = "host")]
mod executor;
#[cfg(feature = "host")]
mod guest;
#[cfg(feature = "host")]
mod hands;
#[cfg(feature = "host")]
pub mod join;
#[cfg(feature = "host")]
mod link;
#[cfg(feature = "host")]
mod logs;
#[cfg(feature = "host")]
mod memory;
pub mod mind;
#[cfg(feature = "host")]
pub mod net;
#[cfg(feature = "host")]
mod node;
#[cfg(feature = "host")]
mod tunnel;

#[cfg(feature = "host")]
pub use error::NodeError;
#[cfg(feature = "host")]
pub use node::{AtEnd, Claim, Config, Node};
