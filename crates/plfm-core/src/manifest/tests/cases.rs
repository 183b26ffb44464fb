//! A table with each error: what is written, and the code, path and line that must come of it.

use std::collections::BTreeSet;

use super::*;

type Case = (&'static str, Code, &'static str, u32);

/// Appended to [`WEB`], whose process starts at line 2; the first line of these is line 4.
const APPENDED: &[Case] = &[
    ("colour = 1", Code::UnknownField, "processes.web.colour", 4),
    ("\"a b\" = 1", Code::UnknownField, "processes.web.\"a b\"", 4),
    ("[build]", Code::UnknownField, "build", 4),
    (
        "[env]\n[env.vars]\nA = \"x\"\n[processes.job.resources]\nmemory = \"1Gi\"\ncpus = 1",
        Code::UnknownField,
        "processes.job.resources.cpus",
        9,
    ),
    ("user = 1000", Code::Type, "processes.web.user", 4),
    ("command = \"serve\"", Code::Type, "processes.web.command", 4),
    ("command = [\"serve\",\n 8080]", Code::Type, "processes.web.command[1]", 5),
    ("command = [\"a\\u0000\"]", Code::Type, "processes.web.command[0]", 4),
    ("resources.cpu = \"1\"", Code::Type, "processes.web.resources.cpu", 4),
    ("scaling = 3", Code::Type, "processes.web.scaling", 4),
    ("scaling.min = 1.0", Code::Type, "processes.web.scaling.min", 4),
    ("secrets.required = \"yes\"", Code::Type, "processes.web.secrets.required", 4),
    ("ports = { internal = 1 }", Code::Type, "processes.web.ports", 4),
    ("[[env]]", Code::Type, "env", 4),
    ("[env.vars]\nPORT = 8080", Code::Type, "env.vars.PORT", 5),
    ("[app]\nname = \"\"", Code::NameLength, "app.name", 5),
    ("[image]\nref = \"Web:v1\"", Code::ImageRef, "image.ref", 5),
    ("[image]\nref = \"web@sha256:12\"", Code::ImageDigest, "image.ref", 5),
    ("[image]\npull_policy = \"never\"", Code::PullPolicy, "image.pull_policy", 5),
    ("vars = { path = \"/bin\" }", Code::VarKey, "processes.web.vars.path", 4),
    ("[env.vars]\n1UP = \"\"", Code::VarKey, "env.vars.1UP", 5),
    ("[env.vars]\nPLFM_REGION = \"eu\"", Code::VarReserved, "env.vars.PLFM_REGION", 5),
    ("workdir = \"srv\"", Code::Path, "processes.web.workdir", 4),
    ("user = \"1000:staff\"", Code::User, "processes.web.user", 4),
    ("user = \"4294967295\"", Code::User, "processes.web.user", 4),
    ("user = \"\"", Code::User, "processes.web.user", 4),
    ("command = []", Code::CommandEmpty, "processes.web.command", 4),
    ("command = [\"\", \"x\"]", Code::CommandEmpty, "processes.web.command", 4),
    ("prestart = []", Code::CommandEmpty, "processes.web.prestart", 4),
    ("termination_grace_seconds = 301", Code::TimeoutRange, "processes.web.termination_grace_seconds", 4),
    ("termination_grace_seconds = \"10\"", Code::Type, "processes.web.termination_grace_seconds", 4),
    ("prestart_timeout_seconds = 0", Code::TimeoutRange, "processes.web.prestart_timeout_seconds", 4),
    ("prestart_timeout_seconds = 3601", Code::TimeoutRange, "processes.web.prestart_timeout_seconds", 4),
    ("[processes.Job.resources]\nmemory = \"64Mi\"", Code::ProcessName, "processes.Job", 4),
    ("[processes.job]", Code::MemoryFormat, "processes.job.resources.memory", 4),
    ("[processes.job]\nresources = {}", Code::MemoryFormat, "processes.job.resources.memory", 5),
    ("[processes.job.resources]\nmemory = \"512MB\"", Code::MemoryFormat, "processes.job.resources.memory", 5),
    ("[processes.job.resources]\nmemory = \"-1Gi\"", Code::MemoryFormat, "processes.job.resources.memory", 5),
    ("[processes.job.resources]\nmemory = \"63Mi\"", Code::MemoryRange, "processes.job.resources.memory", 5),
    ("[processes.job.resources]\nmemory = \"257Gi\"", Code::MemoryRange, "processes.job.resources.memory", 5),
    (
        "[processes.job.resources]\nmemory = \"99999999999999999999Gi\"",
        Code::MemoryRange,
        "processes.job.resources.memory",
        5,
    ),
    ("resources.cpu = 0", Code::CpuRange, "processes.web.resources.cpu", 4),
    ("resources.cpu = 32.001", Code::CpuRange, "processes.web.resources.cpu", 4),
    ("resources.cpu = nan", Code::CpuRange, "processes.web.resources.cpu", 4),
    ("resources.disk = \"4096Mi\"", Code::DiskRange, "processes.web.resources.disk", 4),
    ("resources.disk = \"101Gi\"", Code::DiskRange, "processes.web.resources.disk", 4),
    ("scaling.min = 101", Code::ScalingRange, "processes.web.scaling.min", 4),
    ("scaling = { min = 3, max = 2 }", Code::ScalingRange, "processes.web.scaling.max", 4),
    ("scaling.max = 0", Code::ScalingRange, "processes.web.scaling.max", 4),
    ("scaling.autoscale = true", Code::AutoscaleUnsupported, "processes.web.scaling.autoscale", 4),
    ("[autoscaling]", Code::AutoscaleUnsupported, "autoscaling", 4),
    ("restart.policy = \"on_failure\"", Code::RestartPolicy, "processes.web.restart.policy", 4),
    ("restart.max_retries = 3", Code::RestartRetries, "processes.web.restart.max_retries", 4),
    (
        "restart = { policy = \"on-failure\", max_retries = -1 }",
        Code::RestartRetries,
        "processes.web.restart.max_retries",
        4,
    ),
    ("restart.backoff_seconds = 301", Code::RestartRetries, "processes.web.restart.backoff_seconds", 4),
    ("ports = [{ internal = 49983 }]", Code::PortRange, "processes.web.ports[0].internal", 4),
    ("ports = [{ internal = 80, name = \"HTTP\" }]", Code::PortName, "processes.web.ports[0].name", 4),
    ("[[processes.web.ports]]\nname = \"a\"", Code::PortRange, "processes.web.ports[0].internal", 4),
    ("[[processes.web.ports]]\ninternal = 65536", Code::PortRange, "processes.web.ports[0].internal", 5),
    ("ports = [{ internal = 0 }]", Code::PortRange, "processes.web.ports[0].internal", 4),
    (
        "ports = [{ internal = 80 },\n{ internal = 80, name = \"b\" }]",
        Code::PortDuplicate,
        "processes.web.ports[1].internal",
        5,
    ),
    (
        "ports = [{ internal = 80 },\n{ internal = 81, name = \"p80\" }]",
        Code::PortDuplicate,
        "processes.web.ports[1].name",
        5,
    ),
    ("ports = [{ internal = 80, protocol = \"udp\" }]", Code::PortProtocol, "processes.web.ports[0].protocol", 4),
    (
        "ports = [{ internal = 80 }]\nhealth = { type = \"grpc\", port = 80 }",
        Code::HealthType,
        "processes.web.health.type",
        5,
    ),
    ("[processes.web.health]", Code::HealthPort, "processes.web.health.port", 4),
    ("health.port = 80", Code::HealthPort, "processes.web.health.port", 4),
    ("health.port = \"http\"", Code::HealthPort, "processes.web.health.port", 4),
    ("health.port = true", Code::Type, "processes.web.health.port", 4),
    (
        "ports = [{ internal = 80 }]\nhealth = { type = \"http\", port = 80 }",
        Code::HealthPath,
        "processes.web.health.path",
        5,
    ),
    (
        "ports = [{ internal = 80 }]\nhealth = { port = 80, path = \"x\" }",
        Code::HealthPath,
        "processes.web.health.path",
        5,
    ),
    (
        "ports = [{ internal = 80 }]\nhealth = { port = 80, path = \"/\\r\\nHost:\" }",
        Code::HealthPath,
        "processes.web.health.path",
        5,
    ),
    (
        "ports = [{ internal = 80 }]\nhealth = { port = 80, interval_seconds = 301 }",
        Code::HealthTiming,
        "processes.web.health.interval_seconds",
        5,
    ),
    (
        "ports = [{ internal = 80 }]\nhealth = { port = 80, timeout_seconds = 11 }",
        Code::HealthTiming,
        "processes.web.health.timeout_seconds",
        5,
    ),
    (
        "ports = [{ internal = 80 }]\nhealth = { port = 80, failure_threshold = 0 }",
        Code::HealthTiming,
        "processes.web.health.failure_threshold",
        5,
    ),
    ("mounts = [{ path = \"/data\" }]", Code::MountVolumeUnknown, "processes.web.mounts[0].volume", 4),
    (
        "mounts = [{ volume = \"data\", path = \"/data\" }]",
        Code::MountVolumeUnknown,
        "processes.web.mounts[0].volume",
        4,
    ),
    ("secrets.path = \"/etc/secrets\"", Code::SecretsPath, "processes.web.secrets.path", 4),
    ("privileged = true", Code::Privileged, "processes.web.privileged", 4),
    ("[[volumes]]\nsize = \"1Gi\"", Code::VolumeName, "volumes[0].name", 4),
    ("[[volumes]]\nname = \"data_1\"\nsize = \"1Gi\"", Code::VolumeName, "volumes[0].name", 5),
    ("[[volumes]]\nname = \"data\"", Code::VolumeSize, "volumes[0].size", 4),
    ("[[volumes]]\nname = \"data\"\nsize = \"1024Mi\"", Code::VolumeSize, "volumes[0].size", 6),
    ("[[volumes]]\nname = \"data\"\nsize = \"0Gi\"", Code::VolumeSize, "volumes[0].size", 6),
    (
        "[[volumes]]\nname = \"data\"\nsize = \"1Gi\"\nfilesystem = \"xfs\"",
        Code::VolumeFilesystem,
        "volumes[0].filesystem",
        7,
    ),
    (
        "[[volumes]]\nname = \"data\"\nsize = \"1Gi\"\n[[volumes]]\nname = \"data\"\nsize = \"2Gi\"",
        Code::VolumeDuplicate,
        "volumes[1].name",
        8,
    ),
];

