use std::time::Duration;

use expect_test::expect;
use plfm_core::command::{Command, Expose, NodeOrder};
use plfm_core::digest::Digest;
use plfm_core::event::{Capacity, Entry, InstanceStatus, Scope, Tls};
use plfm_core::fair::Class;
use plfm_core::ids::{NodeId, ReleaseId};
use plfm_core::labels::Labels;
use plfm_core::phase::{DeployStatus, Desired, InstancePhase, NodePhase};
use plfm_core::refusal::Refusal;
use plfm_core::sequencer::{Origin, Sequencer};
use plfm_core::state::State;
use ulid::Ulid;

use crate::fleet::{Fleet, bootstrap, capacity, deploy, expose, exposing, manifest};

fn none<I: From<Ulid>>() -> I {
    Ulid::nil().into()
}

fn fleet(script: &str) -> Fleet {
    let mut fleet = Fleet::new();
    script.split(';').map(str::trim).filter(|line| !line.is_empty()).for_each(|line| fleet.follow(line));
    fleet
}

fn refusal(script: &str, command: impl FnOnce(&mut Fleet) -> Command) -> Refusal {
    let mut fleet = fleet(script);
    let (command, before) = (command(&mut fleet), fleet.state().clone());
    let refusal = fleet.submit(command).expect_err("it is refused");
    assert_eq!(*fleet.state(), before, "a refusal changes nothing");
    refusal
}

fn join(token: &str, name: &str) -> Command {
    Command::JoinNode { token: Digest::of(token.as_bytes()), name: name.to_owned(), capacity: capacity(1, 1) }
}

fn named(app: &str, env: &str, org: &str) -> Command {
    let mut command = deploy("v1", manifest(1, 64, 1));
    let Command::Deploy(wanted) = &mut command else { unreachable!("it is a deploy") };
    (wanted.app, wanted.env, wanted.org) = (app.to_owned(), env.to_owned(), org.to_owned());
    command
}

fn observe(fleet: &Fleet, node: NodeId, phase: InstancePhase) -> Command {
    let status =
        InstanceStatus { phase, boot: None, failure: None, exit_code: None, restarts: 0, hello_ms: None, start: None };
    let instance = *fleet.state().instances.keys().next().expect("there is an instance");
    Command::Observe { node, capacity: None, instances: vec![(instance, status)], volumes: None }
}

fn order(fleet: &Fleet, order: NodeOrder) -> Command {
    Command::OrderNode { node: fleet.node("a"), order }
}

fn hostname(name: &str) -> Entry {
    Entry::Hostname(name.to_owned())
}

fn rollback(fleet: &Fleet, to: impl FnOnce(&Fleet) -> Option<ReleaseId>) -> Command {
    let env = *fleet.state().envs.keys().next().expect("it was deployed to");
    Command::Rollback { env, release: to(fleet) }
}

fn passed(expose: Expose) -> Expose {
    Expose { tls: Tls::Passthrough, ..expose }
}

fn crowded() -> Refusal {
    let mut fleet = fleet("node a");
    let mut state = fleet.state().clone();
    let ids: Vec<_> = state.nodes.keys().copied().collect();
    ids.iter().for_each(|id| state.nodes[id].number = u16::MAX);
    let (hash, expires_at) = (Digest::of(b"b"), fleet.facts.now + Duration::from_secs(1));
    fleet.facts.entropy += 1;
    let origin = Origin { actor: plfm_core::event::Actor::System, request: none(), cause: None };
    let mut sequencer = Sequencer::new(state);
    sequencer.submit(Command::CreateJoinToken { hash, expires_at }, origin, &fleet.facts).expect("a token is made");
    sequencer.submit(join("b", "b"), origin, &fleet.facts).expect_err("no number is left")
}

fn in_an_empty_log() -> Refusal {
    let facts = Fleet::empty().facts;
    plfm_core::decide::decide(&State::default(), Command::StartWriter, &facts).expect_err("there is no cluster")
}

