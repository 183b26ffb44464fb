//! Parse, build, run, drain: a server from its configuration to its end.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::StatusCode;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use plfm_api::documents::{Told, Wanted};
use plfm_api::tls::{self, Identity, Peer, Role};
use plfm_api::tunnel::{Tunnel, TunnelError, Tunnels};
use plfm_api::views::{ClosedPorts, EdgeStatus};
use plfm_core::command::Command;
use plfm_core::digest::Digest;
use plfm_core::event::Envelope;
use plfm_core::ids::{InstanceId, NodeId};
use plfm_core::state::{self, Instance, State};
use plfm_core::units::Seq;
use plfm_image::Registries;
use plfm_store::{SqliteStore, Store, StoreError};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::ca::Ca;
use crate::metrics::Metrics;
use crate::secrets::{Vars, Vault, new_token, token_hash, write_private};
use crate::writer::{SubmitError, Writer, fold, now};
use crate::{ApiError, ServerError, cluster, routes};

/// A client that says nothing holds its socket no longer than this.
const TLS_HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Clients keep connections for their next call; E2B's for five minutes (W-TR-5).
const KEEP_IDLE: Duration = Duration::from_secs(620);
/// What keeps a connection from being accepted (no descriptor is left) does not end at once.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Somebody waits until a tag is a digest: a mistyped host should not take as long as a pull that hopes for better times.
const LOOKUP_TRIES: u32 = 2;
/// How often the figures are brought up to date when nobody asks.
const LOOK_EVERY: Duration = Duration::from_secs(10);

pub struct Config {
    /// The log, the keys and the admin's token; nobody else's.
    pub data: PathBuf,
    pub listen: SocketAddr,
    /// Names and addresses under which clients reach this server.
    pub hosts: Vec<String>,
    /// Apps are reached as `APP.domain`.
    pub domain: String,
    /// Where an edge takes HTTPS; the URLs that people are shown name it.
    pub https_port: u16,
    /// What that edge could not open; that it ends means nothing.
    pub closed_ports: watch::Receiver<ClosedPorts>,
    pub registries: Registries,
    /// Whether `oci:` references, which name files of this machine, may be deployed.
    pub local_images: bool,
}

/// A server that listens and is not serving yet.
pub struct Server {
    pub(crate) shared: Arc<Shared>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    thread: std::thread::JoinHandle<()>,
    /// Held as long as the server lives: one server on one data directory.
    _lock: File,
}

/// What every handler needs.
pub(crate) struct Shared {
    pub writer: Writer,
    pub store: Arc<dyn Store>,
    pub vault: Vault,
    pub ca: Ca,
    pub registries: Registries,
    pub local_images: bool,
    pub https_port: u16,
    pub closed_ports: watch::Receiver<ClosedPorts>,
    pub strangers: routes::Strangers,
    pub metrics: Metrics,
    tunnels: Tunnels,
}

impl Shared {
    /// Brings the figures up to date.
    pub fn look(&self) {
        self.metrics.look(&self.writer.state(), &self.writer.facts());
    }
}