/// Appended to [`STORE`], which declares the volumes `a` and `b`; the first line of these is line 5.
const MOUNTED: &[Case] = &[
    ("mounts = [{ volume = \"a\" }]", Code::MountPath, "processes.web.mounts[0].path", 5),
    ("mounts = [{ volume = \"a\", path = \"data\" }]", Code::MountPath, "processes.web.mounts[0].path", 5),
    ("mounts = [{ volume = \"a\", path = \"/\" }]", Code::MountPath, "processes.web.mounts[0].path", 5),
    ("mounts = [{ volume = \"a\", path = \"/a/../b\" }]", Code::MountPath, "processes.web.mounts[0].path", 5),
    ("mounts = [{ volume = \"a\", path = \"/a//b\" }]", Code::MountPath, "processes.web.mounts[0].path", 5),
    ("mounts = [{ volume = \"a\", path = \"/a/\" }]", Code::MountPath, "processes.web.mounts[0].path", 5),
    ("mounts = [{ volume = \"a\", path = \"/proc\" }]", Code::MountReserved, "processes.web.mounts[0].path", 5),
    ("mounts = [{ volume = \"a\", path = \"/run/x\" }]", Code::MountReserved, "processes.web.mounts[0].path", 5),
    (
        "mounts = [{ volume = \"a\", path = \"/x\" },\n{ volume = \"b\", path = \"/x\" }]",
        Code::MountDuplicate,
        "processes.web.mounts[1].path",
        6,
    ),
    (
        "mounts = [{ volume = \"a\", path = \"/x\" },\n{ volume = \"a\", path = \"/y\" }]",
        Code::MountDuplicate,
        "processes.web.mounts[1].volume",
        6,
    ),
    (
        "mounts = [{ volume = \"a\", path = \"/x/y\" },\n{ volume = \"b\", path = \"/x\" }]",
        Code::MountOverlap,
        "processes.web.mounts[1].path",
        6,
    ),
    (
        "mounts = [{ volume = \"a\", path = \"/x\", host_path = \"/\" }]",
        Code::Privileged,
        "processes.web.mounts[0].host_path",
        5,
    ),
    (
        "mounts = [{ volume = \"a\", path = \"/x\" }]\nscaling.max = 2",
        Code::VolumeReplicaLimit,
        "processes.web.scaling.max",
        6,
    ),
    (
        "mounts = [{ volume = \"a\", path = \"/x\" }]\nscaling.min = 2",
        Code::VolumeReplicaLimit,
        "processes.web.scaling.max",
        6,
    ),
    (
        "mounts = [{ volume = \"a\", path = \"/x\" }]\n[processes.job]\nresources.memory = \"64Mi\"\nmounts = [{ volume = \"a\", path = \"/x\", read_only = true }]",
        Code::VolumeShared,
        "processes.job.mounts[0].volume",
        8,
    ),
];

