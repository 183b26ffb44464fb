use std::net::SocketAddr;

use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{Path, RawQuery};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use expect_test::{Expect, expect};
use futures::TryStreamExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use ulid::Ulid;

use super::*;
use crate::term::{self, Control, Exit, Frame, Hello};
use crate::tls::ClientAuth;
use crate::tls::tests::Ca;

/// A real TLS server with these routes; a client that trusts it.
async fn serve(ca: &Ca, router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let identity = ca.identity("server", "server", "127.0.0.1");
    let acceptor = TlsAcceptor::from(Arc::new(tls::server_config(&identity, ClientAuth::Optional).unwrap()));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(tcp).await else { continue };
            let service = TowerToHyperService::new(router.clone());
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                server.serve_connection_with_upgrades(TokioIo::new(stream), service).await
            });
        }
    });
    address
}

fn client(ca: &Ca, address: SocketAddr) -> Client {
    let api_url = format!("https://{address}");
    let target = Target { api_url, ca_pem: ca.pem.clone(), token: Some("t0ken".to_owned()), identity: None };
    Client::new(&target).unwrap()
}

/// What a person reads: the error, its cause, the hint.
fn check(error: &ApiError, expected: Expect) {
    let text = format!("{error}\n{}\n{}", error.code(), error.hint());
    expected.assert_eq(&text.replace(|c: char| c.is_ascii_digit(), "0"));
}

fn instance() -> InstanceId {
    InstanceId::new(Ulid::from_parts(1, 1))
}

