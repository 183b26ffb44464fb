//! The native API, typed: one method for each route that a person's tools use.
//!
//! HTTPS with trust in the cluster's CA alone, HTTP/2, a bearer token. What fails is an [`ApiError`] that says what could not be done
//! and what to type next. Waiting, polling and printing are left to the caller.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use plfm_core::fair::Class;
use plfm_core::ids::{InstanceId, TokenId, VolumeId};
use plfm_core::labels::Labels;
use plfm_core::units::Seq;
use reqwest::header::AUTHORIZATION;
use reqwest::{Method, RequestBuilder, Response, Url};
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::tls::{self, Identity, TlsError};
use crate::views::{
    ApiKeyView, Capabilities, ClassRequest, ConstraintsRequest, DeployReceipt, DeployRequest, DeploysView, EnvView,
    EventLine, Explanation, ForkRequest, ForksView, InstanceStats, InstanceView, Items, JoinTokenRequest,
    JoinTokenView, LimitsRequest, LogLine, NewApiKeyView, NodeOrder, NodeOrderRequest, NodeView, NodesView, OrgView,
    RollbackRequest, RouteView, SandboxRequest, SandboxView, SnapshotRequest, SnapshotView, TemplateRequest,
    TemplateView, TimeoutRequest, VolumeView, WeightRequest,
};

mod answer;
mod error;
mod exec;
mod lines;

pub use error::ApiError;
pub use exec::{ExecError, Terminal, TerminalReader, TerminalWriter};

/// A server that is there answers TCP and TLS in a few round trips.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// Most answers come from memory; a deploy asks a registry first.
const ANSWER_WAIT: Duration = Duration::from_secs(90);
/// The server itself gives up before.
const START_WAIT: Duration = Duration::from_secs(330);
/// A stream may be silent for hours; a dead peer is noticed by HTTP/2 pings.
const PING_EVERY: Duration = Duration::from_secs(15);

/// Which API, whom to trust, and as whom to speak.
#[derive(Clone, Default)]
pub struct Target {
    /// `https://host:port`.
    pub api_url: String,
    pub ca_pem: String,
    pub token: Option<String>,
    /// For a node or an edge, which speak with a certificate.
    pub identity: Option<Identity>,
}

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    tls: Arc<ClientConfig>,
    base: Url,
    token: Option<String>,
}

/// Which instances to list; nothing given means all of the org.
#[derive(Debug, Clone, Default)]
pub struct InstanceFilter {
    pub app: Option<String>,
    pub env: Option<String>,
    /// Those too of which nothing is left but their logs.
    pub all: bool,
}

