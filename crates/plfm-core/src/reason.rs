//! Why an instance is not ready: the closed set of P-RSN-1, as the design renames and extends it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is done about a failure, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The node tries again, by the restart policy.
    Retry,
    /// Another node may do better.
    Elsewhere,
    /// The same release fails everywhere: someone has to change the image or the manifest.
    User,
    /// Someone has to look at the node or the platform.
    Operator,
    /// Not a failure.
    None,
}

macro_rules! reasons {
    ($($name:ident = $code:literal, $remedy:ident, $hint:literal;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Reason { $($name),* }

        impl Reason {
            pub const ALL: &[Reason] = &[$(Reason::$name),*];

            /// The stable code, as in events, metrics and the command line.
            pub const fn code(self) -> &'static str {
                match self { $(Reason::$name => $code),* }
            }

            pub const fn remedy(self) -> Remedy {
                match self { $(Reason::$name => Remedy::$remedy),* }
            }

            /// What to do next, said to the person who deployed.
            pub const fn hint(self) -> &'static str {
                match self { $(Reason::$name => $hint),* }
            }
        }
    };
}

reasons! {
    ImagePullFailed = "image_pull_failed", Elsewhere, "check the reference, and that the registry holds the image as it was pushed";
    ImagePullTimeout = "image_pull_timeout", Elsewhere, "the registry is slow or the image large; use a nearer mirror";
    ImageTooLarge = "image_too_large", User, "make the image smaller";
    ImageLayerInvalid = "image_layer_invalid", User, "rebuild and push the image: the detail says what of it is not valid";
    ImagePlatformUnavailable = "image_platform_unavailable", User, "build the image for the architecture of a node (see `plfm nodes`)";
    RootfsBuildFailed = "rootfs_build_failed", Elsewhere, "look at the node's log and disk";
    DiskFull = "disk_full", Elsewhere, "free disk space on the node or ask for a smaller disk";
    VmmStartFailed = "vmm_start_failed", Elsewhere, "run `plfm doctor` on the node";
    NetworkSetupFailed = "network_setup_failed", Retry, "run `plfm doctor` on the node";
    ConfigHandshakeFailed = "config_handshake_failed", Retry, "the guest did not answer; see `plfm logs --console`";
    GuestProtocolMismatch = "guest_protocol_mismatch", Operator, "reinstall plfm on the node: its guest daemon is of another version";
    VolumeAttachFailed = "volume_attach_failed", Operator, "look at the volume's state";
    SecretsMissing = "secrets_missing", User, "set the secrets of this environment";
    SecretsInjectionFailed = "secrets_injection_failed", Retry, "try again";
    PrestartFailed = "prestart_failed", User, "see `plfm logs`: the prestart command did not end well";
    WorkloadStartFailed = "workload_start_failed", User, "check `command`, `workdir` and `user` against what the image holds";
    StartupTimeout = "startup_timeout", User, "the process did not become ready in time; see `plfm logs`";
    HealthcheckFailed = "healthcheck_failed", Retry, "see `plfm logs`: the process does not answer well on the port in the manifest";
    OomKilled = "oom_killed", User, "raise `resources.memory`";
    WorkloadExited = "workload_exited", Retry, "see `plfm logs`: the process ended";
    CrashLoopBackoff = "crash_loop_backoff", User, "see `plfm logs`: the process keeps ending";
    TerminatedByOperator = "terminated_by_operator", None, "nothing to do";
    NodeDraining = "node_draining", None, "nothing to do";
    NodeLost = "node_lost", Elsewhere, "look at the node";
    SpecUnsupported = "spec_unsupported", Operator, "upgrade plfm on the node";
    RefreshFailed = "refresh_failed", Retry, "start a new sandbox";
    SnapshotFailed = "snapshot_failed", Retry, "try again";
    RestoreFailed = "restore_failed", Retry, "try again";
    Ttl = "ttl", None, "raise the timeout";
    Idle = "idle", None, "nothing to do";
    Budget = "budget", None, "raise the budget";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A reason with what was seen: one sentence for people, without host paths or secrets, at most 256 characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub reason: Reason,
    pub detail: String,
}

/// P-RSN-3.
pub const DETAIL_CHARS_MAX: usize = 256;

impl Failure {
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if let Some((cut, _)) = detail.char_indices().nth(DETAIL_CHARS_MAX) {
            detail.truncate(cut);
        }
        Self { reason, detail }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail.is_empty() {
            write!(f, "{}", self.reason)
        } else {
            write!(f, "{}: {}", self.reason, self.detail)
        }
    }
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_the_json_form() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_string(reason).unwrap(), format!("\"{}\"", reason.code()));
        }
    }
}
