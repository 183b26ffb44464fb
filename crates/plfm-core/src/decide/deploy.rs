//! `plfm deploy`: the app, the env and the release where they are missing, the deploy, its routes.

use std::collections::BTreeMap;

use crate::command::{Deploy, Expose};
use crate::event::{Entry, Event, ReleaseCreated, Target, Tls};
use crate::facts::{Facts, Ids};
use crate::ids::*;
use crate::manifest::Manifest;
use crate::phase::DeployStatus;
use crate::refusal::Refusal;
use crate::state::State;

use super::bootstrap::DEFAULT;
use super::{quotas, volumes};

/// RFC 1035, section 2.3.4.
const LABEL_MAX: usize = 63;
const HOSTNAME_MAX: usize = 253;

/// The env whose host names are just `APP.domain`.
pub const DEFAULT_ENV: &str = "dev";

pub fn deploy(state: &State, wanted: Deploy, facts: &Facts) -> Result<Vec<Event>, Refusal> {
    [&wanted.app, &wanted.env].into_iter().try_for_each(|name| check_name(name))?;
    let ids = facts.ids();
    let mut events = Vec::new();
    let org = state.org_named(&wanted.org).ok_or_else(|| Refusal::OrgNotFound(wanted.org.clone()))?;
    let app = app(state, org, &wanted.app, &ids, &mut events)?;
    let env = env(state, org, app, &wanted.env, &ids, &mut events);
    let release = release(state, org, app, &wanted, &ids, &mut events);
    events.extend(volumes::of_deploy(state, (org, env), &wanted.manifest, wanted.create_volumes, &ids)?);
    supersede(state, env, &mut events);
    let processes = wanted.manifest.processes.keys().cloned().collect();
    events.push(Event::DeployCreated { deploy: ids.fresh(), org, app, env, release, processes });
    for expose in entries(state, env, &wanted)? {
        events.extend(route(state, org, app, env, release, expose, &ids)?);
    }
    quotas::deploy(state, org, env, release, &wanted.manifest, &events)?;
    Ok(events)
}

/// P-ID-4: 1..64 of `[a-z0-9-]`, no hyphen at an end.
pub fn check_name(name: &str) -> Result<(), Refusal> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let sound =
        (1..=64).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('-') && !name.ends_with('-');
    if sound { Ok(()) } else { Err(Refusal::InvalidName(name.chars().take(80).collect())) }
}

fn app(state: &State, org: OrgId, name: &str, ids: &Ids, events: &mut Vec<Event>) -> Result<AppId, Refusal> {
    if let Some(app) = state.app_named(org, name) {
        return Ok(app);
    }
    let project = state.projects.iter().find(|(_, project)| project.org == org && project.name == DEFAULT);
    let (project, _) = project.ok_or(Refusal::NotBootstrapped)?;
    let app = ids.fresh();
    events.push(Event::AppCreated { app, org, project: *project, name: name.to_owned() });
    Ok(app)
}

fn env(state: &State, org: OrgId, app: AppId, name: &str, ids: &Ids, events: &mut Vec<Event>) -> EnvId {
    state.env_named(app, name).unwrap_or_else(|| {
        let env = ids.fresh();
        events.push(Event::EnvCreated { env, org, app, name: name.to_owned() });
        env
    })
}

/// A release is an image, with where to get it from, and a manifest: the same pair is the same release.
fn release(state: &State, org: OrgId, app: AppId, wanted: &Deploy, ids: &Ids, events: &mut Vec<Event>) -> ReleaseId {
    let manifest_hash = wanted.manifest.hash();
    let same = state
        .releases
        .iter()
        .find(|(_, known)| known.app == app && known.image == wanted.image && known.manifest_hash == manifest_hash);
    if let Some((release, _)) = same {
        return *release;
    }
    let release = ids.fresh();
    events.push(Event::ReleaseCreated(Box::new(ReleaseCreated {
        release,
        org,
        app,
        image: wanted.image.clone(),
        manifest_hash,
        manifest: wanted.manifest.clone(),
        vars: wanted.vars,
    })));
    release
}

fn supersede(state: &State, env: EnvId, events: &mut Vec<Event>) {
    events.extend(state.index.deploying_to(env).map(|deploy| Event::DeployStatusChanged {
        deploy,
        status: DeployStatus::Superseded,
        failure: None,
    }));
}

