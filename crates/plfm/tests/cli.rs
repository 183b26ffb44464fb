//! The program against a real server, as a person types it: what is printed, and the number it ends with. No node is needed here.

use cluster::{Cluster, Ran};
use expect_test::expect;
use serde_json::Value;

mod cluster;

const MANIFEST: &str = r#"schema_version = "v1"
[app]
name = "shop"
[processes.web]
resources.memory = "64Mi"
ports = [{ name = "http", internal = 8080 }]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_cluster_says_what_to_do() {
    let cluster = Cluster::start().await;
    let nodes = cluster.plfm(&["nodes"]).await;
    assert_eq!(nodes.code, 0);
    expect![[r#"
        NAME  NODE  PHASE  ARCH  ISOLATION  CPU  MEMORY  INSTANCES
    "#]]
    .assert_eq(&nodes.out);
    expect![[r#"
        no node has joined; `plfm node token` prints the command that adds one
    "#]]
    .assert_eq(&nodes.err);
    let status = cluster.plfm(&["status"]).await;
    expect![[r#"
        nothing is deployed; begin with `plfm deploy`
    "#]]
    .assert_eq(&status.err);
    assert_eq!(cluster.plfm(&["status", "--json"]).await.json()["schema"], "plfm.envs.v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_without_a_node_waits_and_explain_says_why() {
    let cluster = Cluster::start().await;
    cluster.write("plfm.toml", MANIFEST);
    let image = cluster.image();
    let deploy = ["deploy", "--image", &image, "--env", "dev", "--expose", "9000=web:8080"];
    let accepted = cluster.plfm(&[&deploy[..], &["--no-wait", "--json"]].concat()).await;
    assert_eq!((accepted.code, accepted.json()["status"].as_str()), (0, Some("accepted")), "{accepted:?}");
    let late = cluster.plfm(&[&deploy[..], &["--wait-timeout", "1s"]].concat()).await;
    assert_eq!(late.code, 6, "{late:?}");
    expect![[r#"
        deploying shop to dev of default at https://API
        accepted: dep_… with rel_…, image sha256:…
        web: 0 of 1 ready, waiting: no node takes new work
        error: dep_… is not done yet; that need not mean that it has failed

        hint: see `plfm explain shop`, and watch with `plfm status shop`
    "#]]
    // Whether it looks before the platform has said why it waits is a matter of luck.
    .assert_eq(&late.masked_err().replace("web: 0 of 1 ready\n", ""));
    let explained = cluster.plfm(&["explain"]).await;
    expect![[r#"
        shop in dev is not as it should be: web 0 of 1 ready

        web waits for a place
          why:  no node takes new work
          next: join a node: `plfm node token` prints the command

        one more of web on each node:
        NODE  SAYS
    "#]]
    .assert_eq(&explained.out);
    let status = cluster.plfm(&["status", "shop", "--json"]).await.json();
    let urls: Vec<_> = status["routes"].as_array().unwrap().iter().map(|route| route["url"].clone()).collect();
    assert_eq!(urls, ["https://shop.localhost", "tcp://127.0.0.1:9000"]);
    let nowhere = cluster.plfm(&["exec", "shop", "--", "true"]).await;
    assert_eq!(nowhere.code, 20, "{nowhere:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_the_edge_cannot_open_is_seen_and_taken_away() {
    let cluster = Cluster::start().await;
    cluster.write("plfm.toml", MANIFEST);
    let image = cluster.image();
    let deployed =
        cluster.plfm(&["deploy", "--env", "dev", "--image", &image, "--expose", "9000=web:8080", "--no-wait"]).await;
    assert_eq!(deployed.code, 0, "{deployed:?}");
    cluster.closed.send_replace([(9000, "Address already in use".to_owned())].into());
    expect![[r#"
        URL                     LEADS TO  OPEN
        https://shop.localhost  web:8080  yes
        tcp://127.0.0.1:9000    web:8080  no: Address already in use
    "#]]
    .assert_eq(&cluster.plfm(&["routes", "--env", "dev"]).await.out);
    let explained = cluster.plfm(&["explain"]).await.out;
    expect![[r#"
        shop in dev is not as it should be: web 0 of 1 ready

        web waits for a place
          why:  no node takes new work
          next: join a node: `plfm node token` prints the command

        port 9000 of the edge is not open
          why:  Address already in use
          next: make the port free for the edge, or take it away with `plfm unexpose 9000 --app shop --env dev`

        one more of web on each node:
        NODE  SAYS
    "#]]
    .assert_eq(&explained);
    let status = cluster.plfm(&["status"]).await.out;
    assert!(status.contains("not open: Address already in use"), "{status}");
    let gone = cluster.plfm(&["unexpose", "9000", "--env", "dev"]).await;
    expect![[r#"
        done: tcp://127.0.0.1:9000 leads to shop in dev no more
    "#]]
    .assert_eq(&gone.err);
    let routes = cluster.plfm(&["routes", "--env", "dev", "--json"]).await.out;
    assert!(!routes.contains("9000"), "{routes}");
    let twice = cluster.plfm(&["unexpose", "9000", "--env", "dev"]).await;
    assert_eq!(twice.code, 4);
    assert!(
        twice.err.starts_with("error: there is no route `9000`\n\nhint: list them with `plfm routes`\n"),
        "{twice:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_says_what_an_org_may_have_and_where() {
    let cluster = Cluster::start().await;
    cluster.write("plfm.toml", MANIFEST);
    cluster.plfm(&["org", "limit", "instances=3", "memory=4096"]).await;
    cluster.plfm(&["org", "limit", "memory=default"]).await;
    cluster.plfm(&["org", "weight", "2", "--project", "default"]).await;
    cluster.plfm(&["org", "weight", "5"]).await;
    let org = cluster.plfm(&["org", "require", "zone=a"]).await;
    expect![[r#"
        default: weight 5, nodes labelled zone=a
        project default: weight 2
        LIMIT              USED   MOST       SET BY
        instances          0      50         default
        memory             0 MiB  65536 MiB  default
        cpu                0m     64000m     default
        apps               0      20         default
        projects           1      20         default
        envs               0      100        default
        routes             0      50         default
        snapshots          0      100        default
        volumes            0      20         default
        volume_size        0      512000     default
        starts_per_minute  0      60         default
    "#]]
    .assert_eq(&org.out);
    assert_eq!(cluster.plfm(&["org", "show"]).await.out, org.out);
    let image = cluster.image();
    assert_eq!(cluster.plfm(&["deploy", "--env", "dev", "--image", &image, "--no-wait"]).await.code, 0);
    let required = cluster.plfm(&["require", "disk=ssd", "--env", "dev"]).await;
    expect![[r#"
        done: new instances of shop in dev go to nodes labelled disk=ssd
    "#]]
    .assert_eq(&required.err);
    for (args, code) in [
        (&["org", "limit", "chairs=3"][..], 2),
        (&["org", "require", "zone"], 2),
        (&["org", "weight", "0"], 2),
        (&["org", "weight", "1", "--project", "other"], 4),
        (&["require", "disk=ssd", "--env", "prod"], 4),
    ] {
        let refused = cluster.plfm(args).await;
        assert_eq!(refused.code, code, "{args:?}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_lets_in_until_it_is_taken_back() {
    let cluster = Cluster::start().await;
    let made = cluster.plfm(&["key", "create", "--json"]).await.json();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let holder = cluster.with("PLFM_TOKEN", key);
    assert_eq!(holder.plfm(&["sandbox", "ls"]).await.code, 0);
    assert_eq!(holder.plfm(&["key", "ls"]).await.code, 3, "it is for sandboxes alone");
    let listed = cluster.plfm(&["key", "ls"]).await.out;
    assert!(listed.contains(id) && !listed.contains(key), "{listed}");
    assert_eq!(cluster.plfm(&["key", "revoke", id]).await.code, 0);
    assert_eq!(holder.plfm(&["sandbox", "ls"]).await.code, 3);
    assert_eq!(cluster.plfm(&["key", "revoke", id]).await.code, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistyped_environment_is_noticed() {
    let cluster = Cluster::start().await;
    cluster.write("plfm.toml", MANIFEST);
    let image = cluster.image();
    let first = cluster.plfm(&["deploy", "--env", "staging", "--image", &image, "--no-wait"]).await;
    assert!(!first.err.contains("new environment"), "{first:?}");
    let other = cluster.plfm(&["deploy", "--env", "stagin", "--image", &image, "--no-wait"]).await;
    assert!(other.err.contains("stagin is a new environment of shop, which is in staging so far"), "{other:?}");
    assert_eq!(cluster.plfm(&["status", "--env", ""]).await.code, 2);
    assert_eq!(cluster.plfm(&["exec", "nothing", "--", "true"]).await.code, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_has_a_number_and_a_next_step() {
    let cluster = Cluster::start().await;
    assert_eq!(cluster.plfm(&["status", "nothing"]).await.code, 4);
    assert_eq!(cluster.plfm(&["deploy", "--env", "dev"]).await.code, 2, "there is no manifest");
    assert_eq!(cluster.plfm(&["explain", "inst_00000000010000000000000002"]).await.code, 4);
    let stranger = cluster.with("PLFM_TOKEN", "wrong").plfm(&["nodes", "--json"]).await;
    assert_eq!((stranger.code, stranger.err.as_str()), (3, ""));
    assert_eq!(stranger.json()["error"]["category"], "auth");
    let nobody = cluster.with("PLFM_API_URL", "https://127.0.0.1:1").plfm(&["nodes"]).await;
    assert_eq!(nobody.code, 6);
    expect![[r#"
        error: cannot reach the API at https://127.0.0.1:1: Connection refused (os error 111)

        hint: start a cluster here with `plfm dev`, or name another with --api-url or PLFM_API_URL
    "#]]
    .assert_eq(&nobody.err);
    cluster.write("plfm.toml", "schema_version = \"v2\"\n");
    let wrong = cluster.plfm(&["deploy", "--env", "dev"]).await;
    assert_eq!(wrong.code, 2);
    expect![[r#"
        error[E_NO_PROCESSES]: `processes` is missing
          --> plfm.toml:1 processes
          hint: add `[processes.web]`

        error[E_SCHEMA_VERSION]: this version of the manifest is not known
          --> plfm.toml:1 schema_version
          hint: write `schema_version = "v1"`, or upgrade plfm if the manifest is of a later version
    "#]]
    .assert_eq(&wrong.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_version_and_a_token_for_a_node() {
    let cluster = Cluster::start().await;
    let events = cluster.plfm(&["events", "--json"]).await;
    let kinds: Vec<_> =
        events.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone()).collect();
    assert_eq!(kinds.first().unwrap(), "log.started");
    assert_eq!(cluster.plfm(&["events"]).await.out.lines().count(), kinds.len());
    let version = cluster.plfm(&["version", "--json"]).await.json();
    assert_eq!(version["client"], version["server"]["version"]);
    let token = cluster.plfm(&["node", "token", "--json"]).await.json();
    assert!(token["join"].as_str().unwrap().parse::<plfm_node::join::Invitation>().is_ok(), "{token}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cluster_the_first_thing_to_type_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let Ran { code, err, .. } = cluster::plfm(&["status", "shop"], &[], dir.path()).await;
    assert_eq!(code, 2);
    expect![[r#"
        error: there is no cluster to talk to

        hint: start one here with `plfm dev`, or set PLFM_API_URL, PLFM_CA_FILE and PLFM_TOKEN
    "#]]
    .assert_eq(&err);
}

/// It needs no server.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_looked_at_before_it_is_deployed() {
    let cluster = Cluster::start().await;
    let vars = "vars = { KEY = \"hush\" }\nhealth = { type = \"http\", port = \"http\", path = \"/up\" }";
    cluster.write("plfm.toml", &format!("{MANIFEST}{vars}\n"));
    let checked = cluster.plfm(&["manifest", "check"]).await;
    assert_eq!(checked.code, 0, "{checked:?}");
    expect![[r#"
        PROCESS  REPLICAS  MEMORY  CPU    DISK      PORTS      HEALTH        VOLUMES  VARIABLES
        web      1         64 MiB  1000m  4096 MiB  http=8080  http 8080/up  -        KEY
    "#]]
    .assert_eq(&checked.out);
    expect![[r#"
        done: plfm.toml keeps to all rules; deploy it with `plfm deploy`
        it names no image: add `--image REF` to the deploy, or a table `[image]` with `ref`
    "#]]
    .assert_eq(&checked.err);
    let json = cluster.plfm(&["manifest", "check", "--json"]).await;
    assert_eq!(json.json()["processes"][0]["vars"][0], "KEY");
    assert!(!json.out.contains("hush"), "{}", json.out);
    cluster.write("plfm.toml", &MANIFEST.replace("64Mi", "64"));
    let wrong = cluster.plfm(&["manifest", "check"]).await;
    expect![[r#"
        error[E_MEMORY_FORMAT]: `64` is not a memory size
          --> plfm.toml:5 processes.web.resources.memory
          hint: write `<n>Mi` or `<n>Gi`, for example `512Mi`
    "#]]
    .assert_eq(&wrong.err);
    assert_ne!(wrong.code, 0);
}
