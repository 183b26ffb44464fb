//! Machines kept ready: clones of a seed that run already, are nobody, and rest. Whoever comes next becomes one of them.
//!
//! How many there are follows demand. They live on memory that is promised to nobody, and make way for whatever is planned.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use plfm_api::documents::Workload;
use plfm_api::envd;
use plfm_core::event::{Start, StartWay};
use plfm_core::ids::{BootId, InstanceId, SnapshotId};
use plfm_core::reason::{Failure, Reason, chain};
use plfm_core::units::Mebibytes;
use plfm_image::Image;

use super::seeds::{Kind, kind, nobodys};
use super::{Hands, fresh_boot, lap, network, spec};
use crate::guest;
use crate::mind::Outcome;

/// As many are kept of a kind as were asked for in this time.
const DEMAND: Duration = Duration::from_secs(60);
/// And one for so long after the last.
const LINGER: Duration = Duration::from_secs(600);
/// Machines are made for those who wait first: they take the same processors.
const QUIET: Duration = Duration::from_millis(300);
/// A shell that does not answer by then is no reason to throw the machine away.
const FIRST_EXEC_WAIT: Duration = Duration::from_secs(10);

pub struct Park(Mutex<Lot>);

struct Lot {
    /// Of a kind; none at all turns it off.
    most: usize,
    bays: BTreeMap<Kind, Bay>,
    /// Memory of the node that nothing planned needs.
    room: Mebibytes,
    last_start: Option<Instant>,
    is_filling: bool,
    is_closed: bool,
}

struct Bay {
    seed: SnapshotId,
    /// Nobody's.
    workload: Arc<Workload>,
    asked: VecDeque<Instant>,
    ready: Vec<Parked>,
    /// Making one failed: it is tried again when somebody has asked.
    is_barren: bool,
}

/// A machine that is nobody yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parked {
    id: InstanceId,
    boot: BootId,
}

/// What is to be made.
struct Order {
    kind: Kind,
    seed: SnapshotId,
    workload: Arc<Workload>,
}

impl Park {
    pub fn new(most: usize) -> Self {
        Self(Mutex::new(Lot {
            most,
            bays: BTreeMap::new(),
            room: Mebibytes(0),
            last_start: None,
            is_filling: false,
            is_closed: false,
        }))
    }

    fn lot(&self) -> MutexGuard<'_, Lot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is planned leaves so much.
    pub fn set_room(&self, room: Mebibytes) {
        self.lot().room = room;
    }

    /// A machine of this kind has been started, and more may be wanted; those of a former seed are given back.
    fn asked(&self, kind: Kind, seed: SnapshotId, workload: &Workload, now: Instant) -> Vec<Parked> {
        let mut lot = self.lot();
        lot.last_start = Some(now);
        let remembered = lot.most.max(1);
        let bay = lot.bays.entry(kind).or_insert_with(|| Bay {
            seed,
            workload: Arc::new(nobodys(workload)),
            asked: VecDeque::new(),
            ready: Vec::new(),
            is_barren: false,
        });
        bay.asked.push_back(now);
        let forgotten = bay.asked.len().saturating_sub(remembered);
        bay.asked.drain(..forgotten);
        bay.is_barren = false;
        if std::mem::replace(&mut bay.seed, seed) == seed { Vec::new() } else { std::mem::take(&mut bay.ready) }
    }

    fn take(&self, kind: &Kind) -> Option<Parked> {
        self.lot().bays.get_mut(kind)?.ready.pop()
    }

    /// For who fills it alone, until [`Self::order`] says that nothing is wanted.
    fn begins_filling(&self) -> bool {
        !std::mem::replace(&mut self.lot().is_filling, true)
    }

    /// How long those who wait for a machine have the node to themselves.
    fn pause(&self, now: Instant) -> Option<Duration> {
        let since = now.saturating_duration_since(self.lot().last_start?);
        QUIET.checked_sub(since).filter(|left| !left.is_zero())
    }

    /// The next to be made: of the kind that has fewest.
    fn order(&self, now: Instant) -> Option<Order> {
        let mut lot = self.lot();
        let order = lot.order(now);
        lot.is_filling = order.is_some();
        order
    }