#[test]
fn every_refusal_has_a_code_a_class_a_sentence_and_a_hint() {
    let token = |fleet: &mut Fleet| {
        let (hash, expires_at) = (Digest::of(b"t"), fleet.facts.now);
        fleet.submit(Command::CreateJoinToken { hash, expires_at }).expect("a token is made");
        join("t", "t")
    };
    let all = [
        in_an_empty_log(),
        refusal("", |_| bootstrap()),
        refusal("", |_| named("Shop", "dev", "default")),
        refusal("", |_| named("shop", "dev", "acme")),
        refusal("", |_| Command::SetNodePhase { node: none(), phase: NodePhase::Offline }),
        refusal("", |_| Command::Forget { instance: none() }),
        refusal("", |_| Command::SetDeployStatus { deploy: none(), status: DeployStatus::Failed, failure: None }),
        refusal("", |_| exposing("v1", manifest(1, 64, 1), vec![expose("worker", 8080, Entry::TcpPort(80))])),
        refusal("", |_| exposing("v1", manifest(1, 64, 1), vec![expose("web", 81, Entry::TcpPort(80))])),
        refusal("", |fleet| {
            fleet.submit(named("a", "b-c", "default")).expect("it is the first");
            named("a-b", "c", "default")
        }),
        refusal("", |fleet| {
            let port = || vec![expose("web", 8080, Entry::TcpPort(80))];
            fleet.submit(exposing("v1", manifest(1, 64, 1), port())).expect("it is the first");
            let mut other = exposing("v1", manifest(1, 64, 1), port());
            let Command::Deploy(wanted) = &mut other else { unreachable!("it is a deploy") };
            wanted.app = "other".to_owned();
            other
        }),
        refusal("", |_| join("nothing", "a")),
        refusal("", token),
        refusal("", |fleet| {
            let (hash, expires_at) = (Digest::of(b"t"), fleet.facts.now + Duration::from_secs(1));
            fleet.submit(Command::CreateJoinToken { hash, expires_at }).expect("a token is made");
            fleet.submit(join("t", "a")).expect("it is the first");
            join("t", "b")
        }),
        refusal("node a", |fleet| order(fleet, NodeOrder::Tolerate)),
        refusal("", |_| exposing("v1", manifest(1, 64, 1), vec![expose("web", 8080, hostname("a..example.com"))])),
        refusal("node a; deploy v1 x1", |fleet| rollback(fleet, |_| None)),
        refusal("node a; deploy v1 x1", |fleet| rollback(fleet, |_| Some(none()))),
        refusal("node a; deploy v1 x1", |fleet| rollback(fleet, |fleet| fleet.state().releases.keys().next().copied())),
        refusal("", |_| exposing("v1", manifest(1, 64, 1), vec![expose("web", 8080, hostname("example.org"))])),
        refusal("", |_| exposing("v1", manifest(1, 64, 1), vec![passed(expose("web", 8080, Entry::TcpPort(80)))])),
        refusal("node a", |fleet| {
            let (hash, expires_at) = (Digest::of(b"t"), fleet.facts.now + Duration::from_secs(1));
            fleet.submit(Command::CreateJoinToken { hash, expires_at }).expect("a token is made");
            join("t", "a")
        }),
        refusal("node a; node b; deploy v1 x1", |fleet| {
            let of = fleet.state().instances.values().next().expect("there is an instance").node;
            let other = if of == fleet.node("a") { fleet.node("b") } else { fleet.node("a") };
            observe(fleet, other, InstancePhase::Gone)
        }),
        refusal("node a; deploy v1 x1", |fleet| observe(fleet, fleet.node("a"), InstancePhase::Ready)),
        crowded(),
        refusal("node a", |fleet| order(fleet, NodeOrder::Decommission)),
        refusal("node a; deploy v1 x1; drain a", |fleet| order(fleet, NodeOrder::Decommission)),
        refusal("node a; mute a; pass 60", |fleet| order(fleet, NodeOrder::Drain)),
        refusal("node a; drain a; decommission a", |fleet| Command::Observe {
            node: *fleet.state().nodes.keys().next().expect("its record stays"),
            capacity: None,
            instances: Vec::new(),
            volumes: None,
        }),
        refusal("", |_| Command::ForceReschedule),
        refusal("", |_| deploy("v1", manifest(51, 64, 1))),
        refusal("", |_| Command::SetOrgWeight { org: none(), weight: 1 }),
        refusal("", |_| Command::SetProjectWeight { project: none(), weight: 1 }),
        refusal("", |fleet| Command::SetOrgWeight { org: fleet.org(), weight: 0 }),
        refusal("", |_| Command::RevokeToken { token: none() }),
        refusal("", |fleet| Command::RevokeToken { token: *fleet.state().tokens.keys().next().expect("the admin's") }),
        refusal("", |_| Command::SetOrgConstraints { org: none(), constraints: Labels::default() }),
        refusal("", |_| Command::SetEnvConstraints { env: none(), constraints: Labels::default() }),
        refusal("", |fleet| {
            let constraints = Labels([("no label".to_owned(), String::new())].into());
            Command::SetOrgConstraints { org: fleet.org(), constraints }
        }),
        refusal("node a; deploy v1 x1", |fleet| Command::Forget {
            instance: *fleet.state().instances.keys().next().expect("there is one"),
        }),
    ];
    let told = all.iter().map(|refusal| {
        let text = refusal.to_string();
        // Ids are drawn anew when the script changes.
        let text = text.split(' ').map(|word| if word.len() > 30 { "ID" } else { word }).collect::<Vec<_>>().join(" ");
        format!("{} {:?}: {text} ({})\n", refusal.code(), refusal.class(), refusal.hint())
    });
    expect![[r#"
        not_bootstrapped Conflict: the log is empty; it has no cluster yet (start a server on this data directory first)
        already_bootstrapped Conflict: the log already holds a cluster (nothing to do)
        invalid_name Invalid: `Shop` is not a name: 1 to 64 of a-z, 0-9 and `-`, not at an end (choose another name, for example `my-app`)
        org_not_found NotFound: there is no org `acme` (use `--org default` or create the org)
        node_not_found NotFound: there is no node ID (list nodes with `plfm nodes`)
        instance_not_found NotFound: there is no instance ID (list instances with `plfm instances`)
        deploy_not_found NotFound: there is no deploy dep_00000000000000000000000000 (see `plfm status` for the newest deploy)
        process_not_found Invalid: the release has no process type `worker` (name a process type of the manifest)
        port_not_declared Invalid: process type `web` declares no port 81 (add the port under `ports` of the process, or name a declared one)
        hostname_in_use Conflict: the host name `a-b-c.example.com` is taken by another environment (rename the app or the environment)
        port_in_use Conflict: port 80 of the edge is taken by another route (choose another port)
        enrollment_token_invalid Unauthorized: the join token is not one of this cluster (print a fresh command with `plfm node token`)
        enrollment_token_expired Unauthorized: the join token expired at 2026-01-01T00:00:00.000Z (print a fresh command with `plfm node token`)
        enrollment_token_used Unauthorized: the join token was already used by ID (print a fresh command with `plfm node token`)
        node_not_degraded Conflict: ID is not degraded (there is nothing to tolerate: `plfm node explain` says why it gets no work)
        invalid_hostname Invalid: `a..example.com` is not a host name (write labels of a-z, 0-9 and hyphens, at most 63 each, for example `db.localhost`)
        nothing_before Conflict: no other release has run in env_01KDVDNA01JDHK8KYXB6B61PB4 (see `plfm releases`)
        release_not_found NotFound: there is no release rel_00000000000000000000000000 of this app (see `plfm releases`)
        release_current Conflict: rel_01KDVDNA0159EW0YCQVTW7XF2G is what is wanted now (`plfm status` says how it is; `plfm releases` lists the others)
        hostname_not_ours Invalid: only names below `example.com` can be taken (names of your own have to be proven, and that is not there yet; take one below it)
        no_tls_there Invalid: port 80 of the edge tells no host names apart (leave `/tls` out: a port passes every byte on anyway)
        node_name_exists Conflict: a node named `a` has joined before (start the node with another `--name`, or on its old data directory)
        forbidden Unauthorized: ID belongs to another node (report this: a node sent what it must not)
        invalid_argument Invalid: ID cannot be ready without a reason or a boot (report this: a node sent what it must not)
        nodes_exhausted Conflict: the cluster has no number left for another node (start another cluster)
        node_active Conflict: ID still takes new work (drain it first with `plfm node drain`)
        node_not_empty Conflict: ID still has work: 1 instances (wait until it is drained (`plfm instances` shows what is left); what has volumes stays until it is deployed without them; after a mass failure, `plfm node reschedule` moves the rest)
        node_offline Conflict: ID is offline (start it first, or decommission it if it will never be back)
        node_decommissioned Conflict: ID is decommissioned (join the machine again, as a new node: `plfm node token` prints the command)
        rescheduling_not_frozen Conflict: rescheduling is not frozen (nothing to do)
        quota_exceeded Conflict: the org's limit for instances is 50: 51 are asked for, 0 are taken (end or remove something of the org that counts (`plfm org show`); an operator can raise the limit: `plfm org limit`)
        org_not_found NotFound: there is no org org_00000000000000000000000000 (check the id in the request)
        project_not_found NotFound: there is no project prj_00000000000000000000000000 (check the id in the request)
        invalid_argument Invalid: a weight is 1 to 1000, not 0 (choose a weight in that range)
        token_not_found NotFound: there is no token tok_00000000000000000000000000 (list keys with `plfm key ls`)
        last_admin_token Conflict: tok_01KDVDNA005D9TY6BDE186JMYD is the last token that may do everything (make another one first)
        org_not_found NotFound: there is no org org_00000000000000000000000000 (check the id in the request)
        environment_not_found NotFound: there is no environment env_00000000000000000000000000 (list environments with `plfm status`)
        invalid_argument Invalid: these are no labels (write labels as `zone=a`: letters, digits and `-_./`, 63 at most, 32 labels at most)
        version_conflict Stale: ID has moved on (try again)
    "#]].assert_eq(&told.collect::<String>());
}

#[test]
fn what_has_moved_on_is_stale() {
    let fleet = fleet("node a; deploy v1 x1; ready");
    let instance = *fleet.state().instances.keys().next().expect("there is one");
    let (deploy, node) = (*fleet.state().deploys.keys().next().expect("there is one"), fleet.node("a"));
    let (env, owner) = fleet.state().envs.iter().next().expect("there is one");
    let (env, release) = (*env, owner.groups["web"].release);
    let (class, web) = (Class::Normal, || "web".to_owned());
    let commands = [
        Command::SetDesired { instance, desired: Desired::Running, why: plfm_core::event::DesiredChange::NodeLost },
        Command::Forget { instance },
        Command::SetDeployStatus { deploy, status: DeployStatus::Failed, failure: None },
        Command::SetNodePhase { node, phase: NodePhase::Active },
        Command::SetNodePhase { node, phase: NodePhase::Offline },
        Command::NoteWaiting { env, process: web(), waiting: None },
        Command::NoteWaiting { env: none(), process: web(), waiting: None },
        Command::Allocate { env: none(), process: web(), release, node, class },
        Command::Allocate { env, process: "worker".to_owned(), release, node, class },
        Command::Allocate { env, process: web(), release: none(), node, class },
        Command::Allocate { env, process: web(), release, node: none(), class },
    ];
    for command in commands {
        let said = format!("{command:?}");
        let refused = plfm_core::decide::decide(fleet.state(), command, &fleet.facts);
        assert!(matches!(refused, Err(Refusal::Stale { .. })), "{said}: {refused:?}");
    }
}

#[test]
fn a_full_node_takes_no_more() {
    let mut fleet = fleet("node a memory=100; deploy v1 x1");
    let (env, owner) = fleet.state().envs.iter().next().expect("there is one");
    let command = Command::Allocate {
        env: *env,
        process: "web".to_owned(),
        release: owner.groups["web"].release,
        node: fleet.node("a"),
        class: Class::Normal,
    };
    assert!(matches!(fleet.submit(command), Err(Refusal::Stale { .. })));
}

#[test]
fn a_node_shrinks_when_what_was_promised_on_it_has_left() {
    let mut fleet = fleet("node a memory=200; deploy v1 x2");
    let node = fleet.node("a");
    let says = |memory| Command::Observe {
        node,
        capacity: Some(capacity(memory, 50 << 10)),
        instances: Vec::new(),
        volumes: None,
    };
    let memory = |fleet: &Fleet| fleet.state().nodes[&node].capacity.memory.0;
    assert_eq!(fleet.submit(says(199)), Ok(0));
    ["deploy v1 x1", "leave", "ready", "leave"].into_iter().for_each(|line| fleet.follow(line));
    assert_eq!((fleet.submit(says(100)), memory(&fleet)), (Ok(1), 100));
    assert_eq!(fleet.submit(says(100)), Ok(0));
}

#[test]
fn two_lines_about_one_instance_are_one() {
    let mut fleet = fleet("node a; deploy v1 x1; ready");
    let Command::Observe { node, instances, .. } = observe(&fleet, fleet.node("a"), InstancePhase::Gone) else {
        unreachable!("it is an observation")
    };
    let draining = InstanceStatus { phase: InstancePhase::Draining, ..instances[0].1.clone() };
    let lines = vec![instances[0].clone(), (instances[0].0, draining)];
    assert_eq!(fleet.submit(Command::Observe { node, capacity: None, instances: lines, volumes: None }), Ok(1));
}

#[test]
fn a_node_is_not_given_up_while_something_is_left_there() {
    let mut fleet = fleet("node a; template 256; sandbox 60; ready; kill 1; drain a");
    let decommission = order(&fleet, NodeOrder::Decommission);
    assert!(matches!(fleet.submit(decommission), Err(Refusal::NodeNotEmpty { instances: 1, .. })), "it has yet to end");
}

#[test]
fn a_node_is_not_given_up_while_a_volume_is_there() {
    let mut fleet = fleet("node a; deploy v1 x1 volume=data; ready; deploy v2 x0 volume=data; leave; drain a");
    let decommission = order(&fleet, NodeOrder::Decommission);
    assert!(matches!(fleet.submit(decommission), Err(Refusal::NodeHasVolumes { volumes: 1, .. })));
}

#[test]
fn nothing_is_frozen_without_a_cause() {
    let mut fleet = fleet("node a; node b");
    for frozen in [true, false] {
        assert!(matches!(fleet.submit(Command::SetRescheduling { frozen }), Err(Refusal::Stale { .. })), "{frozen}");
    }
}

#[test]
fn tokens_are_made() {
    let mut fleet = Fleet::new();
    let scopes = Scope::ALL.to_vec();
    assert_eq!(fleet.submit(Command::CreateToken { org: None, hash: Digest::of(b"reader"), scopes }), Ok(1));
    let of =
        |org| Command::CreateToken { org: Some(org), hash: Digest::of(b"of an org"), scopes: vec![Scope::AppsRead] };
    let (known, unknown) = (fleet.org(), none());
    assert_eq!(fleet.submit(of(known)), Ok(1));
    assert_eq!(fleet.submit(of(unknown)), Err(Refusal::OrgUnknown(unknown)));
    // With another one of its kind the first may go.
    let first = *fleet.state().tokens.keys().next().expect("the admin's");
    assert_eq!(fleet.submit(Command::RevokeToken { token: first }), Ok(1));
    assert_eq!(fleet.submit(Command::RevokeToken { token: first }), Err(Refusal::TokenNotFound(first)));
}

/// Nonsense that a node may claim must not stop the writer.
#[test]
fn a_node_may_claim_to_be_endless() {
    let mut fleet = fleet("node a; deploy v1 x1");
    let endless = Capacity { memory: plfm_core::units::Mebibytes(u64::MAX), ..capacity(1, u64::MAX) };
    let node = fleet.node("a");
    fleet
        .submit(Command::Observe { node, capacity: Some(endless), instances: Vec::new(), volumes: None })
        .expect("it is a claim");
    fleet.follow("deploy v2 x3");
}

#[test]
fn an_app_belongs_to_a_project_of_its_own_org() {
    let mut fleet = fleet("node a");
    let mut state = fleet.state().clone();
    let project = plfm_core::state::Project { org: none(), ..state.projects.values().next().unwrap().clone() };
    state.projects.insert(none(), project);
    fleet.facts.entropy += 1;
    let events = plfm_core::decide::decide(&state, named("new", "dev", "default"), &fleet.facts).unwrap();
    let made = events.iter().find_map(|event| match event {
        plfm_core::event::Event::AppCreated { project, .. } => Some(*project),
        _ => None,
    });
    assert_eq!(made.and_then(|project| Some(state.projects.get(&project)?.org)), Some(fleet.org()));
}
