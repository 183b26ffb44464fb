//! `plfm deploy`: check the manifest here, send it, follow the rollout. `plfm rollback`: the same of a release that is there.

use plfm_api::views::{DeployReceipt, DeployRequest, EnvView, RollbackRequest};
use serde_json::{Value, json};

use crate::cli::{DeployArgs, RollbackArgs, WaitArgs};
use crate::context::Context;
use crate::printer::Printer;
use crate::{CliError, Exit, manifest};

use super::routes;

mod progress;
mod rollout;

pub(crate) use progress::lines as progress_lines;
use rollout::{Outcome, Rollout};

pub async fn run(args: DeployArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let path = context.manifest(args.manifest.as_ref())?;
    let checked = manifest::check(&path)?;
    let app = context.app_of(&args.app, &checked.manifest)?;
    let (org, env) = (context.org(), context.explicit_env(&args.env)?);
    if args.image.is_none() && checked.manifest.image.reference.is_none() {
        return Err(CliError::NoImage);
    }
    let client = context.client()?;
    // A hint, and no more: without it the deploy is none the worse.
    if let Ok(envs) = client.envs(&org).await {
        new_env(&envs.items, &app, &env).into_iter().for_each(|note| out.note(note));
    }
    let expose = args.expose.into_iter().map(|expose| expose.0).collect();
    let request =
        DeployRequest { manifest: checked.text, image: args.image, expose, create_volumes: args.create_volumes };
    out.note(format_args!("deploying {app} to {env} of {org} at {}", client.api_url()));
    let receipt = client.deploy(&org, &app, &env, &request).await?;
    follow(&Rollout { client: &client, org: &org, app: &app, env: &env, receipt: &receipt }, &args.wait, out).await
}

/// `plfm rollback`: a release that has run before, once more.
pub async fn roll_back(args: RollbackArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let (client, org) = (context.client()?, context.org());
    let (app, env) = (context.app(args.app.app.as_ref())?, context.explicit_env(&args.env)?);
    let request = RollbackRequest { release: args.release };
    let receipt = client.roll_back(&org, &app, &env, &request).await?;
    follow(&Rollout { client: &client, org: &org, app: &app, env: &env, receipt: &receipt }, &args.wait, out).await
}

async fn follow(rollout: &Rollout<'_>, wait: &WaitArgs, out: &mut Printer) -> Result<Exit, CliError> {
    let DeployReceipt { deploy, release, image, .. } = rollout.receipt;
    out.note(format_args!("accepted: {deploy} with {release}, image {image}"));
    let outcome = if wait.no_wait { Outcome::Accepted } else { rollout.follow(wait.wait_timeout, out).await? };
    show(rollout, &outcome, out)
}

/// Whoever mistypes the name of an environment gets another one.
fn new_env(envs: &[EnvView], app: &str, env: &str) -> Option<String> {
    let known: Vec<_> = envs.iter().filter(|it| it.app == app).map(|it| it.env.as_str()).collect();
    let is_new = !known.is_empty() && !known.contains(&env);
    is_new.then(|| format!("{env} is a new environment of {app}, which is in {} so far", known.join(", ")))
}

fn show(rollout: &Rollout<'_>, outcome: &Outcome, out: &mut Printer) -> Result<Exit, CliError> {
    if out.is_json() {
        out.document("receipt", &receipt(rollout, outcome))?;
        return Ok(outcome.exit());
    }
    let Rollout { app, env, receipt, .. } = rollout;
    match outcome {
        Outcome::Accepted => out.note(format_args!("next: plfm status {app} --env {env}")),
        Outcome::Detached => {
            out.note(format_args!("{} goes on without you\nnext: plfm status {app} --env {env}", receipt.deploy));
        }
        Outcome::Converged { env: view, took } => {
            out.done(format_args!("deployed {app} to {env} in {}", crate::time::short(*took)));
            for route in routes::reachable(&view.routes, rollout.client.api_url()) {
                out.line(&route.url)?;
                if let Some(why) = &route.closed {
                    out.warn(routes::closed(&route, why, app, env));
                }
            }
        }
    }
    Ok(outcome.exit())
}

/// P-CLI-12.
fn receipt(rollout: &Rollout<'_>, outcome: &Outcome) -> Value {
    let Rollout { org, app, env, receipt: DeployReceipt { deploy, release, image, seq }, .. } = rollout;
    let next = |label: &str, cmd: String| json!({ "label": label, "cmd": cmd });
    let current = match outcome {
        Outcome::Converged { env, .. } => json!(env),
        _ => Value::Null,
    };
    json!({
        "status": outcome.code(),
        "kind": "deploy",
        "ids": { "deploy": deploy, "release": release },
        "seq": seq,
        "desired": { "org": org, "app": app, "env": env, "image": image },
        "current": current,
        "next": [
            next("watch", format!("plfm status {app} --env {env}")),
            next("why", format!("plfm explain {app} --env {env}")),
            next("output", format!("plfm logs {app} --env {env} --follow")),
        ],
    })
}
