use std::net::Ipv6Addr;
use std::time::Duration;

use expect_test::expect;
use plfm_api::views::{InstanceView, ProcessView, RouteView};
use plfm_core::digest::Digest;
use plfm_core::ids::{DeployId, InstanceId, ReleaseId, RouteId};
use plfm_core::phase::{DeployStatus, Desired, InstancePhase};
use plfm_core::reason::{Failure, Reason};
use plfm_core::units::{Mebibytes, Seq};
use ulid::Ulid;

use super::*;

const NOW: Timestamp = Timestamp(1_000_000_000);

fn ago(seconds: u64) -> Timestamp {
    Timestamp(NOW.0 - Duration::from_secs(seconds).as_millis() as u64)
}

fn instance(number: u128, phase: InstancePhase, failure: Option<Failure>) -> InstanceView {
    InstanceView {
        id: InstanceId::new(Ulid::from_parts(1, number)),
        app: "shop".to_owned(),
        env: "dev".to_owned(),
        process: "web".to_owned(),
        node: "node-a".to_owned(),
        release: ReleaseId::new(Ulid::from_parts(1, 1)),
        deploy: DeployId::new(Ulid::from_parts(1, 1)),
        desired: Desired::Running,
        phase,
        hint: failure.as_ref().map(|it| it.reason.hint().to_owned()),
        restarts: u32::from(failure.is_some()),
        failure,
        exit_code: None,
        boot: None,
        hello_ms: None,
        start: None,
        address: Ipv6Addr::LOCALHOST,
        memory: Mebibytes(64),
        created_at: ago(600),
        changed_at: ago(90),
    }
}

fn route(url: &str, closed: Option<String>) -> RouteView {
    RouteView { id: RouteId::new(Ulid::from_parts(1, 1)), url: url.to_owned(), target: None, closed }
}

pub(crate) fn env() -> EnvView {
    let failure = Failure::new(Reason::OomKilled, "killed at 64 MiB");
    EnvView {
        app: "shop".to_owned(),
        env: "dev".to_owned(),
        routes: vec![
            route("https://shop.localhost", None),
            route("tcp://127.0.0.1:9000", Some("Address already in use".to_owned())),
        ],
        deploy: Some(DeployView {
            id: DeployId::new(Ulid::from_parts(1, 1)),
            release: ReleaseId::new(Ulid::from_parts(1, 1)),
            image: "shop:1".to_owned(),
            digest: Digest::of(b"image"),
            status: DeployStatus::Rolling,
            failure: None,
            created_at: ago(600),
        }),
        processes: vec![ProcessView {
            name: "web".to_owned(),
            wanted: 3,
            ready: 1,
            waiting: Some("no node takes new work".to_owned()),
        }],
        instances: vec![instance(1, InstancePhase::Ready, None), instance(2, InstancePhase::Failed, Some(failure))],
        constraints: Default::default(),
        class: Default::default(),
        seq: Seq(9),
    }
}

#[test]
fn one_app() {
    expect![[r#"
        shop in dev
        dep_00000000010000000000000001 rolling, begun 10m ago, image shop:1
        web: 1 of 3 ready
          waiting: no node takes new work
        url: https://shop.localhost
        url: tcp://127.0.0.1:9000
          not open: Address already in use; make the port free for the edge, or take it away with `plfm unexpose 9000 --app shop --env dev`

        INSTANCE                         APP   ENV  PROCESS  NODE    PHASE   SINCE  RESTARTS  REASON
        inst_00000000010000000000000001  shop  dev  web      node-a  ready   90s    0         -
        inst_00000000010000000000000002  shop  dev  web      node-a  failed  90s    1         oom_killed: killed at 64 MiB
    "#]].assert_eq(&text(&env(), NOW));
}

#[test]
fn a_rollout_in_lines() {
    expect![[r#"
        web: 1 of 3 ready, waiting: no node takes new work
        web inst_00000000010000000000000002 is failed on node-a: oom_killed: killed at 64 MiB (raise `resources.memory`)"#]].assert_eq(&super::super::deploy::progress_lines(&env()).join("\n"));
}
