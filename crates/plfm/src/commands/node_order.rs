//! `plfm node drain`, `disable`, `activate`, `tolerate`, `decommission`, `reschedule`: what operators say of nodes.

use std::time::Duration;

use plfm_api::client::Client;
use plfm_api::views::{ExplainLine, NodeOrder, NodeView};
use tokio::time::timeout;

use crate::cli::{DrainArgs, OrderCommand, TolerateArgs};
use crate::commands::looks::Looks;
use crate::context::Context;
use crate::printer::{Live, Printer};
use crate::{CliError, Exit};

/// More would push the rest of the screen away.
const REASONS_MAX: usize = 3;

pub async fn run(command: OrderCommand, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let client = context.client()?;
    match command {
        OrderCommand::Drain(args) => leave(NodeOrder::Drain, &args, &client, out).await,
        OrderCommand::Disable(args) => leave(NodeOrder::Disable, &args, &client, out).await,
        OrderCommand::Tolerate(TolerateArgs { name, off: false }) => {
            order(NodeOrder::Tolerate, &name.node, &client, out).await
        }
        OrderCommand::Tolerate(TolerateArgs { name, off: true }) => {
            order(NodeOrder::Distrust, &name.node, &client, out).await
        }
        OrderCommand::Activate(name) => order(NodeOrder::Activate, &name.node, &client, out).await,
        OrderCommand::Decommission(name) => order(NodeOrder::Decommission, &name.node, &client, out).await,
        OrderCommand::Reschedule => reschedule(&client, out).await,
    }
}

async fn order(order: NodeOrder, node: &str, client: &Client, out: &mut Printer) -> Result<Exit, CliError> {
    let view = client.order_node(node, order).await?;
    show(&view, out)
}

async fn leave(order: NodeOrder, args: &DrainArgs, client: &Client, out: &mut Printer) -> Result<Exit, CliError> {
    let mut view = client.order_node(&args.name.node, order).await?;
    if !args.no_wait {
        view = empty(view, args.wait_timeout, client, out).await?;
    }
    show(&view, out)
}

async fn empty(node: NodeView, patience: Duration, client: &Client, out: &mut Printer) -> Result<NodeView, CliError> {
    let mut live = out.live();
    let end = timeout(patience, until_empty(&node, client, &mut live, out)).await;
    live.end();
    end.map_err(|_| CliError::DrainTimeout { node: node.name })?
}

/// What has volumes stays; someone has to decide about it.
async fn until_empty(
    node: &NodeView,
    client: &Client,
    live: &mut Live,
    out: &mut Printer,
) -> Result<NodeView, CliError> {
    let mut looks = Looks::default();
    loop {
        match client.node(&node.id.to_string()).await {
            Ok(now) if now.instances <= now.stateful => return Ok(now),
            Ok(now) if !now.phase.is_leaving() => {
                return Err(CliError::DrainEnded {
                    node: now.name,
                    phase: now.phase,
                    left: now.instances - now.stateful,
                });
            }
            Ok(now) => live.show(out, &still_there(&now, client).await),
            Err(error) if error.is_retryable() => live.show(out, &[format!("{error}; trying again")]),
            Err(error) => return Err(error.into()),
        }
        looks.wait().await;
    }
}

/// How many are left, and what the first of them wait for.
async fn still_there(node: &NodeView, client: &Client) -> Vec<String> {
    let mut lines = vec![format!("{}: {} to go", node.name, count(node.instances - node.stateful))];
    if let Ok(explanation) = client.explain_node(&node.id.to_string()).await {
        let why = |it: ExplainLine| [format!("  {}: {}", it.what, it.why), format!("    {}", it.next)];
        lines.extend(explanation.lines.into_iter().take(REASONS_MAX).flat_map(why));
    }
    lines
}

fn show(node: &NodeView, out: &mut Printer) -> Result<Exit, CliError> {
    if out.is_json() {
        out.document("node", node)?;
        return Ok(Exit::Success);
    }
    let left = if node.instances > 0 { format!(", {} there", count(node.instances)) } else { String::new() };
    out.done(format_args!("{} is {}{left}", node.name, crate::commands::nodes::phase(node)));
    if node.phase.is_leaving() && node.stateful > 0 {
        out.note(format_args!("{} have volumes and stay; see `plfm instances`", node.stateful));
    }
    Ok(Exit::Success)
}

async fn reschedule(client: &Client, out: &mut Printer) -> Result<Exit, CliError> {
    client.force_reschedule().await?;
    if out.is_json() {
        out.document("reschedule", &serde_json::json!({ "status": "accepted" }))?;
    } else {
        out.done("the work of lost nodes goes elsewhere; watch with `plfm instances`");
    }
    Ok(Exit::Success)
}

fn count(instances: u32) -> String {
    if instances == 1 { "1 instance".to_owned() } else { format!("{instances} instances") }
}
