//! `plfm node token`: the command that adds a node.

use plfm_api::views::JoinTokenRequest;
use plfm_node::join::Invitation;
use serde_json::json;

use crate::cli::TokenArgs;
use crate::context::Context;
use crate::printer::Printer;
use crate::{CliError, Exit};

pub async fn run(args: &TokenArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let client = context.client()?;
    let token = client.join_token(&JoinTokenRequest { expires_seconds: Some(args.expires.as_secs()) }).await?;
    let server = client.api_url().trim_start_matches("https://").to_owned();
    let is_here = is_loopback(&server);
    let join = Invitation { token: token.token, server, ca: token.ca_fingerprint };
    let command = format!("plfm node --join '{join}'");
    if out.is_json() {
        let expires_at = token.expires_at.to_string();
        out.document("join_token", &json!({ "join": join.to_string(), "command": command, "expires_at": expires_at }))?;
        return Ok(Exit::Success);
    }
    out.line(command)?;
    out.note(format_args!("run it once, on the new node, before {}", token.expires_at));
    if is_here {
        out.note("its address is the server's own machine: for other hosts, start it with --listen and --host");
    }
    Ok(Exit::Success)
}

fn is_loopback(server: &str) -> bool {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}
