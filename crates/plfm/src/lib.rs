//! The one host binary: the command line, and the roles `dev`, `server`, `node` and the edge.
//!
//! [`cli`] is the grammar, [`commands`] has one file for each command, [`printer`] is all that writes to the terminal, [`error`] and
//! [`exit`] say how a command ends. What the commands do is done by a server; they reach it through `plfm_api::client`.

use std::ffi::OsString;

use clap::Parser;

pub mod cli;
pub mod commands;
pub mod context;
mod credentials;
pub mod dev;
pub mod edge;
pub mod error;
pub mod exit;
pub mod manifest;
pub mod node;
pub mod printer;
pub mod profile;
pub mod role;
pub mod server;
pub mod terminal;
pub mod time;

pub use error::CliError;
pub use exit::Exit;

use cli::Cli;
use printer::Printer;

/// Reads the arguments, does what they say, reports an error; never panics on what a user typed.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return cli::refuse(&error, &args),
    };
    let mut out = Printer::standard(cli.global.json);
    let result = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let result = runtime.block_on(commands::run(cli, &mut out));
            // A thread may wait for input that never comes; the process ends without it.
            runtime.shutdown_background();
            result
        }
        Err(source) => Err(CliError::Runtime { source }),
    };
    result.unwrap_or_else(|error| error.report(&mut out))
}
