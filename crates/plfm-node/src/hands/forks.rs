//! Machines that are kept as they are, and machines that go on from there.

use std::sync::Arc;
use std::time::Instant;

use plfm_api::documents::{Purpose, Workload};
use plfm_api::guest::{Client, RefreshRequest};
use plfm_core::event::{Origin, Start, StartWay};
use plfm_core::ids::{BootId, InstanceId, SnapshotId};
use plfm_core::reason::{Failure, Reason, chain};
use plfm_runtime::microvm::patience;

use super::{Attended, Hands, REST_WAIT, failure, fresh_boot, lap, spec, within_or};
use crate::guest;
use crate::mind::Outcome;

impl Hands {
    /// From a snapshot. Whoever asks destroys what does not become somebody of its own: no process of it has run by then.
    pub(super) async fn go_on(
        self: &Arc<Self>,
        id: InstanceId,
        from: Origin,
        workload: &Workload,
    ) -> Result<Outcome, Failure> {
        let image = self.image(workload).await?;
        let (boot, mut clock) = (fresh_boot(), Instant::now());
        let tap = self.tap(id, workload).await?;
        let network_ms = lap(&mut clock);
        let restored = self.runtime.restore(&spec(id, workload, &image), snapshot_id(from.snapshot), boot, tap).await;
        restored.map_err(|error| Failure::new(Reason::RestoreFailed, chain(&error)))?;
        let machine_ms = lap(&mut clock);
        let client = self.becomes(id, guest::renewal(id, boot, workload, &image, from.generation)).await?;
        let identity_ms = lap(&mut clock);
        self.attend(id, boot, client);
        let start = Start { way: StartWay::Snapshot, prepare_ms: 0, network_ms, machine_ms, identity_ms };
        Ok(Outcome::Started { boot, start })
    }

    /// What rests becomes somebody of its own, and goes on.
    pub(super) async fn becomes(&self, id: InstanceId, renewal: RefreshRequest) -> Result<Client, Failure> {
        let client = guest::client(self.runtime.clone(), id);
        let wait = patience(self.runtime.class(), REST_WAIT);
        let renewed = within_or(Reason::RefreshFailed, wait, "did not become another", client.refresh(renewal)).await?;
        let unfinished = |error: plfm_api::rpc::Error| {
            let why = error.message.unwrap_or_default();
            Failure::new(Reason::RefreshFailed, format!("it cannot be made somebody of its own: {why}"))
        };
        renewed.map_err(unfinished)?;
        let awake = within_or(Reason::RefreshFailed, wait, "did not wake", client.thaw(Default::default())).await?;
        let complaints = awake.map_err(unfinished)?;
        complaints.iter().for_each(|complaint| self.logs.node(id, complaint));
        Ok(client)
    }

    /// Keeps what another is; that goes on, or ends if it cannot.
    pub(super) async fn take(
        self: &Arc<Self>,
        id: InstanceId,
        of: InstanceId,
        boot: Option<BootId>,
        workload: &Workload,
    ) -> Result<Outcome, Failure> {
        let taken = self.runtime.snapshots().await.map_err(|error| failure(&error))?;
        if taken.contains(&snapshot_id(id)) {
            return Ok(Outcome::Taken);
        }
        let ended = || Failure::new(Reason::SnapshotFailed, "the sandbox does not run any more");
        let boot = boot.ok_or_else(ended)?;
        // Who goes on from it needs the image that it was made of.
        let image = self.image(workload).await?;
        self.images.acquire(image.digest, id).map_err(|error| error.failure())?;
        let _rests = self.resting.read().await;
        let client = guest::client(self.runtime.clone(), of);
        let attended = self.attended.lock().expect("no panic while it is held").remove(&of);
        attended.iter().for_each(Attended::end);
        let kept = async {
            self.rest(&client).await?;
            let durable = matches!(workload.purpose, Purpose::Snapshot { durable: true, .. });
            let kept = self.runtime.snapshot(of, snapshot_id(id), durable).await;
            kept.map_err(|error| Failure::new(Reason::SnapshotFailed, chain(&error)))
        };
        let kept = kept.await;
        self.wake_or_end(of, &client).await;
        self.attend(of, boot, client);
        kept.map(|()| Outcome::Taken)
    }

    pub(super) async fn rest(&self, client: &Client) -> Result<(), Failure> {
        let wait = patience(self.runtime.class(), REST_WAIT);
        let rests = within_or(Reason::SnapshotFailed, wait, "did not come to rest", client.quiesce()).await?;
        rests.map_err(|error| Failure::new(Reason::SnapshotFailed, error.to_string()))
    }
}

/// What the runtime calls the snapshot that an instance is.
pub fn snapshot_id(id: InstanceId) -> SnapshotId {
    SnapshotId::new(id.ulid())
}