impl Client {
    pub fn new(target: &Target) -> Result<Self, ApiError> {
        let base = url(&target.api_url)?;
        let tls = tls::client_config(target.identity.as_ref(), &target.ca_pem)?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .https_only(true)
            .connect_timeout(CONNECT_WAIT)
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_EVERY)
            .user_agent(concat!("plfm/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|source| ApiError::Setup { source })?;
        Ok(Self { http, tls: Arc::new(tls), base, token: target.token.clone() })
    }

    pub fn api_url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    pub async fn capabilities(&self) -> Result<Capabilities, ApiError> {
        self.get(&["v1", "capabilities"]).await
    }

    pub async fn deploy(
        &self,
        org: &str,
        app: &str,
        env: &str,
        request: &DeployRequest,
    ) -> Result<DeployReceipt, ApiError> {
        self.post(&["v1", "orgs", org, "apps", app, "envs", env, "deploys"], request).await
    }

    pub async fn deploys(&self, org: &str, app: &str, env: &str) -> Result<DeploysView, ApiError> {
        self.get(&["v1", "orgs", org, "apps", app, "envs", env, "deploys"]).await
    }

    pub async fn roll_back(
        &self,
        org: &str,
        app: &str,
        env: &str,
        request: &RollbackRequest,
    ) -> Result<DeployReceipt, ApiError> {
        self.post(&["v1", "orgs", org, "apps", app, "envs", env, "rollbacks"], request).await
    }

    pub async fn env(&self, org: &str, app: &str, env: &str) -> Result<EnvView, ApiError> {
        self.get(&["v1", "orgs", org, "apps", app, "envs", env]).await
    }

    /// Takes an entry of the edge away, by its port, host name or id.
    pub async fn delete_route(&self, org: &str, app: &str, env: &str, route: &str) -> Result<RouteView, ApiError> {
        let url = self.url(&["v1", "orgs", org, "apps", app, "envs", env, "routes", route]);
        answer::document(self.call(Method::DELETE, url)).await
    }

    pub async fn org(&self, org: &str) -> Result<OrgView, ApiError> {
        self.get(&["v1", "orgs", org]).await
    }

    pub async fn set_limits(&self, org: &str, request: &LimitsRequest) -> Result<OrgView, ApiError> {
        let url = self.url(&["v1", "orgs", org, "limits"]);
        answer::document(self.call(Method::PATCH, url).json(request)).await
    }

    pub async fn set_org_weight(&self, org: &str, weight: u32) -> Result<OrgView, ApiError> {
        self.put(&["v1", "orgs", org, "weight"], &WeightRequest { weight }).await
    }

    pub async fn set_project_weight(&self, org: &str, project: &str, weight: u32) -> Result<OrgView, ApiError> {
        self.put(&["v1", "orgs", org, "projects", project, "weight"], &WeightRequest { weight }).await
    }

    pub async fn set_org_constraints(&self, org: &str, constraints: Labels) -> Result<OrgView, ApiError> {
        self.put(&["v1", "orgs", org, "constraints"], &ConstraintsRequest { constraints }).await
    }

    pub async fn set_env_class(&self, org: &str, app: &str, env: &str, class: Class) -> Result<EnvView, ApiError> {
        self.put(&["v1", "orgs", org, "apps", app, "envs", env, "class"], &ClassRequest { class }).await
    }

    pub async fn set_env_constraints(
        &self,
        org: &str,
        app: &str,
        env: &str,
        constraints: &Labels,
    ) -> Result<EnvView, ApiError> {
        let request = ConstraintsRequest { constraints: constraints.clone() };
        self.put(&["v1", "orgs", org, "apps", app, "envs", env, "constraints"], &request).await
    }

    pub async fn envs(&self, org: &str) -> Result<Items<EnvView>, ApiError> {
        self.get(&["v1", "orgs", org, "envs"]).await
    }

    pub async fn instances(&self, org: &str, filter: &InstanceFilter) -> Result<Items<InstanceView>, ApiError> {
        let mut url = self.url(&["v1", "orgs", org, "instances"]);
        let wanted = [("app", &filter.app), ("env", &filter.env)];
        for (name, value) in wanted.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            url.query_pairs_mut().append_pair(name, value);
        }
        url.query_pairs_mut().append_pair("all", flag(filter.all));
        answer::document(self.call(Method::GET, url)).await
    }

    pub async fn instance(&self, org: &str, instance: InstanceId) -> Result<InstanceView, ApiError> {
        self.get(&["v1", "orgs", org, "instances", &instance.to_string()]).await
    }

    pub async fn instance_stats(&self, org: &str, instance: InstanceId) -> Result<InstanceStats, ApiError> {
        self.get(&["v1", "orgs", org, "instances", &instance.to_string(), "stats"]).await
    }

    /// With `follow` the stream ends with the instance; else with the newest line.
    pub async fn logs(
        &self,
        org: &str,
        instance: InstanceId,
        follow: bool,
        console: bool,
    ) -> Result<impl Stream<Item = Result<LogLine, ApiError>> + Send + use<>, ApiError> {
        let mut url = self.url(&["v1", "orgs", org, "instances", &instance.to_string(), "logs"]);
        url.query_pairs_mut().append_pair("follow", flag(follow)).append_pair("console", flag(console));
        self.lines(url).await
    }

    /// Everything that happened after `after`, and with `follow` what happens from now on.
    pub async fn events(
        &self,
        after: Seq,
        follow: bool,
    ) -> Result<impl Stream<Item = Result<EventLine, ApiError>> + Send + use<>, ApiError> {
        let mut url = self.url(&["v1", "events"]);
        url.query_pairs_mut().append_pair("after", &after.0.to_string()).append_pair("follow", flag(follow));
        self.lines(url).await
    }

