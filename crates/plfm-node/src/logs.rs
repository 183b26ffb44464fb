//! What workloads say, kept on the node: two files of bounded size for each instance, one JSON line a line of output.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plfm_api::guest::{Client, LogsResponse, logs_response};
use plfm_api::views::{LogLine, LogStream};
use plfm_core::ids::{BootId, InstanceId};
use plfm_core::units::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::node::now;

/// Of one file; the older of the two is dropped when the newer is full.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// A longer line is cut into several: a workload that never ends a line must not fill the memory.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// A stream of output that ends while its guest lives is not taken up again at once.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Logs of instances that are gone stay for those who ask why; so many at most.
const INSTANCES_MAX: usize = 200;

/// Cheap to clone.
#[derive(Clone)]
pub struct Logs(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    open: Mutex<BTreeMap<InstanceId, Writer>>,
    /// Counts lines, so that followers wake.
    written: watch::Sender<u64>,
}

struct Writer {
    file: File,
    bytes: u64,
}

/// A line on disk.
#[derive(Serialize, Deserialize)]
struct Record {
    /// Which boot, and how far the guest's own count was: after a restart of the node the rest is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<(BootId, u64)>,
    #[serde(flatten)]
    line: LogLine,
}

impl Logs {
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        let (open, written) = (Mutex::default(), watch::Sender::new(0));
        Ok(Self(Arc::new(Inner { dir, open, written })))
    }

    /// Something that the node itself has to say about an instance.
    pub fn node(&self, instance: InstanceId, text: &str) {
        let line = LogLine { instance, at: now(), stream: LogStream::Node, text: text.to_owned() };
        self.write(Record { from: None, line });
    }

    /// Copies what the guest says until the guest is gone.
    pub async fn follow(self, instance: InstanceId, boot: BootId, client: Client) {
        let mut next = self.last_of(instance, boot).map_or(0, |seq| seq + 1);
        let mut lines = Lines::default();
        // A stream that breaks while the guest lives is taken up again where it broke.
        while let Ok(mut logs) = client.logs(next, true).await {
            while let Ok(Some(chunk)) = logs.next().await {
                next = chunk.seq + 1;
                lines.feed(&chunk, |stream, at, text| {
                    let line = LogLine { instance, at, stream, text };
                    self.write(Record { from: Some((boot, chunk.seq)), line });
                });
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
        // What a workload wrote last need not end in a new line.
        lines.flush(|stream, text| {
            self.write(Record { from: None, line: LogLine { instance, at: now(), stream, text } });
        });
    }

    /// The newest lines of both files, oldest first.
    pub fn read(&self, instance: InstanceId) -> io::Result<Vec<LogLine>> {
        let [newer, older] = self.files(instance);
        let mut lines = Vec::new();
        for path in [older, newer] {
            match File::open(path) {
                Ok(file) => lines.extend(records(file).map(|record| record.line)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(lines)
    }

    /// Changes with each line of any instance.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.written.subscribe()
    }

    /// Nothing more is expected of an instance.
    pub fn close(&self, instance: InstanceId) {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&instance);
    }

    /// Forgets the oldest instances beyond [`INSTANCES_MAX`] that are not live: ids sort by age.
    pub fn prune(&self, live: &BTreeSet<InstanceId>) {
        let Ok(entries) = fs::read_dir(&self.0.dir) else { return };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let is_live = |name: &String| name.parse().is_ok_and(|id| live.contains(&id));
        let mut known: Vec<_> = names.filter(|name| !is_live(name)).collect();
        known.sort();
        for old in known.iter().take(known.len().saturating_sub(INSTANCES_MAX)) {
            if let Err(error) = fs::remove_dir_all(self.0.dir.join(old)) {
                tracing::warn!(%error, instance = old, "cannot remove an old log");
            }
        }
    }

    fn last_of(&self, instance: InstanceId, boot: BootId) -> Option<u64> {
        let file = File::open(&self.files(instance)[0]).ok()?;
        records(file).filter_map(|record| record.from.filter(|(of, _)| *of == boot)).map(|(_, seq)| seq).last()
    }

    fn files(&self, instance: InstanceId) -> [PathBuf; 2] {
        let dir = self.0.dir.join(instance.to_string());
        [dir.join("log"), dir.join("log.1")]
    }

    /// A log that cannot be written is said in the node's own log; the workload goes on.
    fn write(&self, record: Record) {
        let instance = record.line.instance;
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.append(&mut open, &record);
        if let Err(error) = written {
            tracing::warn!(%error, %instance, "cannot write the log of an instance");
            open.remove(&instance);
        }
        self.0.written.send_modify(|count| *count += 1);
    }

    fn append(&self, open: &mut BTreeMap<InstanceId, Writer>, record: &Record) -> io::Result<()> {
        let instance = record.line.instance;
        let [newer, older] = self.files(instance);
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        if open.get(&instance).is_some_and(|writer| writer.bytes >= FILE_BYTES_MAX) {
            open.remove(&instance);
            fs::rename(&newer, older)?;
        }
        if let std::collections::btree_map::Entry::Vacant(vacant) = open.entry(instance) {
            vacant.insert(Writer::open(&newer)?);
        }
        if let Some(writer) = open.get_mut(&instance) {
            writer.file.write_all(&line)?;
            writer.bytes += line.len() as u64;
        }
        Ok(())
    }
}

impl Writer {
    fn open(path: &Path) -> io::Result<Self> {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }
}

/// A line that a crash cut short is passed over.
fn records(file: File) -> impl Iterator<Item = Record> {
    BufReader::new(file).lines().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok())
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end_matches('\r').to_owned()
}

/// Chunks to lines, for each stream by itself.
#[derive(Default)]
struct Lines {
    partial: BTreeMap<u8, Vec<u8>>,
}

impl Lines {
    fn feed(&mut self, chunk: &LogsResponse, mut emit: impl FnMut(LogStream, Timestamp, String)) {
        let stream =
            if chunk.stream == logs_response::Stream::STREAM_STDERR { LogStream::Stderr } else { LogStream::Stdout };
        let at = Timestamp(chunk.realtime_ns / 1_000_000);
        if chunk.dropped > 0 {
            emit(LogStream::Node, at, format!("{} bytes of output were lost", chunk.dropped));
        }
        let partial = self.partial.entry(stream as u8).or_default();
        for byte in &chunk.data {
            if *byte != b'\n' {
                partial.push(*byte);
            }
            if *byte == b'\n' || partial.len() >= LINE_BYTES_MAX {
                emit(stream, at, text(partial));
                partial.clear();
            }
        }
    }

    fn flush(&mut self, mut emit: impl FnMut(LogStream, String)) {
        let streams = [LogStream::Stdout, LogStream::Stderr];
        for (stream, partial) in streams.into_iter().filter_map(|it| Some((it, self.partial.remove(&(it as u8))?))) {
            if !partial.is_empty() {
                emit(stream, text(&partial));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> InstanceId {
        "inst_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()
    }

    #[test]
    fn chunks_become_lines_wherever_they_are_cut() {
        let text = b"one\r\ntwo\n\nfour";
        for cut in 0..=text.len() {
            let mut lines = Lines::default();
            let mut seen = Vec::new();
            for part in [&text[..cut], &text[cut..]] {
                let chunk = LogsResponse { data: part.to_vec(), ..Default::default() };
                lines.feed(&chunk, |_, _, text| seen.push(text));
            }
            lines.flush(|_, text| seen.push(text));
            assert_eq!(seen, ["one", "two", "", "four"], "cut at {cut}");
        }
    }

    #[test]
    fn a_log_is_bounded_and_read_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::open(dir.path().to_owned()).unwrap();
        let long = "x".repeat(10_000);
        (0..2_000).for_each(|number| logs.node(instance(), &format!("{number} {long}")));
        let size: u64 = logs.files(instance()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert!(size <= 2 * FILE_BYTES_MAX + 20_000, "{size}");
        let lines = logs.read(instance()).unwrap();
        assert!(lines.last().unwrap().text.starts_with("1999 "));
        assert!(lines.windows(2).all(|pair| pair[0].at <= pair[1].at));
    }
}
