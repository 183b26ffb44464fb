//! Every contract between processes: what the HTTP API takes and answers, the documents in which server and node meet, the frames
//! and services between host and guest. Types only, unless a feature asks for the code that carries them.

pub mod documents;
pub mod views;

#[cfg(feature = "channel")]
pub mod channel;
