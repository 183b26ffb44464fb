//! `plfm version`: this program, and the server that is talked to.

use serde_json::json;

use crate::context::Context;
use crate::printer::Printer;
use crate::{CliError, Exit};

pub async fn run(context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let version = env!("CARGO_PKG_VERSION");
    // No server is no error here: the question was about versions.
    let server = match context.client() {
        Ok(client) => client.capabilities().await.map_err(CliError::from),
        Err(error) => Err(error),
    };
    if out.is_json() {
        out.document("version", &json!({ "client": version, "server": server.ok() }))?;
        return Ok(Exit::Success);
    }
    out.line(format_args!("plfm {version}"))?;
    match server {
        Ok(server) => {
            out.line(format_args!("server {} (api {}, domain {})", server.version, server.api, server.domain))?
        }
        Err(error) => out.note(format_args!("server: {error}")),
    }
    Ok(Exit::Success)
}
