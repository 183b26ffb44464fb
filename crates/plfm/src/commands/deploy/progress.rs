//! A rollout in a few lines.

use plfm_api::views::{EnvView, InstanceView, ProcessView};
use plfm_core::phase::{Desired, InstancePhase};

/// One line for each process type and one for each instance that is on its way or in trouble.
pub fn lines(env: &EnvView) -> Vec<String> {
    let processes = env.processes.iter().map(process);
    let instances = env.instances.iter().filter(|it| of_this_deploy(env, it)).filter_map(instance);
    processes.chain(instances).collect()
}

fn of_this_deploy(env: &EnvView, instance: &InstanceView) -> bool {
    env.deploy.as_ref().is_some_and(|deploy| deploy.id == instance.deploy) && instance.desired == Desired::Running
}

fn process(process: &ProcessView) -> String {
    let ProcessView { name, wanted, ready, waiting } = process;
    let waiting = waiting.as_ref().map(|why| format!(", waiting: {why}")).unwrap_or_default();
    format!("{name}: {ready} of {wanted} ready{waiting}")
}

fn instance(it: &InstanceView) -> Option<String> {
    let line = format!("{} {} is {} on {}", it.process, it.id, it.phase, it.node);
    let Some(failure) = &it.failure else {
        return (it.phase != InstancePhase::Ready).then_some(line);
    };
    let hint = it.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    (it.phase != InstancePhase::Ready).then(|| format!("{line}: {failure}{hint}"))
}
