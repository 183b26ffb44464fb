//! `plfm.guest.v1`, answered from the daemon's state.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use connectrpc::{ConnectError, RequestContext, Response, Router, ServiceRequest, ServiceResult, ServiceStream};
use plfm_api::guest::{self, Guest, GuestExt, PROTOCOL, State};

use crate::args::VERSION;
use crate::daemon::{Config, Daemon, ENTROPY_MIN, Leave, Name, is_environment, is_hostname, sorted};
use crate::machine::Renewal;
use crate::rest::{self, RestError};
use crate::{net, workload};

mod facts;
mod streams;

/// A probe that may take longer would outlive its host's patience.
const PROBE_MAX: Duration = Duration::from_secs(60);

pub fn router(daemon: &Arc<Daemon>) -> Router {
    Arc::new(Host(daemon.clone())).register(Router::new())
}

struct Host(Arc<Daemon>);

impl Host {
    fn state(&self) -> State {
        State { phase: Some(self.0.phase().borrow().clone()), ..Default::default() }
    }
}

// The trait allows cheaper answers than whole messages; none is needed here.
#[allow(refining_impl_trait)]
impl Guest for Host {
    async fn hello(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, guest::HelloRequest>,
    ) -> ServiceResult<guest::HelloResponse> {
        let versions = request.to_owned_message().versions;
        if !versions.contains(&PROTOCOL) {
            let wrong = format!("the host speaks protocol versions {versions:?}, this daemon {PROTOCOL}");
            return Err(ConnectError::failed_precondition(wrong));
        }
        let name = self.0.name();
        Response::ok(guest::HelloResponse {
            daemon_version: VERSION.into(),
            protocol: PROTOCOL,
            instance_id: name.as_ref().map(|name| name.instance_id.clone()).unwrap_or_default(),
            boot_id: name.as_ref().map(|name| name.boot_id.clone()).unwrap_or_default(),
            state: self.state().into(),
            ..facts::machine()
        })
    }

    async fn configure(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, guest::ConfigureRequest>,
    ) -> ServiceResult<guest::ConfigureResponse> {
        let config = Config::read(request.to_owned_message(), self.0.is_machine);
        let config = config.map_err(|invalid| ConnectError::invalid_argument(invalid.to_string()))?;
        let news = self
            .0
            .configure(config)
            .map_err(|contradiction| ConnectError::failed_precondition(contradiction.to_string()))?;
        if news {
            tokio::spawn(workload::run(self.0.clone()));
        }
        Response::ok(guest::ConfigureResponse { state: self.state().into(), ..Default::default() })
    }

    async fn put_secrets(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, guest::PutSecretsRequest>,
    ) -> ServiceResult<guest::PutSecretsResponse> {
        if !self.0.config().is_some_and(|config| config.expects_secrets) {
            return Err(ConnectError::failed_precondition("this machine is not configured to expect secrets"));
        }
        if request.data.len() > workload::SECRETS_BYTES_MAX {
            return Err(ConnectError::invalid_argument(format!(
                "{} bytes of secrets are too many",
                request.data.len()
            )));
        }
        let put = self.0.put_secrets(request.to_owned_message());
        put.map_err(|_| ConnectError::failed_precondition("this machine has its secrets already, and others"))?;
        Response::ok(guest::PutSecretsResponse::default())
    }

    async fn watch(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, guest::WatchRequest>,
    ) -> ServiceResult<ServiceStream<guest::WatchResponse>> {
        Response::stream_ok(streams::phases(&self.0))
    }

    async fn logs(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, guest::LogsRequest>,
    ) -> ServiceResult<ServiceStream<guest::LogsResponse>> {
        Response::stream_ok(streams::logs(self.0.clone(), request.from_seq, request.follow))
    }

    async fn probe(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, guest::ProbeRequest>,
    ) -> ServiceResult<guest::ProbeResponse> {
        let request = request.to_owned_message();
        let config =
            self.0.config().ok_or_else(|| ConnectError::failed_precondition("this machine is not configured"))?;
        let port = u16::try_from(request.port).ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| ConnectError::invalid_argument(format!("{} is not a port", request.port)))?;
        let kind = request.kind.ok_or_else(|| ConnectError::invalid_argument("the probe has no kind"))?;
        let within = Duration::from_millis(request.timeout_ms.into()).min(PROBE_MAX);
        Response::ok(net::probe::probe(&net::dial::addresses(config, false), port, &kind, within).await)
    }

    async fn quiesce(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, guest::QuiesceRequest>,
    ) -> ServiceResult<guest::QuiesceResponse> {
        rest::quiesce(&self.0).await.map_err(|error| restless(&error))?;
        Response::ok(guest::QuiesceResponse::default())
    }

    async fn refresh(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, guest::RefreshRequest>,
    ) -> ServiceResult<guest::RefreshResponse> {
        let request = request.to_owned_message();
        let former =
            self.0.name().ok_or_else(|| ConnectError::failed_precondition("this machine is not configured"))?;
        let (name, renewal) = renewal(request, former).map_err(ConnectError::invalid_argument)?;
        rest::refresh(&self.0, renewal).await.map_err(|error| restless(&error))?;
        self.0.renew(name);
        Response::ok(guest::RefreshResponse::default())
    }

    async fn thaw(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, guest::ThawRequest>,
    ) -> ServiceResult<guest::ThawResponse> {
        let request = request.to_owned_message();
        let warnings =
            rest::thaw(&self.0, request.realtime_ns, &request.entropy).await.map_err(|error| restless(&error))?;
        Response::ok(guest::ThawResponse { warnings, ..Default::default() })
    }

    async fn shutdown(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, guest::ShutdownRequest>,
    ) -> ServiceResult<guest::ShutdownResponse> {
        let [grace, quiet] = [request.grace_ms, request.quiet_ms].map(|ms| Duration::from_millis(ms.into()));
        self.0.ask_to_stop(Leave { grace, quiet });
        Response::ok(guest::ShutdownResponse::default())
    }
}

fn restless(error: &RestError) -> ConnectError {
    match error {
        RestError::NotAMachine => ConnectError::unimplemented(error.to_string()),
        RestError::Awake => ConnectError::failed_precondition(error.to_string()),
        _ => ConnectError::internal(error.to_string()),
    }
}

/// All of it is needed: a twin with half an identity is none.
fn renewal(request: guest::RefreshRequest, former: Name) -> Result<(Name, Renewal), &'static str> {
    let guest::RefreshRequest { instance_id, boot_id, hostname, realtime_ns, entropy, generation, env, .. } = request;
    match () {
        () if instance_id.is_empty() || boot_id.is_empty() => Err("an id is empty"),
        () if !is_hostname(&hostname) || hostname.is_empty() => Err("the hostname is none"),
        () if realtime_ns == 0 => Err("the time is missing"),
        () if entropy.len() < ENTROPY_MIN => Err("the entropy is too little"),
        () if !is_environment(&env) => Err("the environment has a name or a value that no process can be given"),
        () => {
            let env = if env.is_empty() { former.env } else { sorted(env) };
            let former_hostname = former.hostname;
            let name =
                Name { instance_id, boot_id, hostname: hostname.clone(), env, generation, is_news: generation > 0 };
            Ok((name, Renewal { entropy, realtime_ns, hostname, former_hostname, generation }))
        }
    }
}

/// A file of the kernel's, or nothing.
fn kernel(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
