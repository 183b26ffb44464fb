//! The stable names of everything that can be wrong with a manifest; scripts match on them, so none is ever renamed.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($name:ident = $code:literal),* $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code { $(#[serde(rename = $code)] $name),* }

        impl Code {
            pub const ALL: &[Code] = &[$(Code::$name),*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$name => $code),* }
            }
        }
    };
}

codes! {
    TooLarge = "E_MANIFEST_TOO_LARGE",
    Utf8 = "E_UTF8",
    Syntax = "E_SYNTAX",
    UnknownField = "E_UNKNOWN_FIELD",
    Type = "E_TYPE",
    SchemaVersion = "E_SCHEMA_VERSION",
    NameLength = "E_NAME_LENGTH",
    ImageRef = "E_IMAGE_REF",
    ImageDigest = "E_IMAGE_DIGEST",
    PullPolicy = "E_PULL_POLICY",
    VarKey = "E_VAR_KEY",
    VarSize = "E_VAR_SIZE",
    VarReserved = "E_VAR_RESERVED",
    Path = "E_PATH",
    User = "E_USER",
    CommandEmpty = "E_COMMAND_EMPTY",
    TimeoutRange = "E_TIMEOUT_RANGE",
    NoProcesses = "E_NO_PROCESSES",
    ProcessName = "E_PROCESS_NAME",
    MemoryFormat = "E_MEMORY_FORMAT",
    MemoryRange = "E_MEMORY_RANGE",
    CpuRange = "E_CPU_RANGE",
    DiskRange = "E_DISK_RANGE",
    ScalingRange = "E_SCALING_RANGE",
    AutoscaleUnsupported = "E_AUTOSCALE_UNSUPPORTED",
    RestartPolicy = "E_RESTART_POLICY",
    RestartRetries = "E_RESTART_RETRIES",
    PortName = "E_PORT_NAME",
    PortRange = "E_PORT_RANGE",
    PortDuplicate = "E_PORT_DUPLICATE",
    PortProtocol = "E_PORT_PROTOCOL",
    HealthType = "E_HEALTH_TYPE",
    HealthPort = "E_HEALTH_PORT",
    HealthPath = "E_HEALTH_PATH",
    HealthTiming = "E_HEALTH_TIMING",
    MountVolumeUnknown = "E_MOUNT_VOLUME_UNKNOWN",
    MountPath = "E_MOUNT_PATH",
    MountReserved = "E_MOUNT_RESERVED",
    MountDuplicate = "E_MOUNT_DUPLICATE",
    MountOverlap = "E_MOUNT_OVERLAP",
    SecretsPath = "E_SECRETS_PATH",
    VolumeName = "E_VOLUME_NAME",
    VolumeDuplicate = "E_VOLUME_DUPLICATE",
    VolumeSize = "E_VOLUME_SIZE",
    VolumeFilesystem = "E_VOLUME_FILESYSTEM",
    VolumeReplicaLimit = "E_VOLUME_REPLICA_LIMIT",
    VolumeShared = "E_VOLUME_SHARED",
    Privileged = "E_PRIVILEGED",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