    /// Refused when it is not wanted any more.
    fn put(&self, order: &Order, parked: Parked) -> bool {
        let mut lot = self.lot();
        let is_open = !lot.is_closed;
        let bay = lot.bays.get_mut(&order.kind).filter(|bay| is_open && bay.seed == order.seed);
        bay.map(|bay| bay.ready.push(parked)).is_some()
    }

    fn gives_up(&self, order: &Order) {
        if let Some(bay) = self.lot().bays.get_mut(&order.kind) {
            bay.is_barren = true;
        }
    }

    /// Those that nobody is likely to ask for, and those whose room is needed.
    fn surplus(&self, now: Instant) -> Vec<Parked> {
        self.lot().surplus(now)
    }

    /// All of them; nothing is ready from then on.
    fn close(&self) -> Vec<Parked> {
        let mut lot = self.lot();
        lot.is_closed = true;
        std::mem::take(&mut lot.bays).into_values().flat_map(|bay| bay.ready).collect()
    }

    pub(super) fn open(&self) {
        self.lot().is_closed = false;
    }
}

impl Lot {
    fn order(&self, now: Instant) -> Option<Order> {
        let (most, used) = (if self.is_closed { 0 } else { self.most }, self.used());
        let lacks = |bay: &Bay| !bay.is_barren && bay.ready.len() < bay.wanted(most, now);
        // What is free is left to whatever is planned next, by half.
        let fits = |bay: &Bay| used + bay.each() <= Mebibytes(self.room.0 / 2);
        let lacking = self.bays.iter().filter(|(_, bay)| lacks(bay) && fits(bay));
        let (kind, bay) = lacking.min_by_key(|(_, bay)| bay.ready.len())?;
        Some(Order { kind: kind.clone(), seed: bay.seed, workload: bay.workload.clone() })
    }

    fn used(&self) -> Mebibytes {
        Mebibytes(self.bays.values().map(|bay| bay.each().0 * bay.ready.len() as u64).sum())
    }

    fn surplus(&mut self, now: Instant) -> Vec<Parked> {
        let (most, mut gone) = (self.most, Vec::new());
        for bay in self.bays.values_mut() {
            let wanted = bay.wanted(most, now);
            gone.extend(bay.ready.drain(wanted.min(bay.ready.len())..));
        }
        self.bays.retain(|_, bay| bay.wanted(1, now) > 0);
        while self.used() > self.room
            && let Some(bay) = self.bays.values_mut().max_by_key(|bay| bay.ready.len())
        {
            gone.extend(bay.ready.pop());
        }
        gone
    }
}

impl Bay {
    fn wanted(&self, most: usize, now: Instant) -> usize {
        let within = |time: Duration| self.asked.iter().filter(|at| now.saturating_duration_since(**at) < time).count();
        within(DEMAND).max(within(LINGER).min(1)).min(most)
    }

    /// Of the node's memory.
    fn each(&self) -> Mebibytes {
        self.workload.resources.memory + self.workload.resources.overhead
    }
}

impl Hands {
    /// The way of a sandbox that finds a machine ready. None if it does not, or if none of them is any good.
    pub(super) async fn moves_in(
        self: &Arc<Self>,
        id: InstanceId,
        workload: &Workload,
        image: &Image,
    ) -> Result<Option<Outcome>, Failure> {
        let Some(kind) = kind(workload) else { return Ok(None) };
        while let Some(parked) = self.park.take(&kind) {
            // It may have been given a disk of its own before there was one ready.
            self.runtime.destroy(id).await.map_err(|error| super::failure(&error))?;
            let moved = self.becomes_parked(id, parked, workload, image).await;
            self.release(parked.id);
            match moved {
                Ok(start) => return Ok(Some(Outcome::Started { boot: parked.boot, start })),
                Err(failure) => tracing::warn!(instance = %id, %failure, "a machine that was kept ready is no good"),
            }
            self.evict(parked).await;
            self.runtime.destroy(id).await.map_err(|error| super::failure(&error))?;
            self.cut_off(id).await?;
        }
        Ok(None)
    }

