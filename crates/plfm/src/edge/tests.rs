//! A real client, through a real edge, to real servers, over both paths.

use plfm_core::event::Tls;
use plfm_core::ids::{InstanceId, NodeId};
use plfm_core::units::Seq;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::task::JoinHandle;
use ulid::Ulid;

use super::*;

mod ca;
mod http;
mod node;
mod passthrough;
mod tcp;

use ca::Ca;
use plfm_api::views::Backend;

/// An edge that serves, and what changes its table.
struct World {
    ca: Ca,
    https: SocketAddr,
    table: watch::Sender<Arc<RouteTable>>,
    closed: watch::Receiver<ClosedPorts>,
    stop: watch::Sender<bool>,
    edge: JoinHandle<()>,
}

impl World {
    async fn new() -> Self {
        Self::with(Bounds { open: 1_000, open_by_one: 1_000, new_per_second: 1_000 }).await
    }

    async fn with(bounds: Bounds) -> Self {
        let ca = Ca::new();
        let (table, routes) = watch::channel(Arc::default());
        let (tell_closed, closed) = watch::channel(ClosedPorts::new());
        let config = Config {
            https: "127.0.0.1:0".parse().unwrap(),
            domain: "localhost".to_owned(),
            identity: ca.identity("edge", "edge", "edge.plfm"),
            certificates: issue(ca.clone()),
            bounds,
            routes,
            closed: tell_closed,
        };
        let edge = Edge::build(config).await.unwrap();
        let (https, (stop, stopped)) = (edge.https_address(), watch::channel(false));
        Self { ca, https, table, closed, stop, edge: tokio::spawn(edge.run(stopped)) }
    }

    fn route(&self, entry: Entry, backends: Vec<Backend>) {
        self.route_as(entry, Tls::Terminated, backends);
    }

    fn route_as(&self, entry: Entry, tls: Tls, backends: Vec<Backend>) {
        self.table.send_modify(|table| {
            let mut routes: Vec<_> = table.routes().iter().filter(|route| route.entry != entry).cloned().collect();
            routes.push(EdgeRoute { entry: entry.clone(), app: "shop".to_owned(), tls, backends: backends.clone() });
            *table = Arc::new(RouteTable::new(Seq(table.seq.0 + 1), routes));
        });
    }

    /// Trusts the CA, and finds every name at the edge.
    fn client(&self, host: &str) -> reqwest::Client {
        let tls = plfm_api::tls::client_config(None, &self.ca.pem).unwrap();
        let client = reqwest::Client::builder().tls_backend_preconfigured(tls).resolve(host, self.https);
        client.build().unwrap()
    }

    async fn get(&self, host: &str, path: &str) -> reqwest::Response {
        self.client(host).get(self.url(host, path)).send().await.unwrap()
    }

    fn url(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.https.port())
    }
}

fn issue(ca: Ca) -> Issue {
    Box::new(move |host| {
        let identity = ca.identity("", host, host);
        let chain =
            CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes()).collect::<Result<_, _>>().ok()?;
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).ok()?;
        CertifiedKey::from_der(chain, key, &ring::default_provider()).ok().map(Arc::new)
    })
}

fn node_id() -> NodeId {
    NodeId::new(Ulid::from_parts(1, 1))
}

/// An instance at this address that has no other way in.
fn direct(number: u128, at: SocketAddr) -> Backend {
    let std::net::IpAddr::V6(address) = at.ip() else { panic!("instances have IPv6 addresses") };
    let instance = InstanceId::new(Ulid::from_parts(1, number));
    Backend { instance, node: node_id(), tunnel: "[::1]:1".to_owned(), address, port: at.port() }
}

/// An instance that is reached through this tunnel only.
fn relayed(number: u128, tunnel: &str) -> Backend {
    Backend { tunnel: tunnel.to_owned(), ..direct(number, "[::1]:1".parse().unwrap()) }
}

fn hostname(name: &str) -> Entry {
    Entry::Hostname(name.to_owned())
}
