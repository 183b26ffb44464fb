//! `plfm dev`: server, node and edge in one process, on one data directory, speaking the same documents over the same mutual TLS as
//! three machines would. Ctrl-C stops everything; killed, it leaves machines that the next start adopts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use plfm_api::views::{ClosedPorts, RouteTable, route_table};
use plfm_core::event::Isolation;
use plfm_core::state::State;
use plfm_node::join::{Invitation, Membership};
use plfm_node::{AtEnd, Claim, Node};
use plfm_runtime::Runtime;
use plfm_runtime::space::Space;
use plfm_server::Server;
use tokio::sync::watch;

use crate::cli::{DevArgs, EdgeArgs, distinct};
use crate::edge::{self, Edge};
use crate::printer::Printer;
use crate::role::{self, Stop, failed};
use crate::{CliError, Exit, profile};

/// The managed domain of a developer's machine: `*.localhost` leads to itself (RFC 6761, section 6.3).
const DOMAIN: &str = "localhost";
const NODE_NAME: &str = "dev";
/// Each node listens where the system lets it; the server hears where.
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub async fn run(args: DevArgs, out: &mut Printer) -> Result<Exit, CliError> {
    role::trace();
    let mut stop = Stop::listen()?;
    let data = role::data_dir(args.data.as_deref())?;
    let (tell_closed, closed_ports) = watch::channel(ClosedPorts::new());
    let server = server(&args, &data, closed_ports).await?;
    let edge = edge(&args.edge, DOMAIN, &server, tell_closed).await?;
    let (api, https) = (server.address()?, edge.https_address());
    let invitation = invitation(&server, &data, api).await?;
    let (token, ca) = (data.join("server/admin.token"), data.join("server/ca.pem"));

    let (halt, halted) = watch::channel(false);
    let serving = tokio::spawn(server.run(halted.clone()));
    let edging = tokio::spawn(edge.run(halted.clone()));
    let claim = role::claim(&data)?;
    let runtime = role::machines(&args.machines, &data, &claim).await?;
    let isolation = runtime.class();
    let node = Node::build(node_config(&args, claim, invitation)?, runtime).await.map_err(failed("the node"))?;
    let at_end = if args.keep { AtEnd::LeaveMachines } else { AtEnd::StopMachines };
    let running = tokio::spawn(node.run(halted, at_end));

    profile::write_dev(&format!("https://{api}"), &ca, &token)?;
    welcome(out, &data, api, https, isolation);
    let ended = role::attend(&mut stop, running, || {
        out.note(if args.keep { "stopping; the machines are left running" } else { "stopping all machines" });
        halt.send_replace(true);
    });
    let (_, _, ended) = tokio::join!(serving, edging, ended);
    ended.map(|()| Exit::Success)
}

async fn server(args: &DevArgs, data: &Path, closed_ports: watch::Receiver<ClosedPorts>) -> Result<Server, CliError> {
    let config = plfm_server::Config {
        data: data.join("server"),
        listen: args.listen,
        hosts: Vec::new(),
        domain: DOMAIN.to_owned(),
        https_port: args.edge.https.port(),
        closed_ports,
        registries: role::registries(&args.machines.images)?,
        local_images: true,
    };
    Server::build(config).await.map_err(failed("the server"))
}

/// An edge that follows this server, and tells it which ports it cannot open.
pub async fn edge(
    args: &EdgeArgs,
    domain: &str,
    server: &Server,
    closed: watch::Sender<ClosedPorts>,
) -> Result<Edge, CliError> {
    let config = edge::Config {
        https: args.https,
        domain: domain.to_owned(),
        bounds: edge::Bounds {
            open: args.connections_max,
            open_by_one: args.client_connections_max,
            new_per_second: args.client_rate_max,
        },
        identity: server.edge_identity().map_err(failed("the edge"))?,
        certificates: Box::new(server.certificates()),
        routes: route_tables(server.watch()),
        closed,
    };
    Edge::build(config).await.map_err(failed("the edge"))
}

/// What the edge follows: every route of every new state.
fn route_tables(mut states: watch::Receiver<Arc<State>>) -> watch::Receiver<Arc<RouteTable>> {
    let (tell, table) = watch::channel(Arc::new(route_table(&states.borrow_and_update())));
    tokio::spawn(async move {
        while states.changed().await.is_ok() {
            let new = route_table(&states.borrow_and_update());
            tell.send_if_modified(|known| {
                let changed = known.routes() != new.routes();
                if changed {
                    *known = Arc::new(new);
                }
                changed
            });
        }
    });
    table
}

/// The node of this process joins as any other does; only the typing is spared.
async fn invitation(server: &Server, data: &Path, api: SocketAddr) -> Result<Option<Invitation>, CliError> {
    if Membership::load(&data.join("node")).map_err(failed("the node"))?.is_some() {
        return Ok(None);
    }
    let token = server.join_token().await.map_err(failed("the server"))?;
    Ok(Some(Invitation { token, server: api.to_string(), ca: server.ca_fingerprint() }))
}

fn node_config(args: &DevArgs, claim: Claim, invitation: Option<Invitation>) -> Result<plfm_node::Config, CliError> {
    Ok(plfm_node::Config {
        claim,
        tunnel: Some(ANY_PORT),
        name: NODE_NAME.to_owned(),
        invitation,
        registries: role::registries(&args.machines.images)?,
        memory: role::memory(&args.machines),
        labels: distinct(&args.machines.label)?,
        parked_max: args.machines.parked_max,
    })
}

fn welcome(out: &mut Printer, data: &Path, api: SocketAddr, https: SocketAddr, isolation: Isolation) {
    out.note(format_args!("plfm dev keeps everything in {}", data.display()));
    out.note(format_args!("  API   https://{api} (profile `{}`)", profile::DEV));
    out.note(format_args!("  apps  https://APP.{DOMAIN}:{}", https.port()));
    out.note(format_args!("  CA    {}", data.join("server/ca.pem").display()));
    if isolation != Isolation::Vm {
        out.warn("KVM does not work here: machines are emulated, slow, and no wall against hostile code");
    }
    if Space::of(data).is_ok_and(|space| space.is_scarce(false)) {
        out.warn("the disk is nearly full: with less than a tenth and 5 GiB free nothing new is started");
    }
    out.done("ready; deploy with `plfm deploy`, stop with Ctrl-C");
}