fn problem(status: StatusCode) -> Response {
    let request = plfm_core::ids::RequestId::new(Ulid::from_parts(1, 1));
    let body = json!({
        "type": "about:blank", "title": "Not found", "status": status.as_u16(), "detail": "there is no app `shop`",
        "code": "app_not_found", "request_id": request, "retryable": false, "hint": "deploy it with `plfm deploy`",
    });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

#[tokio::test]
async fn names_are_escaped_the_token_goes_along_and_http2_is_spoken() {
    let ca = Ca::new();
    let answer = async |Path((org, app, env)): Path<(String, String, String)>, request: axum::extract::Request| {
        assert_eq!(request.headers()[header::AUTHORIZATION], "Bearer t0ken");
        assert_eq!(request.version(), axum::http::Version::HTTP_2);
        Json(json!({
            "app": format!("{org}|{app}|{env}"), "env": env, "routes": [], "deploy": null,
            "processes": [], "instances": [], "seq": 7,
        }))
    };
    let router = Router::new().route("/v1/orgs/{org}/apps/{app}/envs/{env}", get(answer));
    let client = client(&ca, serve(&ca, router).await);
    let env = client.env("default", "a/../b?c", "d e").await.unwrap();
    assert_eq!(env.app, "default|a/../b?c|d e");
}

#[tokio::test]
async fn a_problem_is_an_error_with_all_that_it_says() {
    let ca = Ca::new();
    let router = Router::new()
        .route("/v1/nodes", get(async || problem(StatusCode::NOT_FOUND)))
        .route("/v1/capabilities", get(async || (StatusCode::BAD_GATEWAY, "<html>")))
        .route("/v1/join-tokens", any(async || "{}"));
    let client = client(&ca, serve(&ca, router).await);
    let error = client.nodes().await.unwrap_err();
    assert_eq!((error.status(), error.request_id().is_some()), (Some(404), true));
    check(
        &error,
        expect![[r#"
        there is no app `shop`
        app_not_found
        deploy it with `plfm deploy`"#]],
    );
    check(
        &client.capabilities().await.unwrap_err(),
        expect![[r#"
        the API answers /v0/capabilities with status 000 and not in its own words
        unexpected_answer
        check that --api-url or PLFM_API_URL is the URL of a plfm server"#]],
    );
    check(
        &client.join_token(&Default::default()).await.unwrap_err(),
        expect![[r#"
        the API answers /v0/join-tokens with something else than was asked for
        unexpected_answer
        check with `plfm version` that client and server are of one version"#]],
    );
}

#[tokio::test]
async fn who_is_not_there_or_not_trusted_is_told_apart() {
    let (ca, other) = (Ca::new(), Ca::new());
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    check(
        &client(&ca, closed).nodes().await.unwrap_err(),
        expect![[r#"
            cannot reach the API at https://000.0.0.0:00000: Connection refused (os error 000)
            unreachable
            start a cluster here with `plfm dev`, or name another with --api-url or PLFM_API_URL"#]],
    );
    let stranger = serve(&other, Router::new()).await;
    check(
        &client(&ca, stranger).nodes().await.unwrap_err(),
        expect![[r#"
            the API at https://000.0.0.0:00000 is not of the trusted cluster: invalid peer certificate: BadSignature
            untrusted
            name the CA of that cluster with --ca-file or PLFM_CA_FILE"#]],
    );
    let here = serve(&ca, Router::new()).await;
    let api_url = format!("https://localhost:{}", here.port());
    let by_name = Target { api_url, ca_pem: ca.pem.clone(), ..Target::default() };
    check(
        &Client::new(&by_name).unwrap().nodes().await.unwrap_err(),
        expect![[r#"
        the API at https://localhost:00000 goes by other names: invalid peer certificate: certificate not valid for name "localhost"; certificate is only valid for IpAddress(000.0.0.0)
        wrong_name
        call it by a name that it was started with: `plfm server --host NAME`"#]],
    );
    let plain = Target { api_url: "http://127.0.0.1:1".to_owned(), ca_pem: ca.pem.clone(), ..Target::default() };
    check(
        &Client::new(&plain).unwrap_err(),
        expect![[r#"
        `http://000.0.0.0:0` is not the URL of an API: it has the form https://host:port
        invalid_api_url
        set --api-url or PLFM_API_URL"#]],
    );
}

#[tokio::test]
async fn a_stream_gives_its_items_and_passes_over_notes() {
    let ca = Ca::new();
    let answer = async |RawQuery(query): RawQuery| {
        assert_eq!(query.as_deref(), Some("follow=true&console=false"));
        let line = |text: &str| json!({ "instance": instance(), "at": 5, "stream": "stdout", "text": text });
        let body = format!("{}\n\n{}\n{}", line("a"), json!({ "type": "keepalive", "cursor": 1 }), line("b"));
        axum::body::Body::from(body)
    };
    let path = format!("/v1/orgs/default/instances/{}/logs", instance());
    let client = client(&ca, serve(&ca, Router::new().route(&path, get(answer))).await);
    let lines = client.logs("default", instance(), true, false).await.unwrap();
    let texts: Vec<_> = lines.map_ok(|line| line.text).try_collect().await.unwrap();
    assert_eq!(texts, ["a", "b"]);
}

#[tokio::test]
async fn a_line_that_is_something_else_is_an_error() {
    let ca = Ca::new();
    let router = Router::new().route("/v1/events", get(async || "{\"kind\":\n"));
    let client = client(&ca, serve(&ca, router).await);
    let events: Result<Vec<_>, _> = client.events(Seq(0), false).await.unwrap().try_collect().await;
    check(
        &events.unwrap_err(),
        expect![[r#"
        the API answers /v0/events with something else than was asked for
        unexpected_answer
        check with `plfm version` that client and server are of one version"#]],
    );
}

#[tokio::test]
async fn a_terminal_says_hello_and_hears_the_end() {
    let ca = Ca::new();
    let answer = async |headers: HeaderMap, upgrade: WebSocketUpgrade| {
        assert_eq!(headers[header::AUTHORIZATION], "Bearer t0ken");
        upgrade.protocols([term::PROTOCOL]).on_upgrade(async |mut socket| {
            let Some(Ok(Message::Binary(hello))) = socket.recv().await else { panic!("hello comes first") };
            let Ok(Frame::Control(Control::Hello(hello))) = Frame::decode(&hello) else { panic!("it is a hello") };
            let output = Frame::Stdout { seq: 0, bytes: hello.command.join(" ").into_bytes() };
            let exit = Frame::Exit(Exit { exit_code: 3, signal: None, reason: "exited".to_owned() });
            for frame in [output, exit] {
                socket.send(Message::Binary(frame.encode().into())).await.unwrap();
            }
        })
    };
    let path = format!("/v1/orgs/default/instances/{}/exec", instance());
    let router = Router::new().route(&path, any(answer)).fallback(async || problem(StatusCode::CONFLICT));
    let client = client(&ca, serve(&ca, router).await);
    let (_writer, mut reader) = client.exec("default", instance(), hello()).await.unwrap().split();
    assert_eq!(reader.next().await.unwrap(), Some(Frame::Stdout { seq: 0, bytes: b"uname -r".to_vec() }));
    assert!(matches!(reader.next().await.unwrap(), Some(Frame::Exit(Exit { exit_code: 3, .. }))));
    let refused = client.exec("other", instance(), hello()).await.err().unwrap();
    assert!(matches!(refused, ExecError::Problem(problem) if problem.status == 409));
}

fn hello() -> Hello {
    Hello {
        v: term::VERSION,
        cols: 80,
        rows: 24,
        command: vec!["uname".to_owned(), "-r".to_owned()],
        tty: false,
        stdin: false,
        env: Default::default(),
    }
}
