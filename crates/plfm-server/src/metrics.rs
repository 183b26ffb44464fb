//! What a monitoring system scrapes (OpenMetrics text, names with `plfm_`): the fleet in numbers.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use plfm_core::facts::Facts;
use plfm_core::ids::EnvId;
use plfm_core::phase::{InstancePhase, NodePhase};
use plfm_core::place::figures::{Figures, Wait, figures};
use plfm_core::state::State;
use plfm_core::units::Timestamp;

const NODES: &str = "plfm_nodes";
const INSTANCES: &str = "plfm_instances";
const QUEUE_DEPTH: &str = "plfm_sched_queue_depth";
const WAIT: &str = "plfm_sched_longest_wait_seconds";
const SHARE: &str = "plfm_sched_dominant_share";
const JAIN: &str = "plfm_sched_jain_index";
const STARVATION: &str = "plfm_sched_starvation_total";
/// Beyond these a name of its own is not worth a series (A-OBS-11).
const PROJECTS_MAX: usize = 1_000;

pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    /// Who starves now; each time is counted once.
    starving: Mutex<BTreeSet<(EnvId, String, Timestamp)>>,
}

impl Metrics {
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            describe_gauge!(NODES, "Nodes by phase");
            describe_gauge!(INSTANCES, "Instances by phase, ended ones for as long as they are remembered");
            describe_gauge!(QUEUE_DEPTH, "Groups of replicas that wait for room");
            describe_gauge!(WAIT, "How long the one that has waited longest has waited for room");
            describe_gauge!(SHARE, "The greatest part of the fleet that a project holds of anything");
            describe_gauge!(JAIN, "How even the shares of those that wait are, by weight; 1 is even");
            describe_counter!(STARVATION, "Waits of over 60 s below the fair share, while others were served");
            counter!(STARVATION).absolute(0);
        });
        Self { handle: recorder.handle(), recorder, starving: Mutex::default() }
    }

    /// To be called more often than a wait is long.
    pub fn look(&self, state: &State, facts: &Facts) {
        let figures = figures(state, facts);
        metrics::with_local_recorder(&self.recorder, || self.set(state, facts.now, &figures));
    }

    fn set(&self, state: &State, now: Timestamp, figures: &Figures) {
        for phase in NodePhase::ALL {
            gauge!(NODES, "phase" => phase.to_string()).set(figures.nodes.get(phase).copied().unwrap_or(0) as f64);
        }
        for phase in InstancePhase::ALL {
            let count = figures.instances.get(phase).copied().unwrap_or(0);
            gauge!(INSTANCES, "phase" => phase.to_string()).set(count as f64);
        }
        gauge!(QUEUE_DEPTH).set(figures.waits.len() as f64);
        let longest = figures.waits.iter().map(|wait| now.since(wait.since)).max().unwrap_or_default();
        gauge!(WAIT).set(longest.as_secs_f64());
        gauge!(JAIN).set(figures.jain_index);
        for (id, share) in figures.shares.iter().take(PROJECTS_MAX) {
            let Some(project) = state.projects.get(id) else { continue };
            let org = state.orgs.get(&project.org).map_or_else(String::new, |org| org.name.clone());
            gauge!(SHARE, "org" => org, "project" => project.name.clone()).set(*share);
        }
        counter!(STARVATION).increment(self.newly(figures.waits.iter().filter(|wait| wait.starves)));
    }

    fn newly<'a>(&self, starving: impl Iterator<Item = &'a Wait>) -> u64 {
        let now: BTreeSet<_> = starving.map(|wait| (wait.env, wait.process.clone(), wait.since)).collect();
        let mut known = self.starving.lock().unwrap_or_else(PoisonError::into_inner);
        let new = now.difference(&known).count();
        *known = now;
        new as u64
    }

    pub fn render(&self) -> String {
        self.handle.render()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_time_of_starving_is_counted_once() {
        let metrics = Metrics::new();
        let wait = |since| Wait { env: EnvId::new(Default::default()), process: "web".into(), since, starves: true };
        let (first, second) = (Timestamp(1), Timestamp(1) + Duration::from_secs(300));
        assert_eq!(metrics.newly([wait(first)].iter()), 1);
        assert_eq!(metrics.newly([wait(first)].iter()), 0);
        assert_eq!(metrics.newly([].iter()), 0);
        assert_eq!(metrics.newly([wait(second)].iter()), 1);
    }

    #[test]
    fn an_empty_fleet_has_its_figures() {
        let metrics = Metrics::new();
        metrics.look(&State::default(), &Facts::default());
        let text = metrics.render();
        for line in [
            "# TYPE plfm_sched_starvation_total counter",
            "plfm_sched_starvation_total 0",
            "plfm_nodes{phase=\"active\"} 0",
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
    }
}
