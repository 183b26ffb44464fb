use super::*;

#[test]
fn codes_are_the_json_form() {
    for phase in InstancePhase::ALL {
        assert_eq!(serde_json::to_string(phase).unwrap(), format!("\"{phase}\""));
    }
}

#[test]
fn nothing_leaves_the_end() {
    for next in InstancePhase::ALL {
        assert!(!InstancePhase::Gone.may_become(*next, true));
    }
    for last in DeployStatus::ALL.iter().filter(|status| status.is_final()) {
        assert!(DeployStatus::ALL.iter().all(|next| !last.may_become(*next)));
    }
    assert!(Desired::ALL.iter().all(|next| !Desired::Stopped.may_become(*next)));
}

#[test]
fn within_one_boot_only_readiness_goes_back() {
    use InstancePhase::*;
    let live = [Allocated, Preparing, Booting, Ready, Unready, Draining];
    for (earlier, from) in live.iter().enumerate() {
        for to in &live[..=earlier] {
            let back_to_ready = (*from, *to) == (Unready, Ready);
            assert_eq!(from.may_become(*to, false), back_to_ready, "{from} -> {to}");
        }
    }
}

#[test]
fn what_drains_never_serves_again() {
    for next in InstancePhase::ALL {
        let allowed = matches!(next, InstancePhase::Failed | InstancePhase::Stopped | InstancePhase::Gone);
        assert_eq!(InstancePhase::Draining.may_become(*next, true), allowed, "{next}");
    }
}

#[test]
fn what_gave_its_memory_back_never_holds_it_again() {
    for (next, other_boot) in InstancePhase::ALL.iter().flat_map(|next| [(next, false), (next, true)]) {
        let leads_on = InstancePhase::Stopped.may_become(*next, other_boot);
        assert_eq!(leads_on, *next == InstancePhase::Gone, "{next}");
    }
}

#[test]
fn a_node_ends_empty_and_once() {
    use NodePhase::*;
    for (from, to) in NodePhase::ALL.iter().flat_map(|from| NodePhase::ALL.iter().map(move |to| (*from, *to))) {
        let allowed = from != to && from != Decommissioned && (from, to) != (Active, Decommissioned);
        assert_eq!(from.may_become(to), allowed, "{from} -> {to}");
    }
}

proptest::proptest! {
    /// Whatever is said of a node in whatever order: once it is decommissioned nothing changes, and it never is straight from work.
    #[test]
    fn no_path_leads_out_of_the_end(path in proptest::collection::vec(proptest::sample::select(NodePhase::ALL), 1..20)) {
        let mut phase = NodePhase::Active;
        for next in path {
            let before = phase;
            phase = if phase.may_become(next) { next } else { phase };
            proptest::prop_assert!(before != NodePhase::Decommissioned || phase == before);
            proptest::prop_assert!(before != NodePhase::Active || phase != NodePhase::Decommissioned);
        }
    }
}
