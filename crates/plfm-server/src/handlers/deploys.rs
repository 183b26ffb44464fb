//! `POST …/deploys`: read the manifest, pin the image, seal the variables, submit.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use axum::{Extension, Json};
use http::StatusCode;
use plfm_api::views::{self, DeployReceipt, DeployRequest, DeploysView, ExposeRequest, RollbackRequest};
use plfm_core::command::{Command, Deploy, Expose};
use plfm_core::digest::Digest;
use plfm_core::event::{Event, ReleaseImage};
use plfm_core::manifest::Manifest;
use plfm_core::units::Seq;
use plfm_image::reference::Place;
use plfm_image::{ImageRef, Platform};

use super::apps::{EnvPath, find};
use super::org;
use crate::ApiError;
use crate::identity::Caller;
use crate::routes::{accepted, current_request};
use crate::serve::Shared;

/// More than one deploy makes: its release, itself, and its routes.
const EVENTS_MAX: usize = 256;
/// As many places for disks as machines have beside their images.
const MOUNTS_MAX: usize = 8;

pub async fn create(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((org_name, app, env)): Path<(String, String, String)>,
    Json(request): Json<DeployRequest>,
) -> Result<Response, ApiError> {
    org(&shared.writer.state(), &caller, &org_name)?;
    let actor = caller.actor()?;
    let mut manifest = Manifest::parse(request.manifest.as_bytes()).map_err(|errors| ApiError::manifest(&errors))?;
    supported(&manifest)?;
    let image = pin(&shared, request.image.as_ref().or(manifest.image.reference.as_ref())).await?;
    let vars = shared.vault.redact(&mut manifest);
    let vars = if vars.values().all(|vars| vars.is_empty()) {
        None
    } else {
        Some(shared.keep(shared.vault.seal(&vars)).await?)
    };
    let expose = request.expose.into_iter().map(exposed).collect();
    let create_volumes = request.create_volumes;
    let wanted = Deploy { org: org_name, app, env, image, manifest, vars, expose, create_volumes };
    let seq = shared.writer.submit(Command::Deploy(Box::new(wanted)), actor, current_request()).await?;
    Ok(accepted(StatusCode::ACCEPTED, seq, receipt(&shared, seq).await?))
}

pub async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: EnvPath,
) -> Result<Json<DeploysView>, ApiError> {
    let state = shared.writer.state();
    let (env, _) = find(&state, &caller, path)?;
    Ok(Json(views::deploys(&state, env)))
}

pub async fn roll_back(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: EnvPath,
    Json(request): Json<RollbackRequest>,
) -> Result<Response, ApiError> {
    let (env, _) = find(&shared.writer.state(), &caller, path)?;
    let command = Command::Rollback { env, release: request.release };
    let seq = shared.writer.submit(command, caller.actor()?, current_request()).await?;
    Ok(accepted(StatusCode::ACCEPTED, seq, receipt(&shared, seq).await?))
}

/// What the manifest can say and this server cannot do yet: an app must not be left to think that its files are kept.
fn supported(manifest: &Manifest) -> Result<(), ApiError> {
    let unsupported = manifest.processes.iter().find_map(|(name, process)| match process {
        _ if process.mounts.len() > MOUNTS_MAX => Some((name, "mounts", "a machine has eight volumes at most")),
        _ if process.secrets.required => Some((name, "secrets.required", "there are no secrets yet")),
        _ => None,
    });
    let Some((process, field, why)) = unsupported else { return Ok(()) };
    let hint = format!("leave `processes.{process}.{field}` out; variables (`[env.vars]`) are sealed");
    Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, "not_implemented", why, hint))
}

