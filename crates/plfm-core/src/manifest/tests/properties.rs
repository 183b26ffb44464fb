//! What holds for every manifest, and for every text that is none.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::units::{Mebibytes, MilliCpu};

const NAME: &str = "[a-z][a-z0-9-]{0,31}";
const WORD: &str = "[^\\x00]{1,12}";

fn settings() -> impl Strategy<Value = Settings> {
    let vars = btree_map("[A-OQ-Z_][A-Z0-9_]{0,8}", "[^\\x00]{0,20}", 0..4);
    let user = select(vec!["root", "0", "1000:1000", "_apt"]).prop_map(str::to_owned);
    (vars, of("/[^\\x00]{0,9}"), of(user), vec(WORD, 0..3), 1..=3600u32).prop_map(
        |(vars, workdir, user, prestart, prestart_timeout_seconds)| Settings {
            vars,
            workdir,
            user,
            prestart,
            prestart_timeout_seconds,
        },
    )
}

fn resources() -> impl Strategy<Value = Resources> {
    (64..=256u64 << 10, 1..=32_000u32, 1..=100u64).prop_map(|(memory, cpu, disk)| Resources {
        memory: Mebibytes(memory),
        cpu: MilliCpu(cpu),
        disk: Mebibytes(disk << 10),
    })
}

fn restart() -> impl Strategy<Value = Restart> {
    let policy = select(vec![RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never]);
    (policy, 0..9u32, 0..=300u32).prop_map(|(policy, retries, backoff_seconds)| Restart {
        policy,
        max_retries: (policy == RestartPolicy::OnFailure).then_some(retries),
        backoff_seconds,
    })
}

fn ports() -> impl Strategy<Value = Vec<Port>> {
    // The daemon's own is nobody's.
    let free = (1..=u16::MAX).prop_filter("of the daemon", |port| *port != crate::manifest::ports::RESERVED);
    btree_map(NAME, free, 0..4).prop_map(|ports| {
        let by_number: BTreeMap<u16, String> = ports.into_iter().map(|(name, internal)| (internal, name)).collect();
        let mut ports: Vec<Port> = by_number.into_iter().map(|(internal, name)| Port { name, internal }).collect();
        ports.sort_by(|one, other| one.name.cmp(&other.name));
        ports
    })
}

fn health(ports: &[Port]) -> BoxedStrategy<Option<Health>> {
    let Some(port) = ports.first().map(|port| port.internal) else { return Just(None).boxed() };
    let check = select(vec![HealthCheck::Tcp, HealthCheck::Http]);
    let timing = (1..=300u32).prop_flat_map(|interval| (Just(interval), 1..=interval));
    let counts = (0..=600u32, 1..=10u32, 1..=30u32);
    let health =
        (check, timing, counts).prop_map(move |(check, (interval, timeout), (grace, successes, failures))| Health {
            check,
            port,
            path: (check == HealthCheck::Http).then(|| "/healthz".to_owned()),
            interval_seconds: interval,
            timeout_seconds: timeout,
            grace_period_seconds: grace,
            success_threshold: successes,
            failure_threshold: failures,
        });
    of(health).boxed()
}

fn process() -> impl Strategy<Value = Process> {
    let scaling = (0..=100u32).prop_flat_map(|max| (0..=max).prop_map(move |min| Scaling { min, max }));
    let network = ports().prop_flat_map(|ports| (health(&ports), Just(ports)));
    let command = (of(vec(WORD, 1..4)), 0..=300u32);
    (command, settings(), resources(), scaling, restart(), network, any::<bool>()).prop_map(
        |((command, termination_grace_seconds), settings, resources, scaling, restart, (health, ports), required)| {
            Process {
                command,
                termination_grace_seconds,
                settings,
                resources,
                scaling,
                restart,
                ports,
                health,
                mounts: Vec::new(),
                secrets: Secrets { required },
            }
        },
    )
}

