//! `plfm server`: the log, the API and an edge, for nodes elsewhere.

use plfm_server::Server;
use tokio::sync::watch;

use crate::cli::ServerArgs;
use crate::printer::Printer;
use crate::role::{self, Stop, failed};
use crate::{CliError, Exit, dev};

pub async fn run(args: ServerArgs, out: &mut Printer) -> Result<Exit, CliError> {
    role::trace();
    let mut stop = Stop::listen()?;
    let data = role::data_dir(args.data.as_deref())?;
    let config = plfm_server::Config {
        data: data.join("server"),
        listen: args.listen,
        hosts: args.host.clone(),
        domain: args.domain.clone(),
        https_port: args.https.port(),
        registries: role::registries(&args.images),
        local_images: false,
    };
    let server = Server::build(config).await.map_err(failed("the server"))?;
    let edge = dev::edge(args.https, &args.domain, &server).await?;
    out.done(format_args!(
        "serving at https://{}; the admin's token is in {}",
        server.address()?,
        data.join("server").display()
    ));
    let (halt, halted) = watch::channel(false);
    let serving = tokio::spawn(server.run(halted.clone()));
    let edging = tokio::spawn(edge.run(halted));
    stop.asked().await;
    halt.send_replace(true);
    let _ = tokio::join!(serving, edging);
    Ok(Exit::Success)
}
