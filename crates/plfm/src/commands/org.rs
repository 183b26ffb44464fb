//! `plfm org`: what an org may have, its part, the nodes it wants; `plfm require`: the nodes that one environment wants.

use plfm_api::views::OrgView;
use plfm_core::labels::Labels;
use plfm_core::quota::Limits;

use crate::cli::{OrgCommand, RequireArgs, WeightArgs};
use crate::context::Context;
use crate::printer::{Printer, Table};
use crate::{CliError, Exit};

pub async fn run(command: OrgCommand, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let (client, org) = (context.client()?, context.org());
    let view = match command {
        OrgCommand::Show => client.org(&org).await?,
        OrgCommand::Limit(args) => {
            let known = client.org(&org).await?.limits;
            let said =
                known.into_iter().filter(|(_, limit)| !limit.is_default).map(|(name, limit)| (name, limit.limit));
            let mut limits: Limits = Limits(said.collect());
            for (dimension, limit) in args.limits {
                match limit {
                    Some(limit) => drop(limits.0.insert(dimension, limit)),
                    None => drop(limits.0.remove(&dimension)),
                }
            }
            client.set_limits(&org, limits).await?
        }
        OrgCommand::Weight(WeightArgs { weight, project: None }) => client.set_org_weight(&org, weight).await?,
        OrgCommand::Weight(WeightArgs { weight, project: Some(project) }) => {
            client.set_project_weight(&org, &project, weight).await?
        }
        OrgCommand::Require(args) => client.set_org_constraints(&org, labels(args.labels)).await?,
    };
    show(&view, out)
}

pub async fn require(args: RequireArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let (client, org) = (context.client()?, context.org());
    let (app, env) = (context.app(args.app.app.as_ref())?, context.explicit_env(&args.env)?);
    let constraints = labels(args.labels.labels);
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

fn labels(pairs: Vec<(String, String)>) -> Labels {
    Labels(pairs.into_iter().collect())
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
    let mut table = Table::new(["LIMIT", "MOST", "SET BY"]);
    for (dimension, limit) in &org.limits {
        let by = if limit.is_default { "default" } else { "operator" };
        table.row([dimension.code().to_owned(), format!("{} {}", limit.limit, dimension.words()), by.to_owned()]);
    }
    out.table(&table)?;
    Ok(Exit::Success)
}
