use std::time::Duration;

use plfm_core::phase::{InstancePhase, NodePhase};
use plfm_core::place::figures::figures;

use crate::fleet::Fleet;

fn fleet(script: &str) -> Fleet {
    let mut fleet = Fleet::new();
    script.split(';').for_each(|line| fleet.follow(line.trim()));
    fleet
}

#[test]
fn who_waits_for_long_starves_only_if_others_are_served_meanwhile() {
    let mut fleet = fleet("node a memory=1024; deploy v1 x2 memory=400; ready; deploy v1 x1 memory=400 app=other");
    let waiting = |fleet: &Fleet| figures(fleet.state(), &fleet.facts).waits;
    assert_eq!(waiting(&fleet).iter().map(|wait| wait.starves).collect::<Vec<_>>(), [false]);
    fleet.follow("pass 61");
    assert_eq!(waiting(&fleet).iter().map(|wait| wait.starves).collect::<Vec<_>>(), [false], "nothing came free");
    // What must not happen, and does not: two came after it, and there is room for more.
    let mut state = fleet.state().clone();
    let came = fleet.facts.now;
    for id in state.instances.keys().copied().collect::<Vec<_>>() {
        state.instances.get_mut(&id).unwrap().created_at = came;
    }
    assert!(figures(&state, &fleet.facts).waits[0].starves);
    let mut soon = fleet.facts.clone();
    soon.now = figures(&state, &fleet.facts).waits[0].since + Duration::from_secs(60);
    assert!(!figures(&state, &soon).waits[0].starves, "not before its time");
}

#[test]
fn what_there_is_is_counted() {
    let fleet = fleet("node a; node b; mute b; pass 61; deploy v1 x2; ready; deploy v1 x1 app=other");
    let figures = figures(fleet.state(), &fleet.facts);
    assert_eq!(figures.nodes, [(NodePhase::Active, 1), (NodePhase::Offline, 1)].into());
    assert_eq!(figures.instances, [(InstancePhase::Ready, 2), (InstancePhase::Allocated, 1)].into());
}
