//! `plfm.guest.v1`: what the host asks of the guest daemon, and the host's client for it.
//!
//! Waiting is left to the caller: a call to a guest that never boots never ends.

use std::time::Duration;

use connectrpc::client::ServerStream;
use hyper::body::Incoming;

use crate::channel::{Opener, port};
use crate::rpc::{Error, Target};

pub use crate::rpc::generated::plfm::guest::v1::{__buffa::oneof, *};
pub use oneof::probe_request::Kind as ProbeKind;
pub use oneof::state::Phase;

/// The version of the protocol that this build speaks.
pub const PROTOCOL: u32 = 1;

#[derive(Clone)]
pub struct Client(GuestClient<Target>);

impl Client {
    pub fn over(opener: Opener) -> Self {
        Self::new(Target::port(opener, port::GUEST))
    }

    pub fn new(target: Target) -> Self {
        Self(GuestClient::new(target, Target::config()))
    }

    pub async fn hello(&self) -> Result<HelloResponse, Error> {
        let host_version = env!("CARGO_PKG_VERSION").to_owned();
        let hello = HelloRequest { versions: vec![PROTOCOL], host_version, ..Default::default() };
        Ok(self.0.hello(hello).await?.into_owned())
    }

    /// Returns when the configuration is taken; [`watch`](Self::watch) tells what becomes of it.
    pub async fn configure(&self, request: ConfigureRequest) -> Result<Phase, Error> {
        let answer = self.0.configure(request).await?.into_owned();
        Ok(phase(answer.state.as_option().cloned()))
    }

    pub async fn put_secrets(&self, request: PutSecretsRequest) -> Result<(), Error> {
        self.0.put_secrets(request).await.map(drop)
    }

    pub async fn watch(&self) -> Result<Watch, Error> {
        self.0.watch(WatchRequest::default()).await.map(Watch)
    }

    /// Workload output from `from_seq` on; 0 or 1 is the oldest that is kept.
    pub async fn logs(&self, from_seq: u64, follow: bool) -> Result<Logs, Error> {
        self.0.logs(LogsRequest { from_seq, follow, ..Default::default() }).await.map(Logs)
    }

    pub async fn probe_tcp(&self, port: u16, timeout: Duration) -> Result<ProbeResponse, Error> {
        self.probe(port, timeout, probe_request::Tcp::default().into()).await
    }

    pub async fn probe_http(&self, port: u16, path: &str, timeout: Duration) -> Result<ProbeResponse, Error> {
        let http = probe_request::Http { path: path.to_owned(), ..Default::default() };
        self.probe(port, timeout, http.into()).await
    }

    async fn probe(&self, port: u16, timeout: Duration, kind: ProbeKind) -> Result<ProbeResponse, Error> {
        let request =
            ProbeRequest { port: port.into(), timeout_ms: millis(timeout), kind: Some(kind), ..Default::default() };
        Ok(self.0.probe(request).await?.into_owned())
    }

    /// Returns when nothing but the daemon runs.
    pub async fn quiesce(&self) -> Result<(), Error> {
        self.0.quiesce(QuiesceRequest::default()).await.map(drop)
    }

    pub async fn refresh(&self, request: RefreshRequest) -> Result<(), Error> {
        self.0.refresh(request).await.map(drop)
    }

    /// Returns when the workload runs again, with what hooks had to complain of.
    pub async fn thaw(&self, request: ThawRequest) -> Result<Vec<String>, Error> {
        Ok(self.0.thaw(request).await?.into_owned().warnings)
    }

    /// Returns when the stop has begun; the machine powers off after `grace` at the latest. The workload is told when nobody has been
    /// connected to it for as long as `quiet`, or when half of the grace is over.
    pub async fn shutdown(&self, grace: Duration, quiet: Duration) -> Result<(), Error> {
        let request = ShutdownRequest { grace_ms: millis(grace), quiet_ms: millis(quiet), ..Default::default() };
        self.0.shutdown(request).await.map(drop)
    }
}

/// The phases of a guest, the newest first seen first; quick ones may be skipped.
pub struct Watch(ServerStream<Incoming, WatchResponseView<'static>>);

impl Watch {
    /// `None` when the guest has ended the stream in order; an error when it was cut, as by the end of the machine.
    pub async fn next(&mut self) -> Result<Option<Phase>, Error> {
        let message = self.0.message::<WatchResponse>().await?;
        Ok(message.map(|message| phase(message.to_owned_message().state.as_option().cloned())))
    }
}

pub struct Logs(ServerStream<Incoming, LogsResponseView<'static>>);

impl Logs {
    pub async fn next(&mut self) -> Result<Option<LogsResponse>, Error> {
        Ok(self.0.message::<LogsResponse>().await?.map(|message| message.to_owned_message()))
    }
}

/// A state without a phase is that of a daemon that has not been told anything.
fn phase(state: Option<State>) -> Phase {
    state.and_then(|state| state.phase).unwrap_or_else(|| state::Waiting::default().into())
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
