//! What the node says to a guest: who it is, what to run, whether it is well, how it ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use plfm_api::documents::{Purpose, VolumeMount, Workload};
use plfm_api::guest::{self, Client, ConfigureRequest, Phase};
use plfm_api::rpc::{Error, ErrorCode, Target};
use plfm_api::views::sandbox_name;
use plfm_core::ids::{BootId, InstanceId};
use plfm_core::manifest::HealthCheck;
use plfm_core::reason::{Failure, Reason};
use plfm_image::Image;
use plfm_runtime::{Runtime, volume_serial};

/// The link that every guest has, whatever its routed address is (design §4, guest network).
const GUEST_IPV6: (&str, u32, &str) = ("fd00:706c:666d::2", 64, "fd00:706c:666d::1");
const GUEST_IPV4: (&str, u32, &str) = ("169.254.64.2", 30, "169.254.64.1");
/// How often a guest that still boots is asked.
const HELLO_EVERY: Duration = Duration::from_millis(200);
/// Of a health check that names none.
const PROBE_WAIT: Duration = Duration::from_secs(2);

pub fn client(runtime: Arc<dyn Runtime>, id: InstanceId) -> Client {
    Client::new(Target::new(move || {
        let runtime = runtime.clone();
        async move { runtime.connect(id, plfm_api::channel::port::GUEST).await.map_err(std::io::Error::other) }
    }))
}

/// Asks until the guest answers; the caller sets the deadline.
pub async fn hello(client: &Client) -> Result<guest::HelloResponse, Failure> {
    loop {
        match client.hello().await {
            Ok(hello) => return Ok(hello),
            Err(error) if error.code == ErrorCode::FailedPrecondition => {
                return Err(Failure::new(Reason::GuestProtocolMismatch, error.to_string()));
            }
            Err(_) => tokio::time::sleep(HELLO_EVERY).await,
        }
    }
}

/// Everything that a machine has to know before its workload runs.
pub fn configuration(
    id: InstanceId,
    boot: BootId,
    workload: &Workload,
    image: &Image,
    card: bool,
) -> Result<ConfigureRequest, Failure> {
    Ok(ConfigureRequest {
        instance_id: id.to_string(),
        boot_id: boot.to_string(),
        hostname: hostname(id),
        workload: process(id, workload, image)?.into(),
        prestart: workload.prestart.iter().map(prestart).collect(),
        network: network(card).into(),
        disks: guest::Disks {
            images: u32::try_from(image.devices.len()).unwrap_or(u32::MAX),
            rw_serial: "rw".to_owned(),
            volumes: workload.mounts.iter().enumerate().map(volume).collect(),
            ..Default::default()
        }
        .into(),
        realtime_ns: realtime_ns(),
        entropy: entropy().to_vec(),
        sandbox: workload.is_sandbox(),
        ..Default::default()
    })
}

fn volume((place, mount): (usize, &VolumeMount)) -> guest::Volume {
    let VolumeMount { path, read_only, .. } = mount.clone();
    guest::Volume { serial: volume_serial(place), path, read_only, ..Default::default() }
}

/// Who a machine is that goes on from a snapshot of another.
pub fn renewal(
    id: InstanceId,
    boot: BootId,
    workload: &Workload,
    image: &Image,
    generation: u32,
) -> guest::RefreshRequest {
    guest::RefreshRequest {
        instance_id: id.to_string(),
        boot_id: boot.to_string(),
        hostname: hostname(id),
        realtime_ns: realtime_ns(),
        entropy: entropy().to_vec(),
        generation: generation.into(),
        env: env(id, workload, &image.config).into_iter().collect(),
        ..Default::default()
    }
}

/// What a machine needs that goes on after a while: the time, and randomness that nobody saw on disk.
pub fn waking() -> guest::ThawRequest {
    guest::ThawRequest { realtime_ns: realtime_ns(), entropy: entropy().to_vec(), ..Default::default() }
}

/// `i-` and the end of the id: short enough for a label, long enough to be told apart.
fn hostname(id: InstanceId) -> String {
    let ulid = id.ulid().to_string().to_lowercase();
    format!("i-{}", &ulid[ulid.len() - 10..])
}

fn process(id: InstanceId, workload: &Workload, image: &Image) -> Result<guest::Workload, Failure> {
    let config = &image.config;
    let argv = workload.command.clone().unwrap_or_else(|| [&config.entrypoint[..], &config.cmd[..]].concat());
    let argv = if workload.is_sandbox() { Vec::new() } else { argv };
    if argv.is_empty() && !workload.is_sandbox() {
        let detail = "the image has neither entrypoint nor command, and the manifest has no `command`";
        return Err(Failure::new(Reason::WorkloadStartFailed, detail));
    }
    let or = |wanted: &Option<String>, image: &String| wanted.clone().unwrap_or_else(|| image.clone());
    Ok(guest::Workload {
        argv,
        env: env(id, workload, config).into_iter().collect(),
        cwd: or(&workload.workdir, &config.workdir),
        user: or(&workload.user, &config.user),
        stop_signal: config.stop_signal.clone().unwrap_or_default(),
        ..Default::default()
    })
}

