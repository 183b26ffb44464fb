//! What is said about a key that has no meaning: some are known from elsewhere and get an answer of their own
//! (P-MAN-8), the others the nearest known key.

use super::Code;
use super::rules::{Refusal, quoted};

struct Refused {
    /// The table in which the key is refused this way; `*` is any, "" the top of the file.
    table: &'static str,
    keys: &'static [&'static str],
    code: Code,
    hint: &'static str,
}

const REFUSED: &[Refused] = &[
    Refused {
        table: "*",
        keys: &["autoscale", "autoscaling"],
        code: Code::AutoscaleUnsupported,
        hint: "set `scaling.min` and `scaling.max`, and scale with `plfm scale`",
    },
    Refused {
        table: "*",
        keys: &[
            "privileged",
            "cap_add",
            "capabilities",
            "devices",
            "security_opt",
            "host_network",
            "host_pid",
            "host_ipc",
            "host_mounts",
            "host_path",
            "network_mode",
        ],
        code: Code::Privileged,
        hint: "remove it: a process has a whole machine of its own, and nothing of the host",
    },
    Refused {
        table: "mounts",
        keys: &["host", "source"],
        code: Code::Privileged,
        hint: "mount a volume: declare it in `[[volumes]]` and name it in `volume`",
    },
    Refused {
        table: "secrets",
        keys: &["path", "mount_path", "file"],
        code: Code::SecretsPath,
        hint: "remove it: secrets are always in `/run/secrets/platform.env`",
    },
    Refused {
        table: "",
        keys: &["build"],
        code: Code::UnknownField,
        hint: "build and push the image yourself, then name it in `image.ref`",
    },
    Refused {
        table: "",
        keys: &["endpoints", "routes"],
        code: Code::UnknownField,
        hint: "declare `ports` of a process, then add a route with `plfm routes`",
    },
    Refused {
        table: "",
        keys: &["manifest_version", "version"],
        code: Code::UnknownField,
        hint: "write `schema_version = \"v1\"`",
    },
];

/// `known` are the keys that `table` has.
pub(super) fn refuse_key(table: &str, key: &str, known: &[&str]) -> Refusal {
    let applies = |refused: &&Refused| (refused.table == "*" || refused.table == table) && refused.keys.contains(&key);
    match REFUSED.iter().find(applies) {
        Some(refused) => Refusal::new(refused.code, format!("{} is not supported", quoted(key)), refused.hint),
        None => {
            Refusal::new(Code::UnknownField, format!("{} is not a known key here", quoted(key)), suggestion(key, known))
        }
    }
}

fn suggestion(key: &str, known: &[&str]) -> String {
    let distance = |other: &&str| strsim::osa_distance(key, other);
    match nearby(key).then(|| known.iter().min_by_key(|other| distance(other))).flatten() {
        Some(nearest) if distance(nearest) <= 1 + nearest.len() / 4 => format!("did you mean `{nearest}`?"),
        _ => format!("known keys: {}", known.join(", ")),
    }
}

/// A key much longer than any known one is near to none, and comparing it would take long.
fn nearby(key: &str) -> bool {
    key.len() <= 64
}
