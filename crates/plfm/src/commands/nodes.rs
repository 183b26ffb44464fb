//! `plfm nodes`: every node, what it offers and what is held.

use plfm_api::views::NodeView;

use crate::context::Context;
use crate::printer::{Printer, Table};
use crate::{CliError, Exit};

pub async fn run(context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let nodes = context.client()?.nodes().await?;
    if out.is_json() {
        out.document("nodes", &nodes)?;
        return Ok(Exit::Success);
    }
    out.table(&table(&nodes.items))?;
    for node in nodes.items.iter().filter(|node| !node.capacity.labels.is_empty()) {
        out.note(format_args!("{} is labelled {}", node.name, node.capacity.labels));
    }
    if let Some(since) = nodes.rescheduling_frozen_since {
        out.note(format_args!("since {since} the work of lost nodes stays where it was: too many fell silent at once"));
        out.note("bring them back, or move their work with `plfm node reschedule`");
    }
    if nodes.items.is_empty() {
        out.note("no node has joined; `plfm node token` prints the command that adds one");
    }
    Ok(Exit::Success)
}

fn table(nodes: &[NodeView]) -> Table {
    let mut table = Table::new(["NAME", "NODE", "PHASE", "ARCH", "ISOLATION", "CPU", "MEMORY", "INSTANCES"]);
    for node in nodes {
        let offer = &node.capacity;
        table.row([
            node.name.clone(),
            node.id.to_string(),
            phase(node),
            offer.arch.clone(),
            format!("{:?}", offer.isolation).to_lowercase(),
            offer.cpu.to_string(),
            format!("{} of {}", node.committed.0, offer.memory),
            node.instances.to_string(),
        ]);
    }
    table
}

/// What keeps new work away stands beside it, or would.
pub fn phase(node: &NodeView) -> String {
    let is_tolerated = |why| if node.tolerated.contains(why) { " tolerated" } else { "" };
    let why: Vec<_> = node.capacity.degraded.iter().map(|why| format!("{}{}", why.code(), is_tolerated(why))).collect();
    if why.is_empty() { node.phase.to_string() } else { format!("{} ({})", node.phase, why.join(", ")) }
}
