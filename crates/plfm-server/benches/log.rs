//! `log.sqlite.cN`: acknowledged writes a second through the writer and SQLite on a real disk, beside raw inserts of the same bytes.
//!
//! N nodes have an instance each and report a change of it, again as soon as the report before is answered: what a fleet writes most
//! often; a number of clients as an argument measures that row alone. The peer gets the very rows that ours wrote, in transactions of
//! N, into a table without an index.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plfm_api::documents::{InstanceReport, Report, ReportNumber};
use plfm_core::command::{Command, Deploy};
use plfm_core::digest::Digest;
use plfm_core::event::{Actor, Capacity, InstanceStatus, Isolation, ReleaseImage};
use plfm_core::facts::Facts;
use plfm_core::ids::{BootId, InstanceId, NodeId};
use plfm_core::manifest::Manifest;
use plfm_core::phase::InstancePhase;
use plfm_core::quota::Dimension;
use plfm_core::reason::{Failure, Reason};
use plfm_core::state::State;
use plfm_core::units::{Mebibytes, MilliCpu};
use plfm_server::writer::{Writer, now};
use plfm_store::SqliteStore;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 10;
/// Clients, and the writes of one round: about a second.
const ROWS: [(usize, usize); 4] = [(1, 3_000), (10, 20_000), (100, 100_000), (1_000, 150_000)];
/// Of one process type, as the manifest allows.
const REPLICAS_MAX: usize = 100;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let only = std::env::args().skip(1).find_map(|word| word.parse::<usize>().ok());
    for (clients, writes) in ROWS.into_iter().filter(|(clients, _)| only.is_none_or(|only| only == *clients)) {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (mut fleet, mut peer) = (Fleet::start(&runtime, dir.path(), clients), Peer::create(dir.path()));
        let rounds = (0..ROUNDS).map(|_| {
            let ours = fleet.write(&runtime, writes);
            (ours, peer.write(&fleet.rows(writes), clients))
        });
        let (ours, theirs): (Vec<f64>, Vec<f64>) = rounds.unzip();
        let row = serde_json::json!({
            "name": format!("log.sqlite.c{clients}"), "unit": "/s", "better": "higher", "samples": ours,
            "peer": format!("raw inserts, {clients} in a transaction"), "peer_samples": theirs,
        });
        println!("{row}");
    }
}

struct Fleet {
    writer: Writer,
    nodes: Vec<Node>,
    /// Reads what the writer wrote.
    log: Connection,
}

/// One client.
#[derive(Clone)]
struct Node {
    id: NodeId,
    instance: InstanceId,
    boot: BootId,
    capacity: Capacity,
    reports: u64,
}

impl Fleet {
    fn start(runtime: &Runtime, dir: &Path, size: usize) -> Self {
        let path = dir.join("log.db");
        let prefix = "fd00:706c::".parse().unwrap();
        let first = Command::Bootstrap { domain: "localhost".to_owned(), prefix, admin: Digest::of(b"admin") };
        let _guard = runtime.enter();
        let (writer, _) = Writer::start(Arc::new(SqliteStore::open(&path).unwrap()), State::default(), first).unwrap();
        let log = Connection::open(&path).unwrap();
        runtime.block_on(join(&writer, size));
        let nodes = writer.state().instances.iter().map(|(id, it)| Node::new(it.node, *id)).collect();
        let mut fleet = Self { writer, nodes, log };
        assert_eq!(fleet.nodes.len(), size, "an instance on every node");
        fleet.write(runtime, size);
        fleet
    }

    /// So many changes of so many instances, each acknowledged; a second's worth.
    fn write(&mut self, runtime: &Runtime, writes: usize) -> f64 {
        let (before, each) = (self.writer.state().seq.0, writes / self.nodes.len());
        let begun = Instant::now();
        let nodes = self.nodes.drain(..).map(|node| runtime.spawn(node.report(self.writer.clone(), each)));
        let nodes: Vec<_> = nodes.collect();
        self.nodes = nodes.into_iter().map(|node| runtime.block_on(node).unwrap()).collect();
        let seconds = begun.elapsed().as_secs_f64();
        // A deploy that has become ready says so once.
        assert!(self.writer.state().seq.0 >= before + writes as u64, "every report is an event");
        writes as f64 / seconds
    }

    /// The newest of the log.
    fn rows(&self, count: usize) -> Vec<Vec<Value>> {
        let query = "SELECT * FROM (SELECT * FROM events ORDER BY seq DESC LIMIT ?) ORDER BY seq";
        let mut statement = self.log.prepare(query).unwrap();
        let columns = statement.column_count();
        let rows = statement.query_map([count], |row| (0..columns).map(|column| row.get(column)).collect()).unwrap();
        rows.map(Result::unwrap).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.writer.stop();
    }
}