    pub async fn explain_env(&self, org: &str, app: &str, env: &str) -> Result<Explanation, ApiError> {
        self.get(&["v1", "orgs", org, "apps", app, "envs", env, "explain"]).await
    }

    pub async fn explain_instance(&self, org: &str, instance: InstanceId) -> Result<Explanation, ApiError> {
        self.get(&["v1", "orgs", org, "instances", &instance.to_string(), "explain"]).await
    }

    pub async fn templates(&self, org: &str) -> Result<Items<TemplateView>, ApiError> {
        self.get(&["v1", "orgs", org, "templates"]).await
    }

    pub async fn create_template(&self, org: &str, request: &TemplateRequest) -> Result<TemplateView, ApiError> {
        self.post(&["v1", "orgs", org, "templates"], request).await
    }

    pub async fn sandboxes(&self, org: &str) -> Result<Items<SandboxView>, ApiError> {
        self.get(&["v1", "orgs", org, "sandboxes"]).await
    }

    /// Answers when it runs.
    pub async fn create_sandbox(&self, org: &str, request: &SandboxRequest) -> Result<SandboxView, ApiError> {
        let call = self.call(Method::POST, self.url(&["v1", "orgs", org, "sandboxes"]));
        answer::document(call.timeout(START_WAIT).json(request)).await
    }

    pub async fn set_sandbox_timeout(
        &self,
        org: &str,
        sandbox: &str,
        timeout_seconds: u64,
    ) -> Result<SandboxView, ApiError> {
        let request = TimeoutRequest { timeout_seconds };
        self.post(&["v1", "orgs", org, "sandboxes", sandbox, "timeout"], &request).await
    }

    /// Answers when all that it is is on disk.
    pub async fn pause_sandbox(&self, org: &str, sandbox: &str) -> Result<SandboxView, ApiError> {
        let call = self.call(Method::POST, self.url(&["v1", "orgs", org, "sandboxes", sandbox, "pause"]));
        answer::document(call.timeout(START_WAIT)).await
    }

    /// Answers when it runs.
    pub async fn resume_sandbox(
        &self,
        org: &str,
        sandbox: &str,
        timeout_seconds: u64,
    ) -> Result<SandboxView, ApiError> {
        let call = self.call(Method::POST, self.url(&["v1", "orgs", org, "sandboxes", sandbox, "resume"]));
        answer::document(call.timeout(START_WAIT).json(&TimeoutRequest { timeout_seconds })).await
    }

    /// Answers when each of them runs, or it is known why not.
    pub async fn fork_sandbox(&self, org: &str, sandbox: &str, request: &ForkRequest) -> Result<ForksView, ApiError> {
        let call = self.call(Method::POST, self.url(&["v1", "orgs", org, "sandboxes", sandbox, "fork"]));
        answer::document(call.timeout(START_WAIT).json(request)).await
    }

    /// Waits until all of it is on disk.
    pub async fn snapshot_sandbox(
        &self,
        org: &str,
        sandbox: &str,
        request: &SnapshotRequest,
    ) -> Result<SnapshotView, ApiError> {
        let call = self.call(Method::POST, self.url(&["v1", "orgs", org, "sandboxes", sandbox, "snapshots"]));
        answer::document(call.timeout(START_WAIT).json(request)).await
    }

    pub async fn snapshots(&self, org: &str) -> Result<Items<SnapshotView>, ApiError> {
        self.get(&["v1", "orgs", org, "snapshots"]).await
    }

    pub async fn release_snapshot(&self, org: &str, snapshot: &str) -> Result<(), ApiError> {
        let call = self.call(Method::DELETE, self.url(&["v1", "orgs", org, "snapshots", snapshot]));
        let _done: serde_json::Value = answer::document(call).await?;
        Ok(())
    }

    pub async fn kill_sandbox(&self, org: &str, sandbox: &str) -> Result<(), ApiError> {
        let call = self.call(Method::DELETE, self.url(&["v1", "orgs", org, "sandboxes", sandbox]));
        let _done: serde_json::Value = answer::document(call).await?;
        Ok(())
    }

