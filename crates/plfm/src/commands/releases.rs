//! `plfm releases`: what was deployed to an environment, the newest first.

use std::collections::BTreeSet;

use plfm_api::views::DeployView;
use plfm_core::phase::DeployStatus;
use plfm_core::units::Timestamp;

use crate::cli::RoutesArgs;
use crate::context::Context;
use crate::printer::{Printer, Table};
use crate::{CliError, Exit, time};

pub async fn run(args: RoutesArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let (app, env) = (context.app(args.app.as_ref())?, context.env(&args.env));
    let deploys = context.client()?.deploys(&context.org(), &app, &env).await?;
    if out.is_json() {
        out.document("deploys", &deploys)?;
        return Ok(Exit::Success);
    }
    out.table(&table(&deploys.items, time::now()))?;
    let (mut ran, now) = (BTreeSet::new(), deploys.items.first().map(|it| it.release));
    ran.extend(deploys.items.iter().filter(|it| it.status == DeployStatus::Succeeded).map(|it| it.release));
    if ran.iter().any(|release| Some(*release) != now) {
        out.note(format_args!("next: plfm rollback [RELEASE] --app {app} --env {env}"));
    }
    Ok(Exit::Success)
}

fn table(deploys: &[DeployView], now: Timestamp) -> Table {
    let mut table = Table::new(["RELEASE", "AGO", "DEPLOY", "IMAGE", "DIGEST", "REASON"]);
    for it in deploys {
        table.row([
            it.release.to_string(),
            time::short(now.since(it.created_at)),
            it.status.to_string(),
            it.image.clone(),
            it.digest.to_string().chars().take(DIGEST_SHOWN).collect(),
            it.failure.as_ref().map(ToString::to_string).unwrap_or_default(),
        ]);
    }
    table
}

/// `sha256:` and twelve digits, as other tools show them.
const DIGEST_SHOWN: usize = 19;