/// A tag is looked up once, here; from now on only its digest counts.
pub(super) async fn pin(shared: &Shared, reference: Option<&String>) -> Result<ReleaseImage, ApiError> {
    let Some(reference) = reference else {
        let hint = "write `ref = \"registry/name:tag\"` under `[image]`, or use `plfm deploy --image`";
        return Err(ApiError::invalid("the manifest names no image", hint));
    };
    let parsed = reference.parse::<ImageRef>().map_err(unresolved)?;
    if is_local(&parsed) && !shared.local_images {
        let hint = "push the image to a registry; only `plfm dev` reads images from this machine's disk";
        return Err(ApiError::invalid("this server does not read images from disk", hint));
    }
    let resolved = plfm_image::resolve(&parsed, &shared.registries).await.map_err(unresolved)?;
    Ok(ReleaseImage { reference: reference.clone(), digest: resolved.digest, platforms: linux(resolved.platforms) })
}

fn is_local(image: &ImageRef) -> bool {
    matches!(image.place, Place::Layout(_) | Place::Archive(_))
}

/// By architecture; where there are variants, the plain one.
fn linux(platforms: Vec<(Platform, Digest)>) -> BTreeMap<String, Digest> {
    let mut linux: Vec<_> = platforms.into_iter().filter(|(platform, _)| platform.os == "linux").collect();
    linux.sort_by_key(|(platform, _)| std::cmp::Reverse(platform.variant.clone()));
    linux.into_iter().map(|(platform, digest)| (platform.architecture, digest)).collect()
}

fn unresolved(error: plfm_image::ImageError) -> ApiError {
    if let plfm_image::ImageError::Reference(refusal) = &error {
        return ApiError::invalid(&refusal.message, &refusal.hint);
    }
    let hint = error.reason().hint();
    ApiError::new(StatusCode::BAD_REQUEST, error.reason().code(), error.failure().detail, hint)
}

fn exposed(request: ExposeRequest) -> Expose {
    let ExposeRequest { listen, process, port, tls } = request;
    Expose { entry: listen.into(), process, port, tls }
}

/// Of the deploy that this very request made: in the same moment another may have followed it.
async fn receipt(shared: &Shared, seq: Seq) -> Result<DeployReceipt, ApiError> {
    let request = current_request();
    let events = shared.events(Seq(seq.0.saturating_sub(EVENTS_MAX as u64)), EVENTS_MAX).await;
    let events = events.map_err(|mut error| {
        error.0.hint = "the deploy was accepted all the same: see `plfm status`".to_owned();
        error
    })?;
    let ours = events.into_iter().filter(|envelope| envelope.request == request).map(|envelope| envelope.event);
    let mut created = ours.filter_map(|event| match event {
        Event::DeployCreated { deploy, release, .. } => Some((deploy, release)),
        _ => None,
    });
    let (deploy, release) = created.next().ok_or_else(|| ApiError::not_found("deploy of this request", seq))?;
    let state = shared.writer.state();
    let image = state.releases.get(&release).ok_or_else(|| ApiError::not_found("release", release))?.image.digest;
    Ok(DeployReceipt { deploy, release, image, seq })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_done_is_refused() {
        let manifest = |lines: &str| {
            let text =
                format!("schema_version = \"v1\"\n[processes.web]\nresources = {{ memory = \"64Mi\" }}\n{lines}");
            Manifest::parse(text.as_bytes()).unwrap()
        };
        assert!(supported(&manifest("")).is_ok());
        let mounts = |count: usize| {
            let mount = |number: usize| format!("{{ volume = \"v{number}\", path = \"/v{number}\" }}");
            let volume = |number: usize| format!("[[volumes]]\nname = \"v{number}\"\nsize = \"1Gi\"\n");
            let (mounts, volumes): (Vec<_>, String) =
                ((0..count).map(mount).collect(), (0..count).map(volume).collect());
            format!("mounts = [{}]\n{volumes}", mounts.join(", "))
        };
        assert!(supported(&manifest(&mounts(MOUNTS_MAX))).is_ok());
        for lines in ["secrets = { required = true }", &mounts(MOUNTS_MAX + 1)] {
            assert!(supported(&manifest(lines)).is_err(), "{lines}");
        }
    }
}
