//! `plfm dev`: server, node and edge in one process, on one data directory, speaking the same documents over the same mutual TLS as
//! three machines would. Ctrl-C drains and stops everything; killed, it leaves machines that the next start adopts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plfm_api::views::{RouteTable, route_table};
use plfm_core::state::State;
use plfm_node::Node;
use plfm_node::join::Invitation;
use plfm_server::Server;
use plfm_server::writer::SubmitError;
use tokio::sync::watch;

use crate::cli::DevArgs;
use crate::edge::{self, Edge};
use crate::printer::Printer;
use crate::role::{self, Guest};
use crate::{CliError, Exit, profile};

/// The managed domain of a developer's machine: every system resolves `*.localhost` to itself (RFC 6761, section 6.3).
const DOMAIN: &str = "localhost";
const NODE_NAME: &str = "dev";

pub async fn run(args: DevArgs, out: &mut Printer) -> Result<Exit, CliError> {
    let stop = role::stop_signal()?;
    let data = role::data_dir(&args.data)?;
    let server = server(&args, &data).await?;
    let api = server.address().map_err(role::failed("listen"))?;
    let (halt, halted) = watch::channel(false);
    let edge = edge(&args, &server).await?;
    let https = edge.https_address();
    let invitation = invitation(&server, api).await?;
    let ca_file = data.join("server").join("ca.pem");
    let state = server.watch();
    let serving = tokio::spawn(server.run(halted.clone()));
    let runtime = role::machines(&data.join("node"), &args.kernel, out).await?;
    let node = Node::build(node_config(&args, &data, invitation), runtime).await.map_err(CliError::node)?;
    let running = tokio::spawn(node.run(halted.clone()));
    let edging = tokio::spawn(edge.run(halted));
    profile::write_dev(&format!("https://{api}"), &ca_file, &data.join("server").join("admin.token"))?;
    welcome(out, &data, api, https);
    stop.wait().await;
    out.note(format_args!("stopping"));
    drain(&args, &state).await;
    halt.send_replace(true);
    let _ = tokio::join!(serving, running, edging);
    Ok(Exit::Success)
}

async fn server(args: &DevArgs, data: &Path) -> Result<Server, CliError> {
    let config = plfm_server::Config {
        data: data.join("server"),
        listen: args.listen,
        hosts: Vec::new(),
        domain: DOMAIN.to_owned(),
        registries: role::registries(&args.registry),
        local_images: true,
    };
    Server::build(config).await.map_err(CliError::server)
}
