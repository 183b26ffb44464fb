//! The first events of a log: the log itself, the cluster, the org and project `default`, the admin's token.

use std::net::Ipv6Addr;

use crate::digest::Digest;
use crate::event::{Event, Scope};
use crate::facts::Facts;
use crate::refusal::Refusal;
use crate::state::State;

pub const DEFAULT: &str = "default";

pub fn bootstrap(
    state: &State,
    domain: String,
    prefix: Ipv6Addr,
    admin: Digest,
    facts: &Facts,
) -> Result<Vec<Event>, Refusal> {
    if state.cluster.is_some() {
        return Err(Refusal::AlreadyBootstrapped);
    }
    let ids = facts.ids();
    let org = ids.fresh();
    Ok(vec![
        Event::LogStarted { log: ids.fresh() },
        Event::ClusterCreated { domain, prefix },
        Event::OrgCreated { org, name: DEFAULT.to_owned() },
        Event::ProjectCreated { project: ids.fresh(), org, name: DEFAULT.to_owned() },
        Event::TokenCreated { token: ids.fresh(), org: None, hash: admin, scopes: Scope::ALL.to_vec() },
    ])
}
