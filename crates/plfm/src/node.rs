//! `plfm node`: runs instances for a server elsewhere.

use plfm_node::join::Membership;
use plfm_node::{AtEnd, Node, NodeError};
use tokio::sync::watch;

use crate::cli::{NodeArgs, distinct};
use crate::printer::Printer;
use crate::role::{self, Stop, failed};
use crate::{CliError, Exit};

pub async fn run(args: NodeArgs, out: &mut Printer) -> Result<Exit, CliError> {
    role::trace();
    let mut stop = Stop::listen()?;
    let data = role::data_dir(args.data.as_deref())?;
    let claim = role::claim(&data)?;
    if args.join.is_none() && Membership::load(&data.join("node")).map_err(failed("the node"))?.is_none() {
        return Err(failed("the node")(NodeError::NotJoined));
    }
    let runtime = role::machines(&args.machines, &data, &claim).await?;
    let config = plfm_node::Config {
        claim,
        tunnel: args.tunnel,
        name: args.name.unwrap_or_else(host_name),
        invitation: args.join,
        registries: role::registries(&args.machines.images)?,
        memory: role::memory(&args.machines),
        labels: distinct(&args.machines.label)?,
        parked_max: args.machines.parked_max,
    };
    let node = Node::build(config, runtime).await.map_err(failed("the node"))?;
    out.done(format_args!("{} runs instances here; its machines outlive this process", node.id()));
    let (halt, halted) = watch::channel(false);
    let running = tokio::spawn(node.run(halted, AtEnd::LeaveMachines));
    role::attend(&mut stop, running, || {
        halt.send_replace(true);
    })
    .await?;
    Ok(Exit::Success)
}

/// As names go: lower case, without the domain.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let label: String = name.trim().split('.').next().unwrap_or_default().to_lowercase();
    label
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect::<String>()
        .trim_matches('-')
        .to_owned()
}