/// What was asked for, each entry once; the managed host name, unless that was asked for too; and what earlier deploys asked for, as far
/// as there is still something to lead to.
fn entries(state: &State, env: EnvId, wanted: &Deploy) -> Result<impl Iterator<Item = Expose> + use<>, Refusal> {
    let mut entries = BTreeMap::new();
    for asked in &wanted.expose {
        declared(&wanted.manifest, asked)?;
        ours(state, asked)?;
        let other = entries.insert(asked.entry.clone(), asked.clone());
        if other.is_some_and(|other| other != *asked) {
            return Err(taken(asked.entry.clone()));
        }
    }
    let managed = managed(state, wanted)?;
    for route in state.routes.values().filter(|route| route.env == env) {
        let Some(Target { process, port, tls, .. }) = route.target().cloned() else { continue };
        let before = Expose { entry: route.entry.clone(), process, port, tls };
        // The managed name follows the manifest, unless it was said to be something else.
        let follows = tls.is_terminated() && managed.as_ref().is_some_and(|managed| managed.entry == before.entry);
        if !follows && declared(&wanted.manifest, &before).is_ok() {
            entries.entry(before.entry.clone()).or_insert(before);
        }
    }
    if let Some(managed) = managed {
        entries.entry(managed.entry.clone()).or_insert(managed);
    }
    Ok(entries.into_values())
}

/// A name below the cluster's own domain, which nobody has to prove to be theirs (P-EDGE-2, -4); TLS alone names hosts.
fn ours(state: &State, asked: &Expose) -> Result<(), Refusal> {
    let name = match &asked.entry {
        Entry::Hostname(name) => name,
        Entry::TcpPort(_) if asked.tls.is_terminated() => return Ok(()),
        Entry::TcpPort(port) => return Err(Refusal::NoTlsThere(*port)),
    };
    let cluster = state.cluster.as_ref().ok_or(Refusal::NotBootstrapped)?;
    let below = name.strip_suffix(&cluster.domain).and_then(|name| name.strip_suffix('.'));
    let below = below.ok_or_else(|| Refusal::HostnameNotOurs { domain: cluster.domain.clone() })?;
    let is_label = |label: &str| label.len() <= LABEL_MAX && check_name(label).is_ok();
    let is_sound = name.len() <= HOSTNAME_MAX && below.split('.').all(is_label);
    if is_sound { Ok(()) } else { Err(Refusal::InvalidHostname(name.chars().take(80).collect())) }
}

/// The managed host name leads to the first port of `web`, or of the first process type that has one.
fn managed(state: &State, wanted: &Deploy) -> Result<Option<Expose>, Refusal> {
    let cluster = state.cluster.as_ref().ok_or(Refusal::NotBootstrapped)?;
    let name = if wanted.env == DEFAULT_ENV { wanted.app.clone() } else { format!("{}-{}", wanted.app, wanted.env) };
    let entry = Entry::Hostname(format!("{name}.{}", cluster.domain));
    Ok(front_door(&wanted.manifest).map(|(process, port)| Expose { entry, process, port, tls: Tls::Terminated }))
}

fn front_door(manifest: &Manifest) -> Option<(String, u16)> {
    let web_first = manifest.processes.get_key_value("web").into_iter().chain(&manifest.processes);
    web_first.filter_map(|(name, process)| Some((name.clone(), process.ports.first()?.internal))).next()
}

fn declared(manifest: &Manifest, expose: &Expose) -> Result<(), Refusal> {
    let process = manifest.processes.get(&expose.process);
    let process = process.ok_or_else(|| Refusal::ProcessNotFound(expose.process.clone()))?;
    if process.ports.iter().any(|port| port.internal == expose.port) {
        return Ok(());
    }
    Err(Refusal::PortNotDeclared { process: expose.process.clone(), port: expose.port })
}

/// The entry is the env's own, and leads to the release from now on; to the instances of earlier ones it leads as before.
fn route(
    state: &State,
    org: OrgId,
    app: AppId,
    env: EnvId,
    release: ReleaseId,
    expose: Expose,
    ids: &Ids,
) -> Result<Vec<Event>, Refusal> {
    let Expose { entry, process, port, tls } = expose;
    let target = Target { release, process, port, tls };
    let known = state.route_at(&entry).and_then(|id| Some((id, state.routes.get(&id)?)));
    match known {
        Some((_, route)) if route.env != env => Err(taken(entry)),
        Some((_, route)) if route.target() == Some(&target) => Ok(Vec::new()),
        Some((route, _)) => Ok(vec![Event::RouteTargetSet { route, org, env, target }]),
        None => {
            let route = ids.fresh();
            let made = Event::RouteCreated { route, org, app, env, entry };
            Ok(vec![made, Event::RouteTargetSet { route, org, env, target }])
        }
    }
}

fn taken(entry: Entry) -> Refusal {
    match entry {
        Entry::Hostname(name) => Refusal::HostnameInUse(name),
        Entry::TcpPort(port) => Refusal::PortInUse(port),
    }
}
