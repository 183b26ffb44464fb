//! Every contract between processes: what the HTTP API takes and answers, the documents in which server and node meet, the frames
//! and services between host and guest. Types only, unless a feature asks for the code that carries them.

pub mod client_hello;
pub mod documents;
pub mod problem;
pub mod term;
pub mod views;

#[cfg(feature = "channel")]
pub mod channel;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "envd")]
pub mod envd;
#[cfg(feature = "tunnel")]
pub mod forward;
#[cfg(feature = "guest")]
pub mod guest;
#[cfg(feature = "rpc")]
pub mod rpc;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "tunnel")]
pub mod tunnel;