/// The image's, then the manifest's, then the platform's own (P-MAN-9).
fn env(id: InstanceId, workload: &Workload, config: &plfm_image::ImageConfig) -> HashMap<String, String> {
    let image = config.env.iter().filter_map(|pair| pair.split_once('='));
    let mut env: HashMap<_, _> = image.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    env.extend(workload.vars.clone());
    let mut own = vec![("PLFM_ORG_ID", workload.org.to_string()), ("PLFM_INSTANCE_ID", id.to_string())];
    match &workload.purpose {
        Purpose::Replica { app, env, process, release } => own.extend([
            ("PLFM_APP_NAME", app.clone()),
            ("PLFM_ENV_NAME", env.clone()),
            ("PLFM_RELEASE_ID", release.to_string()),
            ("PLFM_PROCESS_TYPE", process.clone()),
        ]),
        // What E2B's clients look for.
        Purpose::Sandbox { template, .. } => own.extend([
            ("E2B_SANDBOX", "true".to_owned()),
            ("E2B_SANDBOX_ID", sandbox_name(id)),
            ("E2B_TEMPLATE_ID", template.clone()),
        ]),
        Purpose::Snapshot { .. } => {}
    }
    env.extend(own.into_iter().map(|(name, value)| (name.to_owned(), value)));
    env
}

fn prestart(step: &plfm_api::documents::Prestart) -> guest::Prestart {
    guest::Prestart { argv: step.argv.clone(), timeout_ms: step.timeout_seconds * 1000, ..Default::default() }
}

fn network(card: bool) -> guest::Network {
    let ((ipv6, ipv6_prefix, ipv6_gateway), (ipv4, ipv4_prefix, ipv4_gateway)) = (GUEST_IPV6, GUEST_IPV4);
    guest::Network {
        loopback_only: !card,
        ipv6: ipv6.to_owned(),
        ipv6_prefix,
        ipv6_gateway: if card { ipv6_gateway.to_owned() } else { String::new() },
        ipv4: ipv4.to_owned(),
        ipv4_prefix,
        ipv4_gateway: if card { ipv4_gateway.to_owned() } else { String::new() },
        ..Default::default()
    }
}

fn realtime_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

pub fn entropy() -> [u8; 64] {
    use ring::rand::{SecureRandom, SystemRandom};
    let mut bytes = [0; 64];
    SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes once it has booted");
    bytes
}

/// How long the workload has to answer.
pub fn probe_wait(workload: &Workload) -> Duration {
    workload.health.as_ref().map_or(PROBE_WAIT, |health| Duration::from_secs(health.timeout_seconds.into()))
}

/// Whether the workload answers, and what was seen if not.
pub async fn probe(client: &Client, workload: &Workload) -> (bool, String) {
    let answer = match (&workload.health, workload.ports.first()) {
        (Some(health), _) => {
            let wait = probe_wait(workload);
            match (health.check, &health.path) {
                (HealthCheck::Http, Some(path)) => client.probe_http(health.port, path, wait).await,
                _ => client.probe_tcp(health.port, wait).await,
            }
        }
        (None, Some(port)) => client.probe_tcp(*port, PROBE_WAIT).await,
        // Nothing to ask: a guest that answers at all is well.
        (None, None) => return (client.hello().await.is_ok(), String::new()),
    };
    match answer {
        Ok(answer) => (answer.healthy, answer.detail),
        Err(error) => (false, error.to_string()),
    }
}

/// How a guest's phase reads to the platform.
pub enum Seen {
    Starting,
    Running,
    Ended { exit_code: Option<i32>, failure: Failure },
}

pub fn read(phase: Phase) -> Seen {
    match phase {
        Phase::Running(_) => Seen::Running,
        Phase::Exited(exit) => {
            let (reason, code) = (if exit.oom { Reason::OomKilled } else { Reason::WorkloadExited }, exit.code);
            let detail = if exit.detail.is_empty() { format!("ended with code {code}") } else { exit.detail.clone() };
            Seen::Ended { exit_code: i32::try_from(code).ok(), failure: Failure::new(reason, detail) }
        }
        Phase::Failed(failed) => {
            let reason = Reason::ALL.iter().copied().find(|reason| reason.code() == failed.reason);
            let failure = Failure::new(reason.unwrap_or(Reason::ConfigHandshakeFailed), failed.detail.clone());
            Seen::Ended { exit_code: None, failure }
        }
        _ => Seen::Starting,
    }
}

pub fn refused(error: &Error) -> Failure {
    Failure::new(Reason::ConfigHandshakeFailed, error.to_string())
}
