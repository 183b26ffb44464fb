//! From an OCI reference to file system images that a machine can mount.
//!
//! A layer never becomes files on the host: its bytes are verified, decompressed, read as a tar and written as an EROFS
//! image in one pass ([`layer`], [`erofs`]). [`ImageStore`] keeps the images by content, makes each once, and merges
//! layers where there are more than a machine has devices for ([`merge`]). Where bytes come from is [`registry`]'s and
//! [`layout`]'s. Starting a process in an image, and stacking the devices, is the guest's.

pub mod erofs;
pub mod error;
pub mod layer;
pub mod layout;
pub mod limits;
pub mod manifest;
pub mod merge;
pub mod platform;
pub mod reference;
pub mod registry;
mod resolve;
mod source;
pub mod store;

pub use error::ImageError;
pub use limits::Limits;
pub use manifest::ImageConfig;
pub use platform::Platform;
pub use reference::ImageRef;
pub use registry::{Credentials, Registries};
pub use resolve::{Resolved, resolve};
pub use store::{Image, ImageStore, Progress};

#[cfg(test)]
mod testing;