    pub async fn volumes(&self, org: &str) -> Result<Items<VolumeView>, ApiError> {
        self.get(&["v1", "orgs", org, "volumes"]).await
    }

    pub async fn delete_volume(&self, org: &str, volume: VolumeId) -> Result<(), ApiError> {
        let call = self.call(Method::DELETE, self.url(&["v1", "orgs", org, "volumes", &volume.to_string()]));
        let _done: serde_json::Value = answer::document(call).await?;
        Ok(())
    }

    /// For E2B's SDKs.
    pub async fn create_key(&self, org: &str) -> Result<NewApiKeyView, ApiError> {
        self.post(&["v1", "orgs", org, "api-keys"], &serde_json::Map::new()).await
    }

    pub async fn keys(&self, org: &str) -> Result<Items<ApiKeyView>, ApiError> {
        self.get(&["v1", "orgs", org, "api-keys"]).await
    }

    pub async fn revoke_key(&self, org: &str, key: TokenId) -> Result<(), ApiError> {
        let call = self.call(Method::DELETE, self.url(&["v1", "orgs", org, "api-keys", &key.to_string()]));
        let _done: serde_json::Value = answer::document(call).await?;
        Ok(())
    }

    /// Whether the token of this client is such a key, and still good.
    pub async fn knows_key(&self) -> Result<bool, ApiError> {
        let call = self.call(Method::GET, self.url(&["v2", "sandboxes"]));
        let answer = call.send().await.map_err(ApiError::of)?;
        Ok(answer.status().is_success())
    }

    pub async fn join_token(&self, request: &JoinTokenRequest) -> Result<JoinTokenView, ApiError> {
        self.post(&["v1", "join-tokens"], request).await
    }

    pub async fn nodes(&self) -> Result<NodesView, ApiError> {
        self.get(&["v1", "nodes"]).await
    }

    /// By its id or its name.
    pub async fn node(&self, node: &str) -> Result<NodeView, ApiError> {
        self.get(&["v1", "nodes", node]).await
    }

    pub async fn explain_node(&self, node: &str) -> Result<Explanation, ApiError> {
        self.get(&["v1", "nodes", node, "explain"]).await
    }

    pub async fn order_node(&self, node: &str, order: NodeOrder) -> Result<NodeView, ApiError> {
        self.post(&["v1", "nodes", node, "orders"], &NodeOrderRequest { order }).await
    }

    pub async fn force_reschedule(&self) -> Result<(), ApiError> {
        let _done: serde_json::Value = self.post(&["v1", "reschedule"], &serde_json::Map::new()).await?;
        Ok(())
    }
}

/// For what has no method of its own: paths as segments, which are escaped.
impl Client {
    pub async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ApiError> {
        answer::document(self.call(Method::GET, self.url(path))).await
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T, ApiError> {
        answer::document(self.call(Method::POST, self.url(path)).json(body)).await
    }

    async fn put<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T, ApiError> {
        answer::document(self.call(Method::PUT, self.url(path)).json(body)).await
    }

    /// A stream of JSON lines.
    pub async fn stream<T: DeserializeOwned + Send + 'static>(
        &self,
        path: &[&str],
    ) -> Result<impl Stream<Item = Result<T, ApiError>> + Send + use<T>, ApiError> {
        self.lines(self.url(path)).await
    }

    async fn lines<T: DeserializeOwned + Send + 'static>(
        &self,
        url: Url,
    ) -> Result<impl Stream<Item = Result<T, ApiError>> + Send + use<T>, ApiError> {
        let answer: Response = answer::head(self.authorized(self.http.get(url))).await?;
        Ok(lines::lines(answer))
    }

    fn call(&self, method: Method, url: Url) -> RequestBuilder {
        self.authorized(self.http.request(method, url)).timeout(ANSWER_WAIT)
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("an https URL has a path").pop_if_empty().extend(path);
        url
    }
}

fn url(text: &str) -> Result<Url, ApiError> {
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "https" && url.host().is_some());
    url.ok_or_else(|| ApiError::Url(text.to_owned()))
}

const fn flag(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

impl From<TlsError> for ApiError {
    fn from(cause: TlsError) -> Self {
        Self::Tls(cause)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