/// The first process mounts every volume.
fn manifest() -> impl Strategy<Value = Manifest> {
    let app = (of("[^\\x00]{1,64}"), of("[^\\x00]{0,256}")).prop_map(|(name, description)| App { name, description });
    let image =
        of("[a-z]{1,9}(:[a-z0-9]{1,5})?").prop_map(|reference| Image { reference, pull_policy: PullPolicy::Always });
    let volumes = btree_map(NAME, (1..5000u64, any::<bool>()), 0..3);
    (app, image, settings(), btree_map(NAME, process(), 1..4), volumes).prop_map(
        |(app, image, env, mut processes, volumes)| {
            let volumes: Vec<Volume> = volumes
                .into_iter()
                .map(|(name, (gib, backup_enabled))| Volume { name, size: Mebibytes(gib << 10), backup_enabled })
                .collect();
            if let Some(first) = processes.values_mut().next().filter(|_| !volumes.is_empty()) {
                first.scaling = Scaling { min: 1, max: 1 };
                first.mounts = volumes.iter().map(mount).collect();
            }
            Manifest { schema_version: SchemaVersion::V1, app, image, env, processes, volumes }
        },
    )
}

fn mount(volume: &Volume) -> Mount {
    Mount { volume: volume.name.clone(), path: format!("/srv/{}", volume.name), read_only: false }
}

/// Lines that are often right, so that the walk gets deep.
fn almost_toml() -> impl Strategy<Value = String> {
    let keys = FULL.split(|each: char| !each.is_ascii_lowercase() && each != '_').filter(|key| key.len() > 2);
    let key = select(keys.collect::<Vec<_>>());
    let values = [
        "1",
        "-1",
        "9223372036854775807",
        "0.5",
        "nan",
        "true",
        "\"\"",
        "\"1Gi\"",
        "\"a\"",
        "[]",
        "[[]]",
        "{}",
        "[{}]",
    ];
    let value = select(values.to_vec());
    let pair = (key.clone(), value).prop_map(|(key, value)| format!("{key} = {value}"));
    let path = vec(key, 1..5).prop_map(|keys| keys.join("."));
    let line = prop_oneof![
        4 => pair,
        2 => path.clone().prop_map(|path| format!("[{path}]")),
        1 => path.prop_map(|path| format!("[[{path}]]")),
        3 => select(FULL.lines().collect::<Vec<_>>()).prop_map(str::to_owned),
    ];
    vec(line, 0..30).prop_map(|lines| lines.join("\n"))
}

/// All that a caller relies on, whatever the bytes.
fn read_anything(bytes: &[u8]) -> Result<(), TestCaseError> {
    match Manifest::parse(bytes) {
        Ok(manifest) => prop_assert_eq!(Manifest::parse(manifest.to_toml().as_bytes()), Ok(manifest)),
        Err(errors) => {
            prop_assert!(!errors.is_empty());
            prop_assert!(errors.is_sorted_by_key(|error| (error.line, error.column)));
            prop_assert!(!render(&errors, "plfm.toml").is_empty());
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_canonical_form_means_the_same(manifest in manifest()) {
        let read = Manifest::parse(manifest.to_toml().as_bytes());
        prop_assert_eq!(read.as_ref(), Ok(&manifest), "{}", manifest.to_toml());
        let json: Manifest = serde_json::from_slice(&manifest.canonical_json()).unwrap();
        prop_assert_eq!(json.hash(), manifest.hash());
        prop_assert_eq!(json, manifest);
    }

    #[test]
    fn any_bytes_are_a_manifest_or_have_errors(bytes in vec(any::<u8>(), 0..400)) {
        read_anything(&bytes)?;
    }

    #[test]
    fn any_text_is_a_manifest_or_has_errors(text in ".{0,200}") {
        read_anything(text.as_bytes())?;
    }

    #[test]
    fn any_toml_is_a_manifest_or_has_errors(text in almost_toml()) {
        read_anything(text.as_bytes())?;
    }
}

#[test]
fn every_prefix_of_a_manifest_is_a_manifest_or_has_errors() {
    for cut in 0..FULL.len() {
        read_anything(&FULL.as_bytes()[..cut]).unwrap();
    }
}