impl Node {
    fn new(id: NodeId, instance: InstanceId) -> Self {
        Self { id, instance, boot: fresh(), capacity: capacity(), reports: 0 }
    }

    /// Ready and unready by turns.
    async fn report(mut self, writer: Writer, count: usize) -> Self {
        for _ in 0..count {
            self.reports += 1;
            let (number, instance) = (ReportNumber { incarnation: 1, number: self.reports }, self.instance);
            let instances = vec![InstanceReport { instance, status: self.status() }];
            let (capacity, images) = (self.capacity.clone(), Default::default());
            let report = Report { number, applied: None, capacity, images, instances, volumes: None };
            writer.report(self.id, report, fresh()).await.unwrap();
        }
        self
    }

    fn status(&self) -> InstanceStatus {
        let unready = || Failure::new(Reason::HealthcheckFailed, "GET /healthz answers 503");
        let (phase, failure) = match self.reports % 2 {
            0 => (InstancePhase::Unready, Some(unready())),
            _ => (InstancePhase::Ready, None),
        };
        InstanceStatus {
            phase,
            boot: Some(self.boot),
            failure,
            exit_code: None,
            restarts: 0,
            hello_ms: Some(120),
            start: None,
        }
    }
}

/// As many nodes, and a release with an instance for each.
async fn join(writer: &Writer, size: usize) {
    let submit = |command| async { writer.submit(command, Actor::System, fresh()).await.unwrap() };
    let org = *writer.state().orgs.keys().next().unwrap();
    let limits = Dimension::ALL.iter().map(|dimension| (*dimension, Some(u64::MAX))).collect();
    submit(Command::SetLimits { org, limits }).await;
    for number in 0..size {
        let (name, expires_at) = (format!("node-{number}"), now() + Duration::from_secs(3600));
        let token = Digest::of(name.as_bytes());
        submit(Command::CreateJoinToken { hash: token, expires_at }).await;
        submit(Command::JoinNode { token, name, capacity: capacity() }).await;
    }
    let (org, app, env) = ("default".to_owned(), "shop".to_owned(), "dev".to_owned());
    let (digest, vars, expose) = (Digest::of(b"image"), None, Vec::new());
    let platforms = [("amd64".to_owned(), digest)].into();
    let image = ReleaseImage { reference: "registry.example.com/shop:v1".to_owned(), digest, platforms };
    let deploy = Deploy { org, app, env, image, manifest: manifest(size), vars, expose, create_volumes: false };
    submit(Command::Deploy(Box::new(deploy))).await;
    let all = |state: &Arc<plfm_core::state::State>| state.instances.len() == size;
    writer.watch().wait_for(all).await.unwrap();
}

fn manifest(size: usize) -> Manifest {
    let (types, replicas) = (size.div_ceil(REPLICAS_MAX), size.min(REPLICAS_MAX));
    let head = "schema_version = \"v1\"\n[app]\nname = \"shop\"\n[image]\nref = \"registry.example.com/shop:v1\"\n";
    let process = |number| {
        format!(
            "[processes.web-{number}]\nresources.memory = \"600Mi\"\nscaling = {{ min = {replicas}, max = {replicas} }}\n"
        )
    };
    let text: String = std::iter::once(head.to_owned()).chain((0..types).map(process)).collect();
    Manifest::parse(text.as_bytes()).unwrap()
}

/// Room for one instance.
fn capacity() -> Capacity {
    Capacity {
        arch: "amd64".to_owned(),
        isolation: Isolation::Vm,
        cpu: MilliCpu(4_000),
        memory: Mebibytes(1_024),
        disk: Mebibytes(50 << 10),
        overhead: Mebibytes(36),
        tunnel: "[fd00::1]:7443".to_owned(),
        degraded: Default::default(),
        labels: Default::default(),
    }
}

fn fresh<I: From<ulid::Ulid>>() -> I {
    let entropy = fastrand::u128(..);
    Facts { now: now(), entropy, ..Facts::default() }.ids().fresh()
}

struct Peer(Connection);

impl Peer {
    fn create(dir: &Path) -> Self {
        let connection = Connection::open(dir.join("peer.db")).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL").unwrap();
        let columns = "at, org, kind, version, actor, request, cause, body";
        connection.execute_batch(&format!("CREATE TABLE events (seq INTEGER PRIMARY KEY, {columns})")).unwrap();
        Self(connection)
    }

    fn write(&mut self, rows: &[Vec<Value>], batch: usize) -> f64 {
        let begun = Instant::now();
        for batch in rows.chunks(batch) {
            let transaction = self.0.transaction().unwrap();
            let mut insert =
                transaction.prepare_cached("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)").unwrap();
            for row in batch {
                insert.execute(params_from_iter(row)).unwrap();
            }
            drop(insert);
            transaction.commit().unwrap();
        }
        rows.len() as f64 / begun.elapsed().as_secs_f64()
    }
}
