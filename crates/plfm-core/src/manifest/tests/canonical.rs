use expect_test::expect;

use super::*;
use crate::units::{Mebibytes, MilliCpu};

#[test]
fn defaults_are_applied() {
    let expected = expect![[r#"
        schema_version = "v1"

        [env]
        prestart_timeout_seconds = 30

        [image]
        pull_policy = "if_not_present"

        [processes.web]
        prestart_timeout_seconds = 30

        [processes.web.resources]
        cpu = 1.0
        disk = "4Gi"
        memory = "64Mi"

        [processes.web.restart]
        backoff_seconds = 2
        policy = "always"

        [processes.web.scaling]
        max = 1
        min = 1

        [processes.web.secrets]
        required = false
    "#]];
    expected.assert_eq(&web("").to_toml());
}

#[test]
fn every_field_is_read_and_written() {
    expect![[r#"
        schema_version = "v1"

        [app]
        description = "Sells tea"
        name = "shop"

        [env]
        prestart = ["/app/migrate", "--wait"]
        prestart_timeout_seconds = 120
        user = "1000:1000"
        workdir = "/srv"

        [env.vars]
        LOG_LEVEL = "info"
        REGION_HINT = "eu"

        [image]
        pull_policy = "always"
        ref = "registry.example.com/shop/web:2.4"

        [processes.store]
        prestart_timeout_seconds = 120

        [[processes.store.mounts]]
        path = "/archive"
        read_only = true
        volume = "archive"

        [[processes.store.mounts]]
        path = "/var/lib/store"
        read_only = false
        volume = "data"

        [processes.store.resources]
        cpu = 1.0
        disk = "4Gi"
        memory = "1Gi"

        [processes.store.restart]
        backoff_seconds = 2
        policy = "always"

        [processes.store.scaling]
        max = 1
        min = 1

        [processes.store.secrets]
        required = false

        [processes.web]
        command = ["/app/serve", "--port", "8080"]
        prestart = ["/app/warm-up"]
        prestart_timeout_seconds = 20
        user = "web"
        workdir = "/srv/web"

        [processes.web.health]
        failure_threshold = 4
        grace_period_seconds = 20
        interval_seconds = 5
        path = "/healthz"
        port = 8080
        success_threshold = 2
        timeout_seconds = 1
        type = "http"

        [[processes.web.ports]]
        internal = 8080
        name = "http"

        [[processes.web.ports]]
        internal = 9090
        name = "p9090"

        [processes.web.resources]
        cpu = 0.5
        disk = "2Gi"
        memory = "512Mi"

        [processes.web.restart]
        backoff_seconds = 1
        max_retries = 5
        policy = "on-failure"

        [processes.web.scaling]
        max = 4
        min = 2

        [processes.web.secrets]
        required = true

        [processes.web.vars]
        LOG_LEVEL = "debug"
        THREADS = "4"

        [[volumes]]
        backup_enabled = false
        name = "archive"
        size = "100Gi"

        [[volumes]]
        backup_enabled = true
        name = "data"
        size = "10Gi"
    "#]]
    .assert_eq(&parse(FULL).to_toml());
}

#[test]
fn json_and_toml_say_the_same() {
    let manifest = web("ports = [{ internal = 80 }]");
    let json = String::from_utf8(manifest.canonical_json()).unwrap();
    expect![[r#"{"env":{"prestart_timeout_seconds":30},"image":{"pull_policy":"if_not_present"},"processes":{"web":{"ports":[{"internal":80,"name":"p80"}],"prestart_timeout_seconds":30,"resources":{"cpu":1.0,"disk":"4Gi","memory":"64Mi"},"restart":{"backoff_seconds":2,"policy":"always"},"scaling":{"max":1,"min":1},"secrets":{"required":false}}},"schema_version":"v1"}"#]].assert_eq(&json);
    assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
}

#[test]
fn the_hash_depends_on_the_meaning_alone() {
    let one = web(
        "ports = [{ internal = 80 }, { name = \"a\", internal = 81 }]\nresources.disk = \"4Gi\"\nresources.cpu = 1",
    );
    let other = parse(
        "# the same, said otherwise
         processes.web.ports = [{ internal = 81, name = 'a' }, { name = \"p80\", internal = 0x50 }]
         processes.web.resources = { cpu = 1.0, memory = \"64Mi\" }\nschema_version = \"\"\"v1\"\"\"",
    );
    assert_eq!(one.hash(), other.hash());
    assert_ne!(one.hash(), web("").hash());
}

#[test]
fn numbers_become_units() {
    let resources = parse(FULL).processes["web"].resources;
    assert_eq!(resources, Resources { memory: Mebibytes(512), cpu: MilliCpu(500), disk: Mebibytes(2048) });
}

#[test]
fn a_health_check_names_its_port_by_name_or_number() {
    let port = |written: &str| web(&format!("ports = [{{ name = \"http\", internal = 80 }}]\nhealth.port = {written}"));
    assert_eq!(port("80"), port("\"http\""));
    assert_eq!(port("80").processes["web"].health.as_ref().map(|health| health.port), Some(80));
}

#[test]
fn a_short_interval_shortens_the_default_timeout() {
    let process =
        web("ports = [{ internal = 80 }]\nhealth = { port = 80, interval_seconds = 1 }").processes.remove("web");
    assert_eq!(process.unwrap().health.unwrap().timeout_seconds, 1);
}

#[test]
fn a_process_is_merged_over_env() {
    let manifest = parse(FULL);
    let merged = manifest.merged("web").unwrap();
    let env: Vec<_> = merged.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(env, ["LOG_LEVEL=debug", "REGION_HINT=eu", "THREADS=4"]);
    assert_eq!((merged.workdir.as_deref(), merged.user.as_deref()), (Some("/srv/web"), Some("web")));
    let prestart: Vec<_> = merged.prestart.iter().map(|each| (each.argv[0].as_str(), each.timeout_seconds)).collect();
    assert_eq!(prestart, [("/app/migrate", 120), ("/app/warm-up", 20)]);

    let merged = manifest.merged("store").unwrap();
    assert_eq!((merged.command, merged.workdir.as_deref(), merged.prestart.len()), (None, Some("/srv"), 1));
    assert!(manifest.merged("worker").is_none());
}

#[test]
fn the_example_of_the_reference_is_a_manifest() {
    let reference = include_str!("../../../../../docs/manifest.md");
    let examples: Vec<&str> =
        reference.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!examples.is_empty());
    examples.iter().for_each(|example| drop(parse(example)));
}

#[test]
fn the_reference_explains_every_code() {
    let reference = include_str!("../../../../../docs/manifest.md");
    let missing: Vec<_> = Code::ALL.iter().filter(|code| !reference.contains(&format!("`{code}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
