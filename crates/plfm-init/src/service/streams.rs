//! The two streams: phases as they change, and the log from a number on.

use std::sync::Arc;

use connectrpc::ConnectError;
use futures::{Stream, stream};
use plfm_api::guest::{LogsResponse, State, WatchResponse};
use tokio::sync::watch;

use crate::daemon::Daemon;
use crate::logs::Chunk;

/// The phase now, then the newest whenever it has changed.
pub fn phases(daemon: &Daemon) -> impl Stream<Item = Result<WatchResponse, ConnectError>> + Send + 'static {
    let mut phase = daemon.phase();
    phase.mark_changed();
    stream::unfold(phase, |mut phase| async move {
        phase.changed().await.ok()?;
        let state = State { phase: Some(phase.borrow_and_update().clone()), ..Default::default() };
        Some((Ok(WatchResponse { state: state.into(), ..Default::default() }), phase))
    })
}

/// The kept chunks from `seq` on; with `follow`, those to come.
pub fn logs(
    daemon: Arc<Daemon>,
    seq: u64,
    follow: bool,
) -> impl Stream<Item = Result<LogsResponse, ConnectError>> + Send + 'static {
    let newest = daemon.logs.newest();
    stream::unfold((daemon, newest, seq), move |(daemon, mut newest, seq)| async move {
        let (chunk, dropped) = next(&daemon, &mut newest, seq, follow).await?;
        let seq = chunk.seq + 1;
        Some((Ok(response(chunk, dropped)), (daemon, newest, seq)))
    })
}

async fn next(daemon: &Daemon, newest: &mut watch::Receiver<u64>, seq: u64, follow: bool) -> Option<(Chunk, u64)> {
    loop {
        newest.mark_unchanged();
        match daemon.logs.from(seq) {
            Some(found) => return Some(found),
            None if follow => newest.changed().await.ok()?,
            None => return None,
        }
    }
}

fn response(chunk: Chunk, dropped: u64) -> LogsResponse {
    LogsResponse {
        seq: chunk.seq,
        stream: chunk.stream.into(),
        realtime_ns: chunk.realtime_ns,
        data: chunk.data.to_vec(),
        dropped,
        ..Default::default()
    }
}
