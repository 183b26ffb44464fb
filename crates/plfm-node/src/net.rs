//! The network of an instance on its host.
//!
//! Every guest sees the same small world: one card, one gateway, fixed addresses. That world is a network namespace of its own, and at
//! its border the fixed addresses become the instance's own:
//!
//! ```text
//!  guest 169.254.64.2, fd00:706c:666d::2
//!    │ tap0   namespace plfm-INSTANCE: 1:1 with the instance's address, egress rules, deny by default
//!    │ up0
//!  ──┼──────────────────────────────────────────────
//!    │ plfmv… host: route to the instance's address, table `inet plfm`: nothing between instances, nothing to
//!    │        the host, out by masquerading
//!   uplink
//! ```
//!
//! [`plan`] says what there should be, as lines and rule sets that can be read and compared; [`apply`] hands them to `ip` and `nft`.
//! Who may call an instance from other hosts is decided where routes are made; until then nobody may.
//!
//! On the host itself this turns on forwarding for IPv4 and IPv6 (and `accept_ra=2` where router advertisements were taken, since a
//! forwarding host ignores them otherwise) and adds the table `inet plfm`. Both stay when the last instance is gone.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv6Addr;

use plfm_core::ids::InstanceId;
use plfm_core::reason::Reason;
use plfm_runtime::Tap;
use tokio::sync::Mutex;

mod apply;
pub mod plan;

use plan::{Link, MTU};

#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} the network of {id}")]
pub struct NetError {
    operation: &'static str,
    id: InstanceId,
    #[source]
    source: io::Error,
}

impl NetError {
    pub fn reason(&self) -> Reason {
        Reason::NetworkSetupFailed
    }
}

/// The networks of this host's instances; changes are made one after another.
#[derive(Debug, Default)]
pub struct Net {
    turn: Mutex<()>,
}

impl Net {
    /// What is missing here, if anything is. Without it machines run without a network card.
    pub fn available() -> Result<(), String> {
        apply::available()
    }

    /// Makes the instance's network, or brings its rules up to date, and opens the guest's end of it.
    pub async fn ensure(&self, id: InstanceId, address: Ipv6Addr) -> Result<Tap, NetError> {
        let _turn = self.turn.lock().await;
        let made = blocking(move || make(id, address)).await;
        made.map_err(|source| NetError { operation: "make", id, source })
    }

    /// Makes one instance's network another's, with an address of its own; the machine in it does not notice.
    pub async fn hand_over(&self, id: InstanceId, to: InstanceId, address: Ipv6Addr) -> Result<(), NetError> {
        let _turn = self.turn.lock().await;
        let handed = blocking(move || pass_on(id, to, address)).await;
        handed.map_err(|source| NetError { operation: "hand over", id, source })
    }

    /// Removes all that was made for the instance. A machine that still holds its tap keeps the namespace, without a name.
    pub async fn remove(&self, id: InstanceId) -> Result<(), NetError> {
        let _turn = self.turn.lock().await;
        blocking(move || take_down(id)).await.map_err(|source| NetError { operation: "remove", id, source })
    }

    /// What came to the instance and what it sent, in bytes; none without a network.
    pub async fn passed(&self, id: InstanceId) -> io::Result<Option<(u64, u64)>> {
        blocking(move || {
            let link = apply::links()?.into_iter().find(|link| link.id == id);
            // What the host's end sends, the instance receives.
            link.map(|link| Ok((apply::counted(&link.name, "tx_bytes")?, apply::counted(&link.name, "rx_bytes")?)))
                .transpose()
        })
        .await
    }

    /// The instances of which there is anything, whole or in part.
    pub async fn list(&self) -> io::Result<Vec<InstanceId>> {
        blocking(|| {
            let whole = apply::links()?.into_iter().map(|link| link.id);
            let ids: BTreeSet<InstanceId> = whole.chain(apply::namespaces()?).collect();
            Ok(ids.into_iter().collect())
        })
        .await
    }
}

fn make(id: InstanceId, address: Ipv6Addr) -> io::Result<Tap> {
    apply::forward()?;
    apply::nft(&plan::host_rules())?;
    let others = apply::links()?;
    let link = match others.iter().find(|link| link.id == id && link.address == address) {
        // The last step of making it was to write this down, so all of it is there.
        Some(link) => link.clone(),
        None => make_new(Link::choose(id, address, &others))?,
    };
    let rules = link.rules();
    let fd = apply::inside(&plan::namespace(id), move || {
        apply::nft(&rules)?;
        apply::open_tap(plan::TAP)
    })?;
    Ok(Tap { fd, mtu: MTU })
}

fn make_new(link: Link) -> io::Result<Link> {
    take_down(link.id)?;
    apply::ip(&link.outside())?;
    let (settings, lines) = (plan::SETTINGS, link.inside());
    apply::inside(&plan::namespace(link.id), move || {
        settings.iter().try_for_each(|(name, value)| apply::set(name, value))?;
        apply::ip(&lines)
    })?;
    apply::ip(&link.finish())?;
    Ok(link)
}

/// Cut off in the middle, something of it goes by either name, and goes with either.
fn pass_on(id: InstanceId, to: InstanceId, address: Ipv6Addr) -> io::Result<()> {
    let links = apply::links()?;
    let link = links.iter().find(|link| link.id == id).ok_or(io::ErrorKind::NotFound)?;
    let (former, namespace) = (plan::namespace(id), plan::namespace(to));
    apply::name_too(&former, &namespace)?;
    let heir = Link { id: to, address, ..link.clone() };
    let rules = heir.rules();
    apply::inside(&namespace, move || apply::nft(&rules))?;
    apply::ip(&[vec![link.unroute(), heir.route()], heir.finish()].concat())?;
    apply::unname(&former)
}

fn take_down(id: InstanceId) -> io::Result<()> {
    if !apply::namespaces()?.contains(&id) {
        return Ok(());
    }
    // The namespace would take its interfaces along, but later; nothing of the sort may be there where making it broke off.
    let namespace = plan::namespace(id);
    let _ = apply::inside(&namespace, || apply::ip(&plan::unplug()));
    apply::ip(&[format!("netns del {namespace}")])
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests;
