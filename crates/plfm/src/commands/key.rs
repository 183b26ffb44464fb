//! `plfm key`: who may make and use sandboxes of the org, beside operators.

use crate::cli::{KeyCommand, KeyId};
use crate::context::Context;
use crate::printer::{Printer, Table};
use crate::{CliError, Exit};

pub async fn run(command: KeyCommand, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    match command {
        KeyCommand::Create => create(context, out).await,
        KeyCommand::Ls => list(context, out).await,
        KeyCommand::Revoke(key) => revoke(&key, context, out).await,
    }
}

async fn create(context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let made = context.client()?.create_key(&context.org()).await?;
    if out.is_json() {
        out.document("api_key", &made)?;
        return Ok(Exit::Success);
    }
    out.line(&made.key)?;
    out.note(format_args!("it is not shown again; take it back with `plfm key revoke {}`", made.id));
    Ok(Exit::Success)
}

async fn list(context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let keys = context.client()?.keys(&context.org()).await?;
    if out.is_json() {
        out.document("api_keys", &keys)?;
        return Ok(Exit::Success);
    }
    if keys.items.is_empty() {
        out.note("there is no key; make one with `plfm key create`, or `plfm sandbox env`");
        return Ok(Exit::Success);
    }
    let mut table = Table::new(["KEY", "SINCE"]);
    keys.items.iter().for_each(|key| table.row([key.id.to_string(), key.created_at.to_string()]));
    out.table(&table)?;
    Ok(Exit::Success)
}

async fn revoke(key: &KeyId, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    context.client()?.revoke_key(&context.org(), key.key).await?;
    if out.is_json() {
        out.document("api_key", &serde_json::json!({ "id": key.key, "state": "revoked" }))?;
    } else {
        out.done(format_args!("{} is good for nothing any more; its sandboxes go on to their end", key.key));
    }
    Ok(Exit::Success)
}
