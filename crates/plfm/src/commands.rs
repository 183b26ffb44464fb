//! One file for each command: what it asks of the API, and how it shows the answer.

use crate::cli::{Cli, Command, NodeCommand};
use crate::context::Context;
use crate::printer::Printer;
use crate::{CliError, Exit, dev, node, server};

mod completion;
mod deploy;
mod doctor;
mod events;
mod exec;
mod explain;
mod instances;
mod key;
mod logs;
mod looks;
mod manifest;
mod node_order;
mod node_token;
mod nodes;
mod org;
mod releases;
mod routes;
mod sandbox;
mod snapshot;
mod stats;
mod status;
mod template;
mod version;
mod volume;

pub async fn run(cli: Cli, out: &mut Printer) -> Result<Exit, CliError> {
    let context = || Context::new(&cli.global);
    match cli.command {
        Command::Deploy(args) => deploy::run(args, &context()?, out).await,
        Command::Rollback(args) => deploy::roll_back(args, &context()?, out).await,
        Command::Releases(args) => releases::run(args, &context()?, out).await,
        Command::Status(args) => status::run(args, &context()?, out).await,
        Command::Instances(args) => instances::run(args, &context()?, out).await,
        Command::Routes(args) => routes::run(args, &context()?, out).await,
        Command::Unexpose(args) => routes::unexpose(args, &context()?, out).await,
        Command::Nodes => nodes::run(&context()?, out).await,
        Command::Logs(args) => logs::run(args, &context()?, out).await,
        Command::Stats(args) => stats::run(args, &context()?, out).await,
        Command::Exec(args) => exec::run(args, &context()?, out).await,
        Command::Explain(args) => explain::run(args, &context()?, out).await,
        Command::Events(args) => events::run(args, &context()?, out).await,
        Command::Sandbox(command) => sandbox::run(command, &context()?, out).await,
        Command::Key(command) => key::run(command, &context()?, out).await,
        Command::Template(command) => template::run(command, &context()?, out).await,
        Command::Snapshot(command) => snapshot::run(command, &context()?, out).await,
        Command::Volume(command) => volume::run(command, &context()?, out).await,
        Command::Require(args) => org::require(args, &context()?, out).await,
        Command::Priority(args) => org::priority(args, &context()?, out).await,
        Command::Org(command) => org::run(command, &context()?, out).await,
        Command::Manifest(command) => manifest::run(command, &context()?, out),
        Command::Doctor(args) => doctor::run(args, &context()?, out).await,
        Command::Completion { shell } => completion::run(shell, out),
        Command::Version => version::run(&context()?, out).await,
        Command::Dev(args) => dev::run(args, out).await,
        Command::Server(args) => server::run(args, out).await,
        Command::Node(mut args) => match args.command.take() {
            None => node::run(args, out).await,
            Some(NodeCommand::Token(args)) => node_token::run(&args, &context()?, out).await,
            Some(NodeCommand::Explain(name)) => explain::node(&name, &context()?, out).await,
            Some(NodeCommand::Order(order)) => node_order::run(order, &context()?, out).await,
        },
    }
}

/// An id without its time, for where the full one is too long to read.
fn short(id: impl ToString) -> String {
    let id = id.to_string();
    id[id.len().saturating_sub(6)..].to_lowercase()
}