impl Server {
    pub async fn build(config: Config) -> Result<Self, ServerError> {
        let data = &config.data;
        std::fs::create_dir_all(data).map_err(ServerError::file(data))?;
        let lock = lock(data)?;
        let known = cluster::known(data)?;
        let (ca, vault) = (Ca::open(data)?, Vault::open(data)?);
        let log = data.join(cluster::LOG);
        let unreadable = |source| ServerError::Log { path: log.clone(), source };
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&log).map_err(unreadable)?);
        let state = fold(&*store).map_err(unreadable)?;
        cluster::is_same(data, known.as_deref(), state.log)?;
        let first = bootstrap(data, &config.domain, state.log.is_none())?;
        let (writer, thread) = Writer::start(store.clone(), state, first)?;
        cluster::remember(data, known.as_deref(), writer.state().log)?;
        let identity = ca.identity(Some(Role::Server), "server", &server_hosts(&config))?;
        let tunnels = Tunnels::new(&identity).map_err(ServerError::Tls)?;
        let acceptor = tls::server_config(&identity, tls::ClientAuth::Optional).map_err(ServerError::Tls)?;
        let listener = TcpListener::bind(config.listen).await;
        let listener = listener.map_err(|source| ServerError::Listen { address: config.listen.to_string(), source })?;
        let Config { mut registries, local_images, https_port, closed_ports, .. } = config;
        registries.retry.attempts = LOOKUP_TRIES;
        let shared = Arc::new(Shared {
            writer,
            store,
            vault,
            ca,
            registries,
            local_images,
            https_port,
            closed_ports,
            tunnels,
            strangers: Default::default(),
            metrics: Metrics::new(),
        });
        Ok(Self { shared, listener, acceptor: TlsAcceptor::from(Arc::new(acceptor)), thread, _lock: lock })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The newest state, and each one after it.
    pub fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.shared.writer.watch()
    }

    /// What an edge in this process shows to nodes.
    pub fn edge_identity(&self) -> Result<Identity, ServerError> {
        self.shared.ca.identity(Some(Role::Edge), "edge", &[])
    }

    /// Certificates of the cluster's CA for managed host names.
    pub fn certificates(&self) -> impl Fn(&str) -> Option<Arc<CertifiedKey>> + Send + Sync + 'static {
        let shared = self.shared.clone();
        move |host| {
            let issued = shared.ca.identity(None, host, &[host.to_owned()]);
            let key = issued.and_then(|identity| identity.certified_key().map_err(ServerError::Tls));
            key.inspect_err(|error| tracing::error!(%error, host, "cannot issue a certificate")).ok().map(Arc::new)
        }
    }

    pub fn ca_fingerprint(&self) -> Digest {
        self.shared.ca.fingerprint()
    }

    /// For a node of this process, which needs no command typed.
    pub async fn join_token(&self) -> Result<String, ServerError> {
        let token = new_token("enroll_");
        let command =
            Command::CreateJoinToken { hash: token_hash(&token), expires_at: now() + Duration::from_secs(60) };
        let actor = plfm_core::event::Actor::System;
        self.shared.writer.submit(command, actor, routes::current_request()).await?;
        Ok(token)
    }

    /// Serves until `stop` changes; then takes no more connections, lets the writer finish and returns.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let router = routes::router(self.shared.clone());
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                _ = look.tick() => self.shared.look(),
                stream = accept(&self.listener) => {
                    drop(tokio::spawn(connection(stream, self.acceptor.clone(), router.clone())));
                }
            }
        }
        self.shared.writer.stop();
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the writer did not end in order");
        }
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => tracing::warn!(%error, "cannot accept a connection"),
        }
        tokio::time::sleep(ACCEPT_AGAIN).await;
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: Router) {
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(TLS_HANDSHAKE_MAX, acceptor.accept(stream)).await else { return };
    let peer = Peer::of(stream.get_ref().1).ok().flatten();
    let (begun, mut begins) = watch::channel(false);
    let service = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        begun.send_if_modified(|begun| !std::mem::replace(begun, true));
        if let Some(peer) = peer.clone() {
            request.extensions_mut().insert(peer);
        }
        router.clone().oneshot(request)
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(hyper_util::rt::TokioTimer::new()).header_read_timeout(KEEP_IDLE);
    server.http2().timer(hyper_util::rt::TokioTimer::new()).keep_alive_interval(Some(routes::KEEP_ALIVE));
    let serving = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let silent = async {
        if tokio::time::timeout(TLS_HANDSHAKE_MAX, begins.wait_for(|begun| *begun)).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = serving => {}
        () = silent => {}
    }
}

impl Shared {
    pub async fn keep(&self, blob: Vec<u8>) -> Result<Digest, ApiError> {
        let store = self.store.clone();
        let kept = tokio::task::spawn_blocking(move || store.put_blob(&blob)).await;
        match kept {
            Ok(Ok(name)) => Ok(name),
            Ok(Err(error)) => Err(SubmitError::Store(error.to_string()).into()),
            Err(_) => Err(SubmitError::Stopped.into()),
        }
    }

