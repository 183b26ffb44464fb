//! `plfm server`: the log, the API and an edge, for nodes elsewhere.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use plfm_api::views::ClosedPorts;
use plfm_server::Server;
use tokio::sync::watch;

use crate::cli::ServerArgs;
use crate::printer::Printer;
use crate::role::{self, Stop, failed};
use crate::{CliError, Exit, dev};

pub async fn run(args: ServerArgs, out: &mut Printer) -> Result<Exit, CliError> {
    role::trace();
    let mut stop = Stop::listen()?;
    let data = role::data_dir(args.data.as_deref())?;
    let (tell_closed, closed_ports) = watch::channel(ClosedPorts::new());
    let config = plfm_server::Config {
        data: data.join("server"),
        listen: args.listen,
        hosts: args.host.clone(),
        domain: args.domain.clone(),
        https_port: args.edge.https.port(),
        closed_ports,
        registries: role::registries(&args.images)?,
        local_images: false,
    };
    let server = Server::build(config).await.map_err(failed("the server"))?;
    let edge = dev::edge(&args.edge, &args.domain, &server, tell_closed).await?;
    welcome(out, &reached_at(&args, server.address()?), &data.join("server"));
    let (halt, halted) = watch::channel(false);
    let serving = tokio::spawn(server.run(halted.clone()));
    let edging = tokio::spawn(edge.run(halted));
    stop.asked().await;
    halt.send_replace(true);
    let _ = tokio::join!(serving, edging);
    Ok(Exit::Success)
}

/// By a name that its certificate has.
fn reached_at(args: &ServerArgs, listens: SocketAddr) -> String {
    let host = match (args.host.first(), listens.ip()) {
        (Some(host), _) => host.clone(),
        (None, ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
        (None, IpAddr::V6(ip)) => format!("[{ip}]"),
        (None, ip) => ip.to_string(),
    };
    format!("https://{host}:{}", listens.port())
}

/// A server may be anyone's; whoever is to use it from here says so, in a line that can be pasted.
fn welcome(out: &mut Printer, url: &str, data: &Path) {
    let data = data.display();
    out.note("to use it from this machine, type");
    out.note(format_args!(
        "  export PLFM_API_URL={url} PLFM_CA_FILE={data}/ca.pem PLFM_TOKEN=$(cat {data}/admin.token)"
    ));
    out.done(format_args!("serving at {url}; add a node with what `plfm node token` prints, stop with Ctrl-C"));
}
