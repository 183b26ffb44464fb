//! What is missing is made: layers side by side, then the merged images.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use futures::future::try_join_all;
use plfm_core::digest::Digest;
use tempfile::NamedTempFile;
use tokio::task::spawn_blocking;

use super::files::{Kind, Record};
use super::gate::Hold;
use super::{ImageStore, Progress, Request};
use crate::erofs;
use crate::error::ImageError;
use crate::layer::{self, Job};
use crate::limits::Budget;
use crate::manifest::Descriptor;
use crate::merge::{self, Weight};
use crate::source::Sink;

type Device = (Kind, Digest);

impl ImageStore {
    pub(super) async fn build(
        &self,
        request: &Request<'_>,
        layers: &[(Descriptor, Digest)],
        hold: &mut Hold,
    ) -> Result<Vec<Device>, ImageError> {
        let budget = Arc::new(Budget::new(&self.limits));
        let mut missing = Vec::new();
        for (blob, diff_id) in layers {
            if self.files.record(Kind::Layer, diff_id)?.is_none() {
                missing.push(blob.size);
            }
        }
        (request.progress)(Progress::Missing { layers: missing.len(), of: layers.len() });
        self.make_room(missing.iter().sum())?;
        let records =
            try_join_all(layers.iter().map(|(blob, diff_id)| self.layer(request, blob, *diff_id, &budget))).await?;
        let weights: Vec<_> = records.iter().map(weight).collect();
        let groups = merge::plan(&weights);
        let diff_ids: Vec<_> = layers.iter().map(|(_, diff_id)| *diff_id).collect();
        let bottom = groups[0].start;
        let mut devices = Vec::new();
        for group in groups {
            let stack = Stack { diff_ids: &diff_ids[group.clone()], lowest: group.start == bottom };
            hold.add([stack.device()]);
            self.device(request, stack, &records[group]).await?;
            devices.push(stack.device());
        }
        Ok(devices)
    }

    /// A layer by its diff id: found, waited for, or made.
    async fn layer(
        &self,
        request: &Request<'_>,
        blob: &Descriptor,
        diff_id: Digest,
        budget: &Arc<Budget>,
    ) -> Result<Record, ImageError> {
        let _alone = self.gate.pass((Kind::Layer, diff_id)).await;
        if let Some(record) = self.files.record(Kind::Layer, &diff_id)? {
            budget.entries(record.entries)?;
            budget.unpacked(record.unpacked_bytes)?;
            return Ok(record);
        }
        let _turn = self.parallel.acquire().await.map_err(|_| ImageError::Abandoned)?;
        let seconds = self.limits.layer_time.as_secs();
        let late = |_| Err(ImageError::Timeout { what: format!("layer {}", blob.digest), seconds });
        let fetch = self.fetch(request, blob, diff_id, budget);
        let layer = tokio::time::timeout(self.limits.layer_time, fetch).await.unwrap_or_else(late)?;
        let record = Record::new(layer.bytes, layer.entries, layer.unpacked_bytes, layer.implied, layer.opaque);
        self.files.place(Kind::Layer, &diff_id, layer.file, &record)?;
        (request.progress)(Progress::Built { layer: blob.digest });
        Ok(record)
    }

    async fn fetch(
        &self,
        request: &Request<'_>,
        blob: &Descriptor,
        diff_id: Digest,
        budget: &Arc<Budget>,
    ) -> Result<layer::Layer, ImageError> {
        let source = request.source().await?;
        let job = Job { blob: blob.clone(), diff_id, tmp: self.files.tmp(), budget: budget.clone() };
        let (to, verdict) = layer::start(job);
        let send = async {
            let tell = |bytes| (request.progress)(Progress::Fetching { layer: blob.digest, bytes, of: blob.size });
            // The sink goes when all is sent: that ends the layer.
            let mut sink = Sink::new(to, &tell);
            source.blob(blob, &mut sink).await
        };
        let (sent, layer) = tokio::join!(send, verdict);
        // A fetch that failed explains itself better than the bytes it left.
        sent?;
        layer
    }

    /// One layer is its own device; several become one.
    async fn device(&self, request: &Request<'_>, stack: Stack<'_>, records: &[Record]) -> Result<(), ImageError> {
        let (Kind::Merged, key) = stack.device() else { return Ok(()) };
        let _alone = self.gate.pass((Kind::Merged, key)).await;
        if self.files.record(Kind::Merged, &key)?.is_some() {
            return Ok(());
        }
        (request.progress)(Progress::Merging { layers: records.len() });
        self.make_room(records.iter().map(|record| record.bytes).sum())?;
        let mut images = Vec::with_capacity(records.len());
        for diff_id in stack.diff_ids {
            images.push(File::open(self.files.image(Kind::Layer, diff_id)).map_err(ImageError::store("open a layer"))?);
        }
        let (tmp, lowest) = (self.files.tmp(), stack.lowest);
        let merged = spawn_blocking(move || merged(images, lowest, &key, &tmp)).await;
        let (file, record) = merged.unwrap_or(Err(ImageError::Abandoned))?;
        self.files.place(Kind::Merged, &key, file, &record)
    }

    /// Room for at least this much, if need be by evicting; the disk may still run full later, and that is told then.
    fn make_room(&self, bytes: u64) -> Result<(), ImageError> {
        let free = self.files.free_bytes()?;
        if free >= bytes {
            return Ok(());
        }
        let kept = self.collect(u64::MAX)?.kept_bytes;
        let removed = self.collect(kept.saturating_sub(bytes - free))?.removed_bytes;
        if free + removed >= bytes { Ok(()) } else { Err(ImageError::DiskFull) }
    }
}

fn merged(images: Vec<File>, lowest: bool, key: &Digest, tmp: &Path) -> Result<(NamedTempFile, Record), ImageError> {
    let images: Vec<_> =
        images.into_iter().map(erofs::Image::open).collect::<Result<_, _>>().map_err(ImageError::build)?;
    let file = tempfile::Builder::new()
        .prefix("merged-")
        .tempfile_in(tmp)
        .map_err(ImageError::store("create a temporary file"))?;
    let target = file.as_file().try_clone().map_err(ImageError::store("open a temporary file"))?;
    let uuid = key.hex().as_bytes()[..16].try_into().expect("a digest is longer");
    let written = merge::merge(&images, lowest, target, uuid).map_err(ImageError::build)?;
    written.file.sync_all().map_err(ImageError::store("write an image to disk"))?;
    Ok((file, Record::new(written.bytes, written.inodes, 0, written.implied, written.opaque)))
}

fn weight(record: &Record) -> Weight {
    Weight { bytes: record.bytes, implied: record.implied > 0, opaque: record.opaque }
}

/// Consecutive layers that become one device.
#[derive(Clone, Copy)]
struct Stack<'a> {
    diff_ids: &'a [Digest],
    lowest: bool,
}

impl Stack<'_> {
    /// Whoever lies at the bottom has no whiteouts left, so the same layers higher up are another image.
    fn device(&self) -> Device {
        if let [only] = self.diff_ids {
            return (Kind::Layer, *only);
        }
        let lines: String = self.diff_ids.iter().map(|diff_id| format!("{diff_id}\n")).collect();
        (Kind::Merged, Digest::of(format!("plfm merged 1\nlowest {}\n{lines}", self.lowest).as_bytes()))
    }
}
