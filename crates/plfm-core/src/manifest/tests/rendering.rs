use expect_test::expect;

use super::*;

const WRONG: &str = r#"schema_version = 2
replicas = 3

[image]
ref = "Registry/Shop"
pull_polcy = "always"

[env.vars]
PLFM_TOKEN = "hunter2"

[processes.web]
command = []
user = 1000
memory = "512Mi"

[processes.web.resources]
memory = "512MB"
cpu = 64

[processes.web.scaling]
min = 2
autoscale = { max = 9 }

[[processes.web.ports]]
internal = 80808

[processes.web.health]
port = "http"
interval_second = 5

[[processes.web.mounts]]
volume = "data"
path = "/run/data"

[[volumes]]
name = "data"
size = "1Ti"
"#;

#[test]
fn all_errors_are_shown_in_the_order_of_the_file() {
    let errors = Manifest::parse(WRONG.as_bytes()).unwrap_err();
    expect![[r#"
        error[E_SCHEMA_VERSION]: this version of the manifest is not known
          --> plfm.toml:1 schema_version
          hint: write `schema_version = "v1"`, or upgrade plfm if the manifest is of a later version

        error[E_UNKNOWN_FIELD]: `replicas` is not a known key here
          --> plfm.toml:2 replicas
          hint: known keys: schema_version, app, image, env, volumes, processes

        error[E_IMAGE_REF]: `Registry/Shop` is not an image reference
          --> plfm.toml:5 image.ref
          hint: write the name in lower case, for example `example.com/web:v1`

        error[E_UNKNOWN_FIELD]: `pull_polcy` is not a known key here
          --> plfm.toml:6 image.pull_polcy
          hint: did you mean `pull_policy`?

        error[E_VAR_RESERVED]: `PLFM_TOKEN` is reserved
          --> plfm.toml:9 env.vars.PLFM_TOKEN
          hint: choose another name: variables that start with `PLFM_` are set by the platform

        error[E_COMMAND_EMPTY]: the command names no program
          --> plfm.toml:12 processes.web.command
          hint: name a program, for example `["/app/serve", "--port", "8080"]`, or remove the key

        error[E_TYPE]: expected a string, found integer
          --> plfm.toml:13 processes.web.user
          hint: put the value in quotes

        error[E_UNKNOWN_FIELD]: `memory` is not a known key here
          --> plfm.toml:14 processes.web.memory
          hint: known keys: command, termination_grace_seconds, vars, workdir, user, prestart, prestart_timeout_seconds, resources, restart, ports, health, mounts, scaling, secrets

        error[E_MEMORY_FORMAT]: `512MB` is not a memory size
          --> plfm.toml:17 processes.web.resources.memory
          hint: write `<n>Mi` or `<n>Gi`, for example `512Mi`

        error[E_CPU_RANGE]: 64 is not a number of processors
          --> plfm.toml:18 processes.web.resources.cpu
          hint: write a number above 0 and up to 32, for example `0.5`

        error[E_VOLUME_REPLICA_LIMIT]: process `web` mounts a volume, so it can have one replica, not 2
          --> plfm.toml:20 processes.web.scaling.max
          hint: set `scaling.max = 1`, or keep the data outside the process

        error[E_AUTOSCALE_UNSUPPORTED]: `autoscale` is not supported
          --> plfm.toml:22 processes.web.scaling.autoscale
          hint: set `scaling.min` and `scaling.max`, and scale with `plfm scale`

        error[E_PORT_RANGE]: 80808 is not within 1..65535
          --> plfm.toml:25 processes.web.ports[0].internal
          hint: write a number from 1 to 65535

        error[E_UNKNOWN_FIELD]: `interval_second` is not a known key here
          --> plfm.toml:29 processes.web.health.interval_second
          hint: did you mean `interval_seconds`?

        error[E_MOUNT_RESERVED]: `/run/data` is in `/run`, which the guest needs itself
          --> plfm.toml:33 processes.web.mounts[0].path
          hint: mount the volume elsewhere, for example at `/data`

        error[E_VOLUME_SIZE]: `1Ti` is not a disk size
          --> plfm.toml:37 volumes[0].size
          hint: write `<n>Gi`, for example `4Gi`
    "#]].assert_eq(&render(&errors, "plfm.toml"));
}

#[test]
fn errors_of_the_file_as_such_have_no_path() {
    let errors = Manifest::parse(b"a = [1,\n  2\nb = 3").unwrap_err();
    expect![[r#"
        error[E_SYNTAX]: missing comma between array elements, expected `,`
          --> plfm.toml:3
          hint: see https://toml.io for the syntax of TOML
    "#]]
    .assert_eq(&render(&errors, "plfm.toml"));
}

#[test]
fn what_is_shown_of_a_value_is_short_and_printable() {
    let errors = Manifest::parse(format!("{WEB}user = \"\\u001b[2J{}\"", "ä".repeat(1000)).as_bytes()).unwrap_err();
    assert!(errors[0].message.len() < 200 && !errors[0].message.contains('\x1b'), "{}", errors[0].message);
}

#[test]
fn errors_survive_json() {
    let errors = Manifest::parse(WRONG.as_bytes()).unwrap_err();
    let json = serde_json::to_string(&errors).unwrap();
    assert!(json.starts_with("[{\"code\":\"E_"), "{json}");
    assert_eq!(serde_json::from_str::<Vec<ManifestError>>(&json).unwrap(), errors);
}