    /// What was appended after `after`, at most `limit` of it.
    pub async fn events(&self, after: Seq, limit: usize) -> Result<Vec<Envelope>, ApiError> {
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || store.read(after, limit)).await;
        let unreadable = |error: StoreError| {
            let detail = format!("the server cannot read its log: {}", plfm_core::reason::chain(&error));
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "log_unreadable", detail, "look at the disk of the server")
        };
        read.map_err(|_| ApiError::from(SubmitError::Stopped))?.map_err(unreadable)
    }

    pub fn edge<'a>(&self, closed: &'a ClosedPorts) -> EdgeStatus<'a> {
        EdgeStatus { https_port: self.https_port, closed }
    }

    /// Adds the values of variables, which are not in the state. None where they cannot be read: a workload that starts without
    /// them would be another.
    /// What was `told` before is not read again: it never changes for an instance.
    pub async fn with_vars(&self, state: &State, mut wanted: Wanted, told: Option<&Told>) -> Option<Wanted> {
        let mut read = BTreeMap::new();
        for (id, assignment) in &mut wanted.assignments {
            if let Some(known) = told.and_then(|told| told.wanted.assignments.get(id)) {
                assignment.workload.vars.clone_from(&known.workload.vars);
                continue;
            }
            let Some((name, process)) = state.instances.get(id).and_then(|it| vars_of(state, it)) else { continue };
            let vars = match read.entry(name) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(self.vars(*id, name).await?),
            };
            assignment.workload.vars = vars.get(process).cloned().unwrap_or_default();
        }
        Some(wanted)
    }

    async fn vars(&self, of: InstanceId, name: Digest) -> Option<Vars> {
        let store = self.store.clone();
        let blob = tokio::task::spawn_blocking(move || store.blob(name)).await;
        let vars = blob.ok().and_then(Result::ok).flatten().and_then(|blob| self.vault.unseal(&blob));
        if vars.is_none() {
            tracing::error!(instance = %of, "the variables of an instance cannot be read");
        }
        vars
    }

    pub fn tunnel(&self, state: &State, instance: &Instance) -> Result<NodeTunnel, ApiError> {
        let node = state.nodes.get(&instance.node).ok_or_else(|| ApiError::not_found("node", instance.node))?;
        Ok(NodeTunnel { tunnels: self.tunnels.clone(), node: instance.node, at: node.capacity.tunnel.clone() })
    }
}

/// Under which the variables of a sandbox are sealed, where those of a replica have the name of their process type.
pub(crate) const SANDBOX_VARS: &str = "sandbox";

/// Where the variables of an instance are kept, and under which name.
fn vars_of<'a>(state: &'a State, instance: &'a Instance) -> Option<(Digest, &'a str)> {
    match &instance.role {
        state::Role::Replica(replica) => Some((state.releases.get(&replica.release)?.vars?, &replica.process)),
        state::Role::Sandbox(sandbox) => Some((sandbox.vars?, SANDBOX_VARS)),
        state::Role::Snapshot(_) => None,
    }
}

/// The relayed way into the instances of one node.
#[derive(Clone)]
pub(crate) struct NodeTunnel {
    tunnels: Tunnels,
    node: NodeId,
    at: String,
}

impl NodeTunnel {
    pub async fn open(&self, instance: InstanceId, port: u16) -> Result<Tunnel, TunnelError> {
        self.tunnels.open(self.node, &self.at, instance, port).await
    }

    pub async fn get(&self, path: &str) -> Result<http::Response<hyper::body::Incoming>, TunnelError> {
        self.tunnels.get(self.node, &self.at, path).await
    }
}

fn lock(data: &Path) -> Result<File, ServerError> {
    let path = data.join("lock");
    let lock = File::create(&path).map_err(ServerError::file(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(_) => Err(ServerError::InUse(data.to_owned())),
    }
}

/// The admin's token is made before the log that knows its hash; a crash between the two uses the same token again. A log that is
/// there knows a token, and a new one would be nobody's.
fn bootstrap(data: &Path, domain: &str, is_new: bool) -> Result<Command, ServerError> {
    let file = data.join("admin.token");
    if is_new && !file.exists() {
        write_private(&file, new_token("plfm_pat_").as_bytes())?;
    }
    let token = match std::fs::read_to_string(&file) {
        Err(error) if !is_new && error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read.map_err(ServerError::file(&file))?,
    };
    Ok(Command::Bootstrap { domain: domain.to_owned(), prefix: prefix(), admin: token_hash(token.trim()) })
}

/// A /48 of the cluster's own (RFC 4193, section 3.2.2: 40 random bits behind `fd`).
fn prefix() -> Ipv6Addr {
    let mut random = [0; 5];
    SystemRandom::new().fill(&mut random).expect("the kernel gives random bytes once it has booted");
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&random);
    Ipv6Addr::from(octets)
}

fn server_hosts(config: &Config) -> Vec<String> {
    let own = [tls::SERVER_NAME, "localhost", "127.0.0.1", "::1"].map(str::to_owned);
    own.into_iter().chain(config.hosts.iter().cloned()).collect()
}

impl From<StoreError> for SubmitError {
    fn from(error: StoreError) -> Self {
        Self::Store(plfm_core::reason::chain(&error))
    }
}