    async fn becomes_parked(
        self: &Arc<Self>,
        id: InstanceId,
        parked: Parked,
        workload: &Workload,
        image: &Image,
    ) -> Result<Start, Failure> {
        let mut clock = Instant::now();
        if let Some(net) = &self.net {
            net.hand_over(parked.id, id, workload.address).await.map_err(|error| network(&error))?;
        }
        let network_ms = lap(&mut clock);
        let handed = self.runtime.hand_over(parked.id, id).await;
        handed.map_err(|error| Failure::new(Reason::RestoreFailed, chain(&error)))?;
        let machine_ms = lap(&mut clock);
        let client = self.becomes(id, guest::renewal(id, parked.boot, workload, image, 0)).await?;
        let identity_ms = lap(&mut clock);
        self.attend(id, parked.boot, client);
        Ok(Start { way: StartWay::Parked, prepare_ms: 0, network_ms, machine_ms, identity_ms })
    }

    /// One of this kind has been asked for; the next finds one ready.
    pub(super) fn expect_more(self: &Arc<Self>, workload: &Workload) {
        let known = kind(workload).and_then(|kind| Some((self.seeds.sown(&kind)?, kind)));
        let Some((seed, kind)) = known.filter(|_| self.runtime.capabilities().hand_over) else { return };
        let former = self.park.asked(kind, seed, workload, Instant::now());
        let hands = self.clone();
        tokio::spawn(async move {
            for parked in former {
                hands.evict(parked).await;
            }
            if hands.park.begins_filling() {
                hands.fill().await;
            }
        });
    }

    async fn fill(&self) {
        loop {
            while let Some(pause) = self.park.pause(Instant::now()) {
                tokio::time::sleep(pause).await;
            }
            // Whoever stops the node waits for this one, and then takes what was put there.
            let _rests = self.resting.read().await;
            let Some(order) = self.park.order(Instant::now()) else { return };
            let parked = Parked { id: InstanceId::new(fresh_boot().ulid()), boot: fresh_boot() };
            match self.make_ready(parked, &order).await {
                Ok(()) if self.park.put(&order, parked) => continue,
                Ok(()) => {}
                Err(failure) => {
                    tracing::warn!(%failure, "no machine of this kind is kept ready");
                    self.park.gives_up(&order);
                }
            }
            self.evict(parked).await;
        }
    }

    async fn make_ready(&self, parked: Parked, order: &Order) -> Result<(), Failure> {
        let Parked { id, boot } = parked;
        let workload = Workload { address: nowhere(id), ..(*order.workload).clone() };
        let image = self.image(&workload).await?;
        self.images.acquire(image.digest, id).map_err(|error| error.failure())?;
        let tap = self.tap(id, &workload).await?;
        let restored = self.runtime.restore(&spec(id, &workload, &image), order.seed, boot, tap).await;
        restored.map_err(|error| Failure::new(Reason::RestoreFailed, chain(&error)))?;
        let client = self.becomes(id, guest::renewal(id, boot, &workload, &image, 0)).await?;
        self.first_exec(id).await;
        self.rest(&client).await
    }

    /// What the first command of a machine takes besides its own work is paid before anybody waits for it.
    pub(super) async fn first_exec(&self, id: InstanceId) {
        let client = self.envd(id);
        let ran = async {
            // An image without a shell has nothing to warm.
            let mut session = client.start(envd::Command::new(["/bin/sh", "-c", ":"])).await.ok()?;
            while let Ok(Some(_)) = session.next().await {}
            Some(())
        };
        let _ = tokio::time::timeout(FIRST_EXEC_WAIT, ran).await;
    }

    /// Before anything is started, and from time to time.
    pub async fn make_way(&self) {
        for parked in self.park.surplus(Instant::now()) {
            self.evict(parked).await;
        }
    }

    pub async fn clear_park(&self) {
        for parked in self.park.close() {
            self.evict(parked).await;
        }
    }

    async fn evict(&self, parked: Parked) {
        let gone = async {
            self.runtime.destroy(parked.id).await.map_err(|error| super::failure(&error))?;
            self.cut_off(parked.id).await
        };
        if let Err(failure) = gone.await {
            tracing::warn!(machine = %parked.id, %failure, "a machine that was kept ready stays until the next start");
        }
        self.release(parked.id);
    }

    fn release(&self, id: InstanceId) {
        if let Err(error) = self.images.release(id) {
            tracing::warn!(machine = %id, error = chain(&error), "an image counts as used until the next start");
        }
    }
}

/// An address that leads to nobody.
fn nowhere(id: InstanceId) -> Ipv6Addr {
    let low = id.ulid().0 as u64;
    Ipv6Addr::from_bits(u128::from(0xfd00_706c_666d_0002_u64) << 64 | u128::from(low))
}

#[cfg(test)]
mod tests;
