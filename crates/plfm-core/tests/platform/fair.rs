use std::collections::BTreeMap;
use std::time::Duration;

use plfm_core::event::{Event, Waiting};
use plfm_core::fair::Class;
use plfm_core::ids::NodeId;
use plfm_core::place::{NoPlace, Wanted, Wish, one, place};
use plfm_core::quota::Dimension;

use crate::fleet::{Fleet, deploy_as, manifest};

/// Apps, each in a project of its own, with so many replicas of so much memory.
fn fleet_of(node_memory: u64, apps: &[(&str, u32, u64)]) -> Fleet {
    let mut fleet = Fleet::new();
    fleet.follow("limit instances 1000");
    fleet.follow("limit starts_per_minute 1000");
    fleet.follow("limit cpu 1000000");
    fleet.follow(&format!("node a memory={node_memory} disk=1000"));
    for (name, replicas, memory) in apps {
        own_project(&mut fleet, name);
        fleet.submit(deploy_as(name, manifest(*replicas, *memory, 1))).unwrap();
    }
    fleet
}

fn own_project(fleet: &mut Fleet, name: &str) {
    fleet.facts.entropy += 1;
    let (ids, org) = (fleet.facts.ids(), fleet.org());
    let (project, app) = (ids.fresh(), ids.fresh());
    fleet.happens(Event::ProjectCreated { project, org, name: name.to_owned() });
    fleet.happens(Event::AppCreated { app, org, project, name: name.to_owned() });
}

/// How many instances each app has.
fn counts(fleet: &Fleet) -> BTreeMap<String, usize> {
    let state = fleet.state();
    let count = |(id, env): (&plfm_core::ids::EnvId, &plfm_core::state::Env)| {
        (state.apps[&env.app].name.clone(), state.live_in(*id).count())
    };
    state.envs.iter().map(count).collect()
}

fn wanted(fleet: &Fleet, app: &str) -> Wanted {
    let state = fleet.state();
    let (env, it) = state.envs.iter().find(|(_, it)| state.apps[&it.app].name == app).unwrap();
    let (process, group) = it.groups.iter().next().unwrap();
    let (process, release) = (process.clone(), group.release);
    Wanted { env: *env, process, release, count: 1, class: Class::Normal, since: None }
}

#[test]
fn projects_share_what_there_is() {
    let mut fleet = fleet_of(1_000, &[("greedy", 50, 64), ("modest", 3, 64), ("other", 50, 64)]);
    fleet.beat();
    fleet.settle();
    let counts = counts(&fleet);
    assert_eq!((counts["modest"], counts["greedy"] + counts["other"]), (3, 7));
    assert!(counts["greedy"].abs_diff(counts["other"]) == 1, "{counts:?}");
}

#[test]
fn a_weight_is_a_greater_part() {
    let mut fleet = fleet_of(1_000, &[("greedy", 50, 64), ("other", 50, 64)]);
    let heavy = fleet.state().projects.iter().find(|(_, it)| it.name == "other").map(|(id, _)| *id).unwrap();
    fleet.submit(plfm_core::command::Command::SetProjectWeight { project: heavy, weight: 4 }).unwrap();
    fleet.beat();
    fleet.settle();
    let counts = counts(&fleet);
    assert_eq!((counts["greedy"], counts["other"]), (2, 8));
}

fn place_of(fleet: &Fleet, want: &Wanted) -> Result<NodeId, NoPlace> {
    one(fleet.state(), &fleet.facts, Wish::of(fleet.state(), want).unwrap()).map(|(node, _)| node)
}

#[test]
fn a_denial_is_not_a_wait() {
    let mut fleet = fleet_of(100, &[("shop", 1, 64), ("blog", 1, 64)]);
    fleet.beat();
    fleet.settle();
    let want = wanted(&fleet, "blog");
    let full = place_of(&fleet, &want);
    assert!(matches!(full, Err(NoPlace::Waits(Waiting::NoCapacityMemory { .. }))), "{full:?}");
    fleet.follow("node b");
    fleet.follow("limit instances 2");
    let denied = place_of(&fleet, &want);
    assert!(matches!(denied, Err(NoPlace::Denied(excess)) if excess.dimension == Dimension::Instances), "{denied:?}");
    fleet.follow("limit instances 3");
    assert_eq!(place_of(&fleet, &want), Ok(fleet.node("b")));
}

#[test]
fn classes_take_turns_and_waiting_raises() {
    let mut fleet = fleet_of(1_600, &[("jobs", 0, 64)]);
    fleet.beat();
    fleet.settle();
    let want = |class, since| Wanted { count: 100, class, since, ..wanted(&fleet, "jobs") };
    let served = |all: &[Wanted]| {
        let choices = place(fleet.state(), &fleet.facts, all).choices;
        Class::ALL.map(|class| choices.iter().filter(|choice| choice.class == class).count())
    };
    assert_eq!(served(&Class::ALL.map(|class| want(class, None))), [9, 4, 2, 1]);
    let long_ago = plfm_core::units::Timestamp(fleet.facts.now.0 - 180_000);
    assert_eq!(served(&[want(Class::Normal, None), want(Class::Low, Some(long_ago))]), [13, 0, 3, 0]);
}

/// Small ones come and go all the time; a large one that would never see enough room at once gets it within a minute.
#[test]
fn one_that_needs_much_gets_its_turn() {
    let mut fleet = fleet_of(1_000, &[("small", 10, 64)]);
    fleet.beat();
    fleet.settle();
    own_project(&mut fleet, "large");
    fleet.submit(deploy_as("large", manifest(1, 500, 1))).unwrap();
    let begun = fleet.facts.now;
    while counts(&fleet)["large"] == 0 {
        assert!(fleet.facts.now.since(begun) <= Duration::from_secs(60), "{}", fleet.picture());
        // The oldest ends, and its group wants another one at once.
        let (oldest, it) = fleet.state().instances.iter().find(|(_, it)| it.holds_resources()).unwrap();
        let (instance, node, status) = (*oldest, it.node, it.status.clone());
        let desired = plfm_core::phase::Desired::Stopped;
        let why = plfm_core::event::DesiredChange::ScaleDown;
        fleet.submit(plfm_core::command::Command::SetDesired { instance, desired, why }).unwrap();
        let phase = plfm_core::phase::InstancePhase::Gone;
        let gone = vec![(instance, plfm_core::event::InstanceStatus { phase, ..status })];
        fleet
            .submit(plfm_core::command::Command::Observe { node, capacity: None, instances: gone, volumes: None })
            .unwrap();
        fleet.follow("pass 3");
    }
}
