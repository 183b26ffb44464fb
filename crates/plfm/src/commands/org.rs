//! `plfm org`: what an org may have, its part, the nodes it wants; `plfm require` and `plfm priority`: the nodes that
//! one environment wants, and its turn.

use plfm_api::views::{LimitsRequest, OrgView};
use plfm_core::quota::Dimension;
use plfm_core::units::{Mebibytes, MilliCpu};

use crate::cli::{OrgCommand, PriorityArgs, RequireArgs, WeightArgs, distinct};
use crate::context::Context;
use crate::printer::{Printer, Table};
use crate::{CliError, Exit};

pub async fn run(command: OrgCommand, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let (client, org) = (context.client()?, context.org());
    let view = match command {
        OrgCommand::Show => client.org(&org).await?,
        OrgCommand::Limit(args) => {
            client.set_limits(&org, &LimitsRequest { limits: args.limits.into_iter().collect() }).await?
        }
        OrgCommand::Weight(WeightArgs { weight, project: None }) => client.set_org_weight(&org, weight).await?,
        OrgCommand::Weight(WeightArgs { weight, project: Some(project) }) => {
            client.set_project_weight(&org, &project, weight).await?
        }
        OrgCommand::Require(args) => client.set_org_constraints(&org, distinct(&args.labels)?).await?,
    };
    show(&view, out)
}

pub async fn require(args: RequireArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let (client, org) = (context.client()?, context.org());
    let (app, env) = (context.app(args.app.app.as_ref())?, context.explicit_env(&args.env)?);
    let constraints = distinct(&args.labels.labels)?;
    client.set_env_constraints(&org, &app, &env, &constraints).await?;
    if out.is_json() {
        out.document("constraints", &constraints)?;
    } else if constraints.is_empty() {
        out.done(format_args!("{app} in {env} goes to any node that its org may use"));
    } else {
        out.done(format_args!("new instances of {app} in {env} go to nodes labelled {constraints}"));
    }
    Ok(Exit::Success)
}

pub async fn priority(args: PriorityArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let (client, org) = (context.client()?, context.org());
    let (app, env) = (context.app(args.app.app.as_ref())?, context.explicit_env(&args.env)?);
    let view = client.set_env_class(&org, &app, &env, args.class).await?;
    if out.is_json() {
        out.document("class", &view.class)?;
    } else {
        out.done(format_args!("new instances of {app} in {env} are served as {}", view.class.code()));
    }
    Ok(Exit::Success)
}

fn show(org: &OrgView, out: &mut Printer) -> Result<Exit, CliError> {
    if out.is_json() {
        out.document("org", org)?;
        return Ok(Exit::Success);
    }
    let nodes = if org.constraints.is_empty() { "any".to_owned() } else { format!("labelled {}", org.constraints) };
    out.line(format_args!("{}: weight {}, nodes {nodes}", org.name, org.weight))?;
    for project in &org.projects {
        out.line(format_args!("project {}: weight {}", project.name, project.weight))?;
    }
    let mut table = Table::new(["LIMIT", "USED", "MOST", "SET BY"]);
    for (dimension, limit) in &org.limits {
        let by = if limit.is_default { "default" } else { "operator" };
        let (used, most) = (amount(*dimension, limit.used), amount(*dimension, limit.limit));
        table.row([dimension.code().to_owned(), used, most, by.to_owned()]);
    }
    out.table(&table)?;
    Ok(Exit::Success)
}

/// As it is written in manifests.
fn amount(dimension: Dimension, amount: u64) -> String {
    match dimension {
        Dimension::Memory => Mebibytes(amount).to_string(),
        Dimension::Cpu => MilliCpu(u32::try_from(amount).unwrap_or(u32::MAX)).to_string(),
        _ => amount.to_string(),
    }
}
