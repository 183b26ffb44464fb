//! `plfm routes`: where traffic enters and where it leads; `plfm unexpose` takes an entry away.

use plfm_api::views::RouteView;
use plfm_core::explain::reopen;

use crate::cli::{RoutesArgs, UnexposeArgs};
use crate::context::Context;
use crate::printer::{Printer, Table};
use crate::{CliError, Exit};

pub async fn run(args: RoutesArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let (client, org) = (context.client()?, context.org());
    let (app, env) = (context.app(args.app.as_ref())?, context.env(&args.env));
    let routes = reachable(&client.env(&org, &app, &env).await?.routes, client.api_url());
    if out.is_json() {
        out.document("routes", &routes)?;
        return Ok(Exit::Success);
    }
    let mut table = Table::new(["URL", "LEADS TO", "OPEN"]);
    for route in &routes {
        let open = route.closed.as_ref().map_or("yes".to_owned(), |why| format!("no: {why}"));
        let target = route.target.as_ref().map(|it| format!("{}:{}", it.process, it.port)).unwrap_or_default();
        table.row([route.url.clone(), target, open]);
    }
    out.table(&table)?;
    Ok(Exit::Success)
}

pub async fn unexpose(args: UnexposeArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let (client, org) = (context.client()?, context.org());
    let (app, env) = (context.app(args.app.app.as_ref())?, context.explicit_env(&args.env)?);
    let gone = client.delete_route(&org, &app, &env, &args.entry).await?;
    let gone = RouteView { url: with_host(&gone.url, client.api_url()), ..gone };
    if out.is_json() {
        out.document("route", &gone)?;
        return Ok(Exit::Success);
    }
    out.done(format_args!("{} leads to {app} in {env} no more", gone.url));
    if gone.url.starts_with("https:") {
        out.note("a managed host name comes back with the next deploy");
    }
    Ok(Exit::Success)
}

/// A port of the edge has no host of its own: the API's stands in.
pub(super) fn reachable(routes: &[RouteView], api_url: &str) -> Vec<RouteView> {
    routes.iter().map(|route| RouteView { url: with_host(&route.url, api_url), ..route.clone() }).collect()
}

fn with_host(url: &str, api_url: &str) -> String {
    match (url.strip_prefix("tcp://:"), host(api_url)) {
        (Some(port), Some(host)) => format!("tcp://{host}:{port}"),
        _ => url.to_owned(),
    }
}

fn host(api_url: &str) -> Option<&str> {
    let authority = api_url.split_once("://")?.1.split('/').next()?;
    Some(authority.rsplit_once(':').map_or(authority, |(host, _)| host))
}

pub(super) fn closed(route: &RouteView, why: &str, app: &str, env: &str) -> String {
    let port = route.url.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_default();
    format!("not open: {why}; {}", reopen(port, app, env))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_the_edge_gets_the_host_of_the_api() {
        for (url, expected) in
            [("tcp://:9000", "tcp://[::1]:9000"), ("https://shop.localhost", "https://shop.localhost")]
        {
            assert_eq!(with_host(url, "https://[::1]:7443"), expected);
        }
    }
}
