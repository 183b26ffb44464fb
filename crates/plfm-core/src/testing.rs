//! What unit tests of several modules begin with.

use crate::event::{Capacity, Isolation};
use crate::phase::NodePhase;
use crate::state::Node;
use crate::units::{Mebibytes, MilliCpu, Seq, Timestamp};

/// An active node, with a thousand of everything.
pub fn node() -> Node {
    let capacity = Capacity {
        arch: "amd64".to_owned(),
        isolation: Isolation::Vm,
        cpu: MilliCpu(1_000),
        memory: Mebibytes(1_000),
        disk: Mebibytes(1_000),
        overhead: Mebibytes(0),
        tunnel: String::new(),
        degraded: Default::default(),
        labels: Default::default(),
    };
    let (phase, phase_at, version) = (NodePhase::Active, Timestamp(0), Seq(1));
    let (name, failed_boots) = ("a".to_owned(), Vec::new());
    let tolerated = Default::default();
    Node {
        name,
        number: 1,
        capacity,
        phase,
        returns_to: phase,
        phase_at,
        next_host: 1,
        failed_boots,
        tolerated,
        version,
    }
}
