//! Machines that are kept on disk, and go on from there as who they are.

use std::sync::Arc;

use plfm_api::documents::Workload;
use plfm_api::guest::Client;
use plfm_core::ids::{BootId, InstanceId};
use plfm_core::reason::{Failure, Reason, chain};
use plfm_runtime::microvm::patience;

use super::{Hands, REST_WAIT, RETRY_AFTER, within_or};
use crate::guest;
use crate::mind::Outcome;

/// What was brought to rest is asked so often to go on.
const WAKES_MAX: usize = 5;

impl Hands {
    /// What cannot be kept goes on.
    pub(super) async fn pause(self: &Arc<Self>, id: InstanceId, boot: BootId) -> Result<Outcome, Failure> {
        let _rests = self.resting.read().await;
        let client = guest::client(self.runtime.clone(), id);
        let attended = self.attended.lock().expect("no panic while it is held").remove(&id);
        attended.iter().for_each(|it| it.watch.abort());
        if let Err(failure) = self.keep(id, &client).await {
            attended.iter().for_each(|it| it.follow.abort());
            self.wake_or_end(id, &client).await;
            self.attend(id, boot, client);
            return Err(failure);
        }
        if let Some(net) = &self.net
            && let Err(error) = net.remove(id).await
        {
            tracing::warn!(instance = %id, error = chain(&error), "its network stays while it is paused");
        }
        Ok(Outcome::Paused)
    }

    async fn keep(&self, id: InstanceId, client: &Client) -> Result<(), Failure> {
        self.rest(client).await?;
        self.runtime.pause(id).await.map_err(|error| Failure::new(Reason::SnapshotFailed, chain(&error)))
    }

    pub(super) async fn resume(
        self: &Arc<Self>,
        id: InstanceId,
        boot: BootId,
        workload: &Workload,
    ) -> Result<Outcome, Failure> {
        let tap = self.tap(id, workload).await?;
        let resumed = self.runtime.resume(id, tap).await;
        resumed.map_err(|error| Failure::new(Reason::RestoreFailed, chain(&error)))?;
        let client = guest::client(self.runtime.clone(), id);
        self.wake(&client).await?;
        self.attend(id, boot, client);
        Ok(Outcome::Resumed { boot })
    }

    /// What cannot be woken is no good to anybody: whoever attends to it sees it end.
    pub(super) async fn wake_or_end(&self, id: InstanceId, client: &Client) {
        for _ in 0..WAKES_MAX {
            match self.wake(client).await {
                Ok(()) => return,
                Err(why) => tracing::warn!(instance = %id, %why, "what could not be paused does not wake"),
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
        if let Err(error) = self.runtime.stop(id).await {
            tracing::warn!(instance = %id, error = chain(&error), "what does not wake cannot be ended");
        }
    }

    pub(super) async fn wake(&self, client: &Client) -> Result<(), Failure> {
        let wait = patience(self.runtime.class(), REST_WAIT);
        let awake = within_or(Reason::RestoreFailed, wait, "did not wake", client.thaw(guest::waking())).await?;
        awake.map(drop).map_err(|error| Failure::new(Reason::RestoreFailed, error.to_string()))
    }
}
