//! `plfm node token`: the command that adds a node.

use plfm_api::views::JoinTokenRequest;
use serde_json::json;

use crate::cli::{JoinAddress, TokenArgs};
use crate::context::Context;
use crate::printer::Printer;
use crate::{CliError, Exit};

pub async fn run(args: &TokenArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let client = context.client()?;
    let token = client.join_token(&JoinTokenRequest { expires_seconds: Some(args.expires.as_secs()) }).await?;
    let server = client.api_url().trim_start_matches("https://").to_owned();
    let join = JoinAddress { token: token.token, server, ca_fingerprint: token.ca_fingerprint };
    let command = format!("plfm node --join '{join}'");
    if out.is_json() {
        let expires_at = token.expires_at.to_string();
        out.document("join_token", &json!({ "join": join.to_string(), "command": command, "expires_at": expires_at }))?;
        return Ok(Exit::Success);
    }
    out.line(command)?;
    out.note(format_args!("run it once, on the new node, before {}", token.expires_at));
    Ok(Exit::Success)
}
