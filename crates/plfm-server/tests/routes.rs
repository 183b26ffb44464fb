//! Every route of the table, over real TLS: without credentials, with wrong ones, with those of another kind.

use std::net::{Ipv4Addr, SocketAddr};

use plfm_api::tls;
use plfm_image::Registries;
use plfm_server::routes::{Access, table};
use plfm_server::{Config, Server, ServerError, StoreError};
use tokio::sync::watch;

struct Running {
    base: String,
    ca_pem: String,
    token: String,
    _halt: watch::Sender<bool>,
    _dir: tempfile::TempDir,
}

fn config(data: &std::path::Path) -> Config {
    Config {
        data: data.to_owned(),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        hosts: Vec::new(),
        domain: "localhost".to_owned(),
        https_port: 443,
        closed_ports: tokio::sync::watch::channel(Default::default()).1,
        registries: Registries::default(),
        local_images: false,
    }
}

async fn running() -> Running {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::build(config(dir.path())).await.unwrap();
    let base = format!("https://{}", server.address().unwrap());
    let ca_pem = std::fs::read_to_string(dir.path().join("ca.pem")).unwrap();
    let token = std::fs::read_to_string(dir.path().join("admin.token")).unwrap();
    let (halt, halted) = watch::channel(false);
    tokio::spawn(server.run(halted));
    Running { base, ca_pem, token, _halt: halt, _dir: dir }
}

impl Running {
    fn client(&self) -> reqwest::Client {
        self.client_as(None)
    }

