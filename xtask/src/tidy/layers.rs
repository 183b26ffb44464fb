//! Which crate may know which. Arrows point down; tests may look anywhere.

use anyhow::Context;
use serde_json::Value;

use super::Finding;

/// Each crate with the crates of this workspace that it may depend on.
const LAYERS: &[(&str, &[&str])] = &[
    ("plfm-core", &[]),
    ("plfm-api", &["plfm-core"]),
    ("plfm-store", &["plfm-core"]),
    ("plfm-image", &["plfm-core"]),
    ("plfm-net", &["plfm-core"]),
    ("plfm-runtime", &["plfm-core", "plfm-api"]),
    ("plfm-init", &["plfm-core", "plfm-api"]),
    ("plfm-edge", &["plfm-core", "plfm-api"]),
    ("plfm-node", &["plfm-core", "plfm-api", "plfm-image", "plfm-net", "plfm-runtime"]),
    // Tags become digests when a release is made (P-MAN-11): the server resolves them.
    ("plfm-server", &["plfm-core", "plfm-api", "plfm-image", "plfm-store"]),
    ("plfm-sim", &["plfm-core", "plfm-api", "plfm-node", "plfm-server", "plfm-store"]),
    (
        "plfm",
        &[
            "plfm-core",
            "plfm-api",
            "plfm-store",
            "plfm-image",
            "plfm-net",
            "plfm-runtime",
            "plfm-edge",
            "plfm-node",
            "plfm-server",
        ],
    ),
    ("xtask", &["plfm-core", "plfm-api", "plfm-sim"]),
];

/// The core waits for nothing: no runtime, no sockets, no clock of another crate.
const CORE_WITHOUT: &[&str] =
    &["tokio", "futures", "async-trait", "hyper", "axum", "reqwest", "rusqlite", "nix", "rustix"];

/// `metadata` is what `cargo metadata --no-deps` prints.
pub(super) fn check(metadata: &str) -> anyhow::Result<Vec<Finding>> {
    let metadata: Value = serde_json::from_str(metadata).context("cannot read the output of cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    Ok(packages.iter().flat_map(check_package).collect())
}

fn check_package(package: &Value) -> Vec<Finding> {
    let name = package["name"].as_str().unwrap_or_default();
    let finding = |message| Finding { path: format!("{name}/Cargo.toml"), line: 0, message };
    let Some((_, allowed)) = LAYERS.iter().find(|(each, _)| *each == name) else {
        return vec![finding(
            "the crate has no place among the layers yet: give it one in `xtask/src/tidy/layers.rs`".to_owned(),
        )];
    };
    let dependencies = package["dependencies"].as_array().into_iter().flatten();
    let shipped = dependencies.filter(|each| each["kind"] != "dev").filter_map(|each| each["name"].as_str());
    let wrong = shipped.filter(|other| breaks(name, other, allowed));
    wrong.map(|other| finding(format!("`{name}` may not depend on `{other}`"))).collect()
}

fn breaks(name: &str, other: &str, allowed: &[&str]) -> bool {
    let is_ours = LAYERS.iter().any(|(each, _)| *each == other);
    (is_ours && !allowed.contains(&other)) || (name == "plfm-core" && CORE_WITHOUT.contains(&other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(name: &str, dependency: &str, kind: &str) -> usize {
        let dependency = format!(r#"{{"name":"{dependency}","kind":{kind}}}"#);
        check(&format!(r#"{{"packages":[{{"name":"{name}","dependencies":[{dependency}]}}]}}"#)).unwrap().len()
    }

    #[test]
    fn arrows_point_down() {
        assert_eq!(findings("plfm-server", "plfm-core", "null"), 0);
        assert_eq!(findings("plfm-server", "plfm-node", "null"), 1);
        assert_eq!(findings("plfm-node", "plfm-server", "\"build\""), 1);
        assert_eq!(findings("plfm-node", "plfm-server", "\"dev\""), 0);
        assert_eq!(findings("plfm-core", "tokio", "null"), 1);
        assert_eq!(findings("plfm-node", "tokio", "null"), 0);
        assert_eq!(findings("plfm-new", "plfm-core", "null"), 1);
    }
}
