//! E2B's envd, processes and files (`spec`: W-PR, W-FS): on the channel's port 49983.
//!
//! [`web`] has the plain HTTP routes, [`service`] the calls, [`start`] turns a request into a launch, [`process`] lives as long as a
//! process and a while longer, [`audience`] carries its output to whoever listens, [`files`] has all that is about files.

use std::sync::Arc;

use connectrpc::Router;
use plfm_api::envd::ProcessExt;
use plfm_api::envd::filesystem::FilesystemExt;

use crate::daemon::Daemon;

mod audience;
mod end;
mod files;
mod process;
mod service;
mod start;
mod table;
mod viewer;
mod web;

pub use table::Table;
pub use web::Web;

/// The cgroup of everything that is started here.
pub const CGROUP: &str = "exec";

pub fn router(daemon: &Arc<Daemon>) -> Router {
    let router = Arc::new(service::Processes(daemon.clone())).register(Router::new());
    Arc::new(files::Files(daemon.clone())).register(router)
}
