//! `plfm status`: what should run and what does.

use plfm_api::views::{DeployView, EnvView};
use plfm_core::fair::Class;
use plfm_core::units::Timestamp;

use super::{instances, routes};
use crate::cli::StatusArgs;
use crate::context::Context;
use crate::printer::{Printer, Table};
use crate::{CliError, Exit, time};

pub async fn run(args: StatusArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let (client, org) = (context.client()?, context.org());
    let Some(app) = context.app_if_any(args.app.as_ref())? else {
        return all(&client.envs(&org).await?.items, out);
    };
    let mut env = client.env(&org, &app, &context.env(&args.env)).await?;
    env.routes = routes::reachable(&env.routes, client.api_url());
    if out.is_json() {
        out.document("status", &env)?;
    } else {
        out.bytes(text(&env, time::now()).as_bytes())?;
    }
    Ok(Exit::Success)
}

fn all(envs: &[EnvView], out: &mut Printer) -> Result<Exit, CliError> {
    if out.is_json() {
        out.document("envs", &envs)?;
        return Ok(Exit::Success);
    }
    let mut table = Table::new(["APP", "ENV", "DEPLOY", "READY", "URL"]);
    for env in envs {
        let deploy = env.deploy.as_ref().map(|deploy| deploy.status.to_string()).unwrap_or_default();
        let url = env.routes.first().map(|route| route.url.clone()).unwrap_or_default();
        table.row([env.app.clone(), env.env.clone(), deploy, ready(env), url]);
    }
    out.table(&table)?;
    if envs.is_empty() {
        out.note("nothing is deployed; begin with `plfm deploy`");
    }
    Ok(Exit::Success)
}

fn ready(env: &EnvView) -> String {
    let counts = env.processes.iter().map(|process| format!("{} {}/{}", process.name, process.ready, process.wanted));
    counts.collect::<Vec<_>>().join(", ")
}

pub(super) fn text(env: &EnvView, now: Timestamp) -> String {
    let mut text = format!("{} in {}\n", env.app, env.env);
    if let Some(deploy) = &env.deploy {
        text += &headline(deploy, now);
    }
    for process in &env.processes {
        text += &format!("{}: {} of {} ready\n", process.name, process.ready, process.wanted);
        if let Some(waiting) = &process.waiting {
            text += &format!("  waiting: {waiting}\n");
        }
    }
    if !env.constraints.is_empty() {
        text += &format!("nodes: labelled {}\n", env.constraints);
    }
    if env.class != Class::Normal {
        text += &format!("priority: {}\n", env.class.code());
    }
    for route in &env.routes {
        text += &format!("url: {}\n", route.url);
        if let Some(why) = &route.closed {
            text += &format!("  {}\n", routes::closed(route, why, &env.app, &env.env));
        }
    }
    if !env.instances.is_empty() {
        text += &format!("\n{}", instances::table(&env.instances, now));
    }
    text
}

fn headline(deploy: &DeployView, now: Timestamp) -> String {
    let age = time::short(now.since(deploy.created_at));
    let failure =
        deploy.failure.as_ref().map(|it| format!("\n  {it}\n  hint: {}", it.reason.hint())).unwrap_or_default();
    format!("{} {}, begun {age} ago, image {}{failure}\n", deploy.id, deploy.status, deploy.image)
}

#[cfg(test)]
mod tests;
