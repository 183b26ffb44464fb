//! `plfm instances`: every instance, one line each.

use plfm_api::client::InstanceFilter;
use plfm_api::views::InstanceView;
use plfm_core::units::Timestamp;

use crate::cli::InstancesArgs;
use crate::context::Context;
use crate::printer::{Printer, Table};
use crate::{CliError, Exit, time};

pub async fn run(args: InstancesArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let filter = InstanceFilter { app: args.app, env: args.env, all: args.all };
    let instances = context.client()?.instances(&context.org(), &filter).await?;
    if out.is_json() {
        out.document("instances", &instances)?;
    } else {
        out.table(&table(&instances.items, time::now()))?;
    }
    Ok(Exit::Success)
}

pub(super) fn table(instances: &[InstanceView], now: Timestamp) -> Table {
    let mut table = Table::new(["INSTANCE", "APP", "ENV", "PROCESS", "NODE", "PHASE", "SINCE", "RESTARTS", "REASON"]);
    for it in instances {
        let phase = if it.desired == plfm_core::phase::Desired::Running { it.phase.to_string() } else { leaving(it) };
        table.row([
            it.id.to_string(),
            it.app.clone(),
            it.env.clone(),
            it.process.clone(),
            it.node.clone(),
            phase,
            time::short(now.since(it.changed_at)),
            it.restarts.to_string(),
            it.failure.as_ref().map(ToString::to_string).unwrap_or_default(),
        ]);
    }
    table
}

fn leaving(it: &InstanceView) -> String {
    if it.phase.is_live() { format!("{} ({})", it.phase, it.desired) } else { it.phase.to_string() }
}
