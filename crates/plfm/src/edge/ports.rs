//! Plain TCP: the ports of the table are open, no others. What comes is passed on, byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use plfm_api::views::{ClosedPorts, EdgeRoute, RouteTable};
use plfm_core::event::Entry;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Pass, Shared, accept_failed, attend};

/// A port that someone else holds may become free.
const RETRY_EVERY: Duration = Duration::from_secs(5);

pub async fn serve(shared: &Arc<Shared>, ip: IpAddr) {
    let mut routes = shared.routes.clone();
    let mut ports = Ports { shared: shared.clone(), ip, open: BTreeMap::new(), closed: ClosedPorts::new() };
    loop {
        let wanted = wanted(&routes.borrow_and_update());
        ports.follow(&wanted).await;
        tokio::select! {
            changed = routes.changed() => if changed.is_err() { std::future::pending().await },
            () = tokio::time::sleep(RETRY_EVERY), if !ports.closed.is_empty() => {}
        }
    }
}

fn wanted(table: &RouteTable) -> BTreeSet<u16> {
    let port = |route: &EdgeRoute| if let Entry::TcpPort(port) = route.entry { Some(port) } else { None };
    table.routes().iter().filter_map(port).collect()
}

struct Ports {
    shared: Arc<Shared>,
    ip: IpAddr,
    /// A listener ends when its guard is dropped.
    open: BTreeMap<u16, DropGuard>,
    closed: ClosedPorts,
}

impl Ports {
    async fn follow(&mut self, wanted: &BTreeSet<u16>) {
        self.open.retain(|port, _| wanted.contains(port));
        self.closed.retain(|port, _| wanted.contains(port));
        for port in wanted {
            if !self.open.contains_key(port) {
                self.open(*port).await;
            }
        }
        self.shared.closed.send_if_modified(|told| {
            let is_news = *told != self.closed;
            if is_news {
                told.clone_from(&self.closed);
            }
            is_news
        });
    }

    async fn open(&mut self, port: u16) {
        match TcpListener::bind((self.ip, port)).await {
            Ok(listener) => {
                self.closed.remove(&port);
                let stop = CancellationToken::new();
                self.open.insert(port, stop.clone().drop_guard());
                tokio::spawn(listen(self.shared.clone(), listener, port, stop));
            }
            Err(error) => {
                if self.closed.insert(port, error.to_string()).is_none() {
                    tracing::error!(port, %error, "cannot open a port of the edge; the others go on");
                }
            }
        }
    }
}

async fn listen(shared: Arc<Shared>, listener: TcpListener, port: u16, stop: CancellationToken) {
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, client)) => {
                    if let Some(pass) = shared.admit(client) {
                        shared.spawn(connection(shared.clone(), stream, client, port, pass));
                    }
                }
                Err(error) => accept_failed(&error).await,
            }
        }
    };
    stop.run_until_cancelled(accept).await;
}

async fn connection(shared: Arc<Shared>, stream: TcpStream, client: SocketAddr, port: u16, _pass: Arc<Pass>) {
    attend(&stream);
    if let Some(route) = shared.route(&Entry::TcpPort(port)) {
        splice(&shared, stream, &[], client, &route).await;
    }
}

/// Both ways, until both have ended; `said` was read from it already.
pub async fn splice(shared: &Shared, mut stream: TcpStream, said: &[u8], client: SocketAddr, route: &EdgeRoute) {
    let (app, entry) = (&route.app, &route.entry);
    match shared.backends.connect(route).await {
        Ok(mut link) => {
            let spliced = async {
                link.write_all(said).await?;
                copy_bidirectional(&mut stream, &mut link).await
            };
            if let Err(error) = spliced.await {
                tracing::debug!(%client, ?entry, %error, "a connection ended early");
            }
        }
        Err(error) => tracing::info!(%client, ?entry, app, %error, "a connection is not taken"),
    }
}