const STORE: &str = "schema_version = \"v1\"
volumes = [{ name = \"a\", size = \"1Gi\" }, { name = \"b\", size = \"1Gi\" }]
[processes.web]
resources.memory = \"64Mi\"
";

/// The file as such.
const WHOLE: &[Case] = &[
    ("[processes.web]\nresources.memory = \"1Gi\"", Code::SchemaVersion, "schema_version", 1),
    ("schema_version = \"v2\"\nprocesses.web.resources.memory = \"1Gi\"", Code::SchemaVersion, "schema_version", 1),
    ("schema_version = 1\nprocesses.web.resources.memory = \"1Gi\"", Code::SchemaVersion, "schema_version", 1),
    ("schema_version = \"v1\"", Code::NoProcesses, "processes", 1),
    ("schema_version = \"v1\"\n[processes]", Code::NoProcesses, "processes", 2),
    ("schema_version = \"v1\"\nname = [1,\n", Code::Syntax, "", 2),
    ("schema_version = \"v1\"\nschema_version = \"v1\"", Code::Syntax, "", 2),
];

fn all_cases() -> impl Iterator<Item = (String, &'static Case)> {
    let bases = [(WEB, APPENDED), (STORE, MOUNTED), ("", WHOLE)];
    bases.into_iter().flat_map(|(base, cases)| cases.iter().map(move |case| (format!("{base}{}", case.0), case)))
}

#[test]
fn each_mistake_has_its_code_path_and_line() {
    for (text, (_, code, path, line)) in all_cases() {
        assert_eq!(errors(text.as_bytes()), [(*code, (*path).to_owned(), *line)], "of:\n{text}");
    }
}

#[test]
fn each_code_has_a_case() {
    let with_a_test_of_their_own = [Code::TooLarge, Code::Utf8, Code::VarSize];
    let cases = all_cases().map(|(_, case)| case.1).chain(with_a_test_of_their_own);
    assert_eq!(cases.collect::<BTreeSet<_>>(), Code::ALL.iter().copied().collect());
}

#[test]
fn sizes_are_bounded() {
    let value = |bytes: usize| format!("{WEB}vars.A = \"{}\"", "x".repeat(bytes));
    assert!(Manifest::parse(value(32 << 10).as_bytes()).is_ok());
    let too_long = errors(value((32 << 10) + 1).as_bytes());
    assert_eq!(too_long, [(Code::VarSize, "processes.web.vars.A".to_owned(), 4)]);

    let file = |bytes: usize| [WEB.as_bytes(), &vec![b'#'; bytes - WEB.len()]].concat();
    assert!(Manifest::parse(&file(MANIFEST_BYTES_MAX)).is_ok());
    assert_eq!(errors(&file(MANIFEST_BYTES_MAX + 1)), [(Code::TooLarge, String::new(), 1)]);
}

#[test]
fn nesting_is_bounded() {
    for (open, inner, close) in [("a = [", "[", ""), ("a = {", "a={", ""), ("a", ".a", " = 1"), ("[a", ".a", "]")] {
        let deep = format!("{open}{}{close}", inner.repeat((MANIFEST_BYTES_MAX - 10) / inner.len()));
        assert!(!errors(deep.as_bytes()).is_empty());
    }
}

#[test]
fn the_first_byte_that_is_not_utf8_is_found() {
    let error = Manifest::parse(b"a = 1\nb = \"\xc3\xa4\xff\"").unwrap_err().remove(0);
    assert_eq!((error.code, error.line, error.column), (Code::Utf8, 2, 7));
}

#[test]
fn columns_count_characters() {
    let error = Manifest::parse(format!("{WEB}vars = {{ A = \"ä\", b = \"\" }}").as_bytes()).unwrap_err().remove(0);
    assert_eq!((error.code, error.line, error.column), (Code::VarKey, 4, 19));
}

#[test]
fn a_wrong_field_hides_no_other_error() {
    let text = "[processes.a]\nmounts = [{ volume = \"x\", path = \"bad\" }]\nscaling.min = 2\nresources.memory = \"1\"
        ports = [{ internal = 0 }, { internal = 80 }, { internal = 80, name = \"b\" }]\n[image]\nref = \":\"";
    let codes: Vec<Code> = errors(text.as_bytes()).into_iter().map(|(code, ..)| code).collect();
    let expected = [
        Code::SchemaVersion,
        Code::MountVolumeUnknown,
        Code::MountPath,
        Code::VolumeReplicaLimit,
        Code::MemoryFormat,
        Code::PortRange,
        Code::PortDuplicate,
        Code::ImageRef,
    ];
    assert_eq!(codes, expected);
}