    fn client_as(&self, identity: Option<&tls::Identity>) -> reqwest::Client {
        let config = tls::client_config(identity, &self.ca_pem).unwrap();
        reqwest::Client::builder().tls_backend_preconfigured(config).build().unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn join_token(&self) -> String {
        let made = self.client().post(self.url("/v1/join-tokens")).bearer_auth(&self.token).send().await.unwrap();
        made.json::<serde_json::Value>().await.unwrap()["token"].as_str().unwrap().to_owned()
    }

    async fn join(&self, name: &str, token: &str, key: &tls::Key) -> reqwest::Response {
        let capacity = serde_json::json!({ "arch": "amd64", "isolation": "emulated", "cpu": 1000, "memory": 1024,
            "disk": 1024, "overhead": 64, "tunnel": "127.0.0.1:1" });
        let public = &key.public_key_pem;
        let body = serde_json::json!({ "token": token, "name": name, "public_key_pem": public, "capacity": capacity });
        self.client().post(self.url("/v1/nodes/join")).json(&body).send().await.unwrap()
    }

    async fn status(&self, method: &str, path: &str, token: Option<&str>) -> u16 {
        let request = self.client().request(method.parse().unwrap(), self.url(path));
        let request = token.iter().fold(request, |request, token| request.bearer_auth(token));
        request.send().await.unwrap().status().as_u16()
    }
}

/// With something in place of each parameter.
fn filled(path: &str) -> String {
    path.replace("{org}", "default")
        .replace("{app}", "web")
        .replace("{env}", "dev")
        .replace("{instance}", "inst_01ARZ3NDEKTSV4RRFFQ69G5FAV")
        .replace("{sandbox}", "01arz3ndektsv4rrffq69g5fav")
        .replace("{node}", "node_01ARZ3NDEKTSV4RRFFQ69G5FAV")
}

#[tokio::test]
async fn no_route_answers_one_who_may_not_call_it() {
    let server = running().await;
    for route in table().iter().filter(|route| route.access != Access::Open) {
        let (method, path) = (route.method, filled(route.path));
        assert_eq!(server.status(method, &path, None).await, 401, "{method} {path} without credentials");
        let wrong = format!("plfm_pat_{}", "0".repeat(64));
        assert_eq!(server.status(method, &path, Some(&wrong)).await, 401, "{method} {path} with an unknown token");
        let prefix = &server.token[..server.token.len() - 1];
        assert_eq!(server.status(method, &path, Some(prefix)).await, 401, "{method} {path} with most of a token");
        if route.access == Access::Node {
            assert_eq!(server.status(method, &path, Some(&server.token)).await, 403, "{method} {path} by a person");
        }
    }
}

#[tokio::test]
async fn what_is_not_in_the_table_is_not_there() {
    let server = running().await;
    assert_eq!(server.status("GET", "/v1/secrets", Some(&server.token)).await, 404);
    assert_eq!(server.status("DELETE", "/v1/nodes", Some(&server.token)).await, 405);
}

#[tokio::test]
async fn a_join_token_admits_one_node_once() {
    let server = running().await;
    let token = server.join_token().await;
    let key = tls::key_pair().unwrap();
    assert_eq!(server.join("first", &token, &key).await.status(), 201);
    for (name, token, code) in
        [("second", token.as_str(), "enrollment_token_used"), ("third", "enroll_00", "enrollment_token_invalid")]
    {
        let refused = server.join(name, token, &key).await;
        assert_eq!(refused.status(), 403);
        let problem = refused.json::<plfm_api::problem::Problem>().await.unwrap();
        assert_eq!(problem.code, code);
        assert!(!problem.hint.is_empty());
    }
}

#[tokio::test]
async fn what_no_handler_could_read_is_a_problem_document_too() {
    let server = running().await;
    let orders = server.url("/v1/nodes/first/orders");
    let cases = [
        (server.client().post(&orders).body("{"), 415, "unsupported_media_type"),
        (server.client().post(&orders).header("content-type", "application/json").body("{"), 400, "invalid_argument"),
        (server.client().post(&orders).json(&serde_json::json!({ "order": "fly" })), 422, "invalid_argument"),
        (server.client().get(server.url("/v1/events?after=x")), 400, "invalid_argument"),
        (server.client().delete(&orders), 405, "method_not_allowed"),
        (server.client().post(&orders).json(&"x".repeat(2 << 20)), 413, "too_large"),
    ];
    for (request, status, code) in cases {
        let refused = request.bearer_auth(&server.token).send().await.unwrap();
        assert_eq!(refused.status(), status, "{code}");
        let problem = refused.json::<plfm_api::problem::Problem>().await.unwrap();
        assert_eq!((problem.status, problem.code.as_str()), (status, code), "{}", problem.detail);
        assert!(!problem.detail.is_empty() && !problem.hint.is_empty());
    }
}

#[tokio::test]
async fn a_decommissioned_node_is_told_so_and_nothing_else() {
    let server = running().await;
    let key = tls::key_pair().unwrap();
    let joined = server.join("first", &server.join_token().await, &key).await;
    let joined = joined.json::<plfm_api::views::JoinReply>().await.unwrap();
    let (certificate_pem, ca_pem) = (joined.certificate_pem, joined.ca_pem);
    let identity = tls::Identity { certificate_pem, key_pem: key.key_pem, ca_pem };
    let plan = async || server.client_as(Some(&identity)).get(server.url(&format!("/v1/nodes/{}/plan", joined.node)));
    assert_eq!(plan().await.send().await.unwrap().status(), 200);
    for order in ["drain", "decommission"] {
        let orders = server.client().post(server.url("/v1/nodes/first/orders")).bearer_auth(&server.token);
        let ordered = orders.json(&serde_json::json!({ "order": order })).send().await.unwrap();
        assert_eq!(ordered.status(), 200, "{order}");
    }
    let refused = plan().await.send().await.unwrap();
    assert_eq!(refused.status(), 403);
    assert_eq!(refused.json::<plfm_api::problem::Problem>().await.unwrap().code, "node_decommissioned");
}

#[tokio::test]
async fn a_second_server_on_one_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Server::build(config(dir.path())).await.unwrap();
    assert!(matches!(Server::build(config(dir.path())).await, Err(ServerError::InUse(_))));
}

#[tokio::test]
async fn a_damaged_log_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log.db");
    std::fs::write(&log, "this was never a log, but it is long enough to be looked at").unwrap();
    let refused = Server::build(config(dir.path())).await;
    assert!(matches!(refused, Err(ServerError::Log { source: StoreError::Damaged(_), .. })));
    assert!(std::fs::read_to_string(&log).unwrap().starts_with("this was never"));
}
