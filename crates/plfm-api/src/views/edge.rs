//! What edges are told: where traffic enters, and who is ready for it.

use std::net::Ipv6Addr;

use plfm_core::event::{Entry, Target, Tls};
use plfm_core::ids::*;
use plfm_core::state::{Instance, State};
use plfm_core::units::Seq;
use serde::{Deserialize, Deserializer, Serialize};

/// One line of the route stream to an edge: always the whole table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteTable {
    pub seq: Seq,
    /// By entry, so that one of many thousand is found at once.
    #[serde(deserialize_with = "sorted")]
    routes: Vec<EdgeRoute>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EdgeRoute {
    pub entry: Entry,
    pub app: String,
    #[serde(default)]
    pub tls: Tls,
    pub backends: Vec<Backend>,
}

/// A ready instance, and both ways to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    pub instance: InstanceId,
    pub node: NodeId,
    /// The node's tunnel, `host:port`.
    pub tunnel: String,
    pub address: Ipv6Addr,
    pub port: u16,
}

impl RouteTable {
    pub fn new(seq: Seq, mut routes: Vec<EdgeRoute>) -> Self {
        routes.sort_by(|one, other| one.entry.cmp(&other.entry));
        Self { seq, routes }
    }

    pub fn routes(&self) -> &[EdgeRoute] {
        &self.routes
    }

    pub fn find(&self, entry: &Entry) -> Option<&EdgeRoute> {
        let at = self.routes.binary_search_by(|route| route.entry.cmp(entry)).ok()?;
        self.routes.get(at)
    }
}

/// A server of another version may have another order.
fn sorted<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<EdgeRoute>, D::Error> {
    Vec::deserialize(deserializer).map(|routes| RouteTable::new(Seq::default(), routes).routes)
}

/// What an edge needs: every route with its ready instances.
pub fn route_table(state: &State) -> RouteTable {
    let routes = state.routes.values().filter_map(|route| {
        let app = state.apps.get(&route.app)?.name.clone();
        let ready = state.live_in(route.env).filter(|(_, it)| it.is_ready());
        let ready: Vec<_> = ready.filter_map(|(id, it)| Some((id, it, route.target_of(it)?))).collect();
        // A connection is taken for all of them: while a release changes who ends TLS, the newest that has somebody ready says so.
        let is_served = |target: &&Target| ready.iter().any(|(.., it)| it.release == target.release);
        let newest = route.targets.iter().rev().find(is_served).or(route.target());
        let tls = newest.map(|target| target.tls).unwrap_or_default();
        let backend = |(instance, it, target): (InstanceId, &Instance, &Target)| {
            let tunnel = state.nodes.get(&it.node)?.capacity.tunnel.clone();
            Some(Backend { instance, node: it.node, tunnel, address: it.address, port: target.port })
        };
        let backends = ready.iter().copied().filter(|(.., target)| target.tls == tls).filter_map(backend).collect();
        Some(EdgeRoute { entry: route.entry.clone(), app, tls, backends })
    });
    RouteTable::new(state.seq, routes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_in_whatever_order_the_table_came() {
        let names = ["b.test", "a.test", "c.test"];
        let entry = |name: &str| Entry::Hostname(name.to_owned());
        let route = |name: &str| serde_json::json!({ "entry": entry(name), "app": name, "backends": [] });
        let text = serde_json::json!({ "seq": 7, "routes": names.map(route) }).to_string();
        let table: RouteTable = serde_json::from_str(&text).unwrap();
        let app = |name| table.find(&entry(name)).map(|route| route.app.as_str());
        assert_eq!(names.map(app), names.map(Some));
        assert_eq!((app("d.test"), table.find(&Entry::TcpPort(443))), (None, None));
        let again: RouteTable = serde_json::from_value(serde_json::to_value(&table).unwrap()).unwrap();
        assert_eq!((&again, again.seq), (&table, Seq(7)));
    }
}
