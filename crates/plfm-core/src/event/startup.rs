//! What runs in a sandbox before it is anybody's. Part of the events, and so of the contract.

use serde::{Deserialize, Serialize};

/// Two commands of a template, as its shell takes them: what is kept as the beginning of its sandboxes has run both.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Startup {
    /// Goes on running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Tried until it ends well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
}

impl Startup {
    pub const fn is_empty(&self) -> bool {
        self.start.is_none() && self.ready.is_none()
    }
}
