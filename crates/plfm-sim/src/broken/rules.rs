//! Deciders and wishes with one thing wrong.

use std::time::Duration;

use plfm_core::command::Command;
use plfm_core::decide::decide;
use plfm_core::event::{DesiredChange, Event, InstanceAllocated};
use plfm_core::facts::Facts;
use plfm_core::ids::InstanceId;
use plfm_core::phase::{DeployStatus, Desired};
use plfm_core::reconcile::{NextRun, reconcile};
use plfm_core::refusal::Refusal;
use plfm_core::sequencer::desk::Rules;
use plfm_core::state::State;
use plfm_core::units::{Mebibytes, Term, Timestamp};

type Decided = Result<Vec<Event>, Refusal>;
type Wishes = (Vec<Command>, NextRun);

const fn deciding(decide: fn(&State, Command, &Facts) -> Decided) -> Rules {
    Rules { decide, reconcile }
}

pub const DOUBLE_MEMORY: Rules = Rules {
    decide: |state, command, facts| match command {
        Command::Observe { .. } => decide(state, command, facts),
        _ => decide(&doubled(state), command, facts),
    },
    reconcile: |state, facts| reconcile(&doubled(state), facts),
};

fn doubled(state: &State) -> State {
    let mut doubled = state.clone();
    let ids: Vec<_> = state.nodes.keys().copied().collect();
    for id in ids {
        let memory = doubled.nodes.get_mut(&id).map(|node| &mut node.capacity.memory);
        memory.into_iter().for_each(|memory| *memory = Mebibytes(memory.0 * 2));
    }
    doubled
}

pub const HOMELESS: Rules = Rules {
    decide: |state, command, facts| decide(&homeless(state), command, facts),
    reconcile: |state, facts| reconcile(&homeless(state), facts),
};

fn homeless(state: &State) -> State {
    let mut homeless = state.clone();
    let ids: Vec<_> = state.volumes.keys().copied().collect();
    ids.iter().for_each(|id| homeless.volumes.get_mut(id).into_iter().for_each(|volume| volume.home = None));
    homeless
}

pub const TRUSTING: Rules = Rules {
    decide: |state, command, facts| match command {
        Command::Observe { .. } => decide(state, command, facts),
        _ => decide(&trusted(state), command, facts),
    },
    reconcile: |state, facts| reconcile(&trusted(state), facts),
};

fn trusted(state: &State) -> State {
    let mut trusted = state.clone();
    let ids: Vec<_> = state.nodes.keys().copied().collect();
    ids.iter().for_each(|id| trusted.nodes.get_mut(id).into_iter().for_each(|it| it.capacity.degraded.clear()));
    trusted
}

pub const SAME_ADDRESS: Rules = deciding(|state, command, facts| {
    let mut events = decide(state, command, facts)?;
    for event in &mut events {
        if let Event::InstanceAllocated(it) = event {
            same_address(state, it);
        }
    }
    Ok(events)
});

fn same_address(state: &State, it: &mut InstanceAllocated) {
    let other = state.instances.values().find(|other| other.node == it.node);
    other.into_iter().for_each(|other| it.address = other.address);
}

pub const ALL_AT_ONCE: Rules = Rules {
    decide,
    reconcile: |state, facts| {
        let (mut commands, next_run) = reconcile(state, facts);
        let old = state.instances.iter().filter(|(_, it)| {
            let group = it.replica().and_then(|it| state.envs.get(&it.env)?.groups.get(&it.process));
            it.desired == Desired::Running && group.is_some_and(|group| Some(group.release) != it.release())
        });
        let (desired, why) = (Desired::Draining, DesiredChange::RolloutReplace);
        commands.extend(old.map(|(id, _)| Command::SetDesired { instance: *id, desired, why }));
        (commands, next_run)
    },
};

pub const HASTY: Rules = Rules {
    decide: |state, command, facts| match command {
        Command::SetNodePhase { .. } => decide(state, command, &later(facts)),
        _ => decide(state, command, facts),
    },
    reconcile: |state, facts| judging(state, facts, &later(facts)),
};

fn later(facts: &Facts) -> Facts {
    Facts { now: facts.now + Duration::from_secs(40), ..facts.clone() }
}

pub const WITHOUT_LISTENING: Rules = Rules {
    decide: |state, command, facts| match command {
        Command::SetNodePhase { .. } => decide(state, command, &unheard(facts)),
        _ => decide(state, command, facts),
    },
    reconcile: |state, facts| judging(state, facts, &unheard(facts)),
};

fn unheard(facts: &Facts) -> Facts {
    Facts { writer_since: Timestamp(0), ..facts.clone() }
}

/// What is wished with the facts, but for the judgement of nodes, which goes by the other ones.
fn judging(state: &State, facts: &Facts, other: &Facts) -> Wishes {
    let is_judgement = |command: &Command| matches!(command, Command::SetNodePhase { .. });
    let (mut commands, next_run) = reconcile(state, facts);
    commands.retain(|command| !is_judgement(command));
    commands.extend(reconcile(state, other).0.into_iter().filter(is_judgement));
    (commands, next_run)
}

pub const DEAF: Rules = deciding(|state, command, facts| match command {
    Command::Observe { node, capacity, .. } => {
        decide(state, Command::Observe { node, capacity, instances: Vec::new(), volumes: None }, facts)
    }
    other => decide(state, other, facts),
});

pub const CREDULOUS: Rules = deciding(|state, command, facts| match command {
    Command::Observe { node, instances, .. } => {
        let known = instances.into_iter().filter(|(id, _)| state.instances.contains_key(id));
        let known = known.filter(|(id, status)| state.instances[id].status != *status);
        Ok(known.map(|(instance, status)| Event::InstanceStatusChanged { instance, node, status }).collect())
    }
    other => decide(state, other, facts),
});

pub const WASTEFUL: Rules = deciding(|state, command, facts| match command {
    Command::DeleteVolume { volume } => {
        let known = state.volumes.get(&volume).filter(|it| it.phase.is_wanted());
        Ok(known.map(|it| Event::VolumeDeleted { volume, org: it.org }).into_iter().collect())
    }
    other => decide(state, other, facts),
});

pub const SHARED_PORT: Rules = deciding(|state, command, facts| {
    let mut blind = state.clone();
    blind.routes = Default::default();
    match command {
        Command::Deploy(_) => decide(&blind, command, facts),
        other => decide(state, other, facts),
    }
});

pub const UNFINISHED: Rules = deciding(|state, command, facts| {
    let mut events = decide(state, command, facts)?;
    events.retain(|event| !matches!(event, Event::DeployStatusChanged { status: DeployStatus::Superseded, .. }));
    Ok(events)
});

pub const SAME_TERM: Rules = deciding(|state, command, facts| match command {
    Command::StartWriter => Ok(vec![Event::WriterStarted { term: state.term.max(Term(1)) }]),
    other => decide(state, other, facts),
});

pub const FORGETS_NOTHING: Rules = deciding(|state, command, facts| match command {
    Command::Forget { .. } => Ok(Vec::new()),
    other => decide(state, other, facts),
});

fn is_unused(command: &Command) -> bool {
    matches!(command, Command::SetDesired { why: DesiredChange::Unused, .. })
}

pub const HOARDING: Rules = Rules {
    decide,
    reconcile: |state, facts| {
        let (mut commands, next_run) = reconcile(state, facts);
        commands.retain(|command| !is_unused(command));
        (commands, next_run)
    },
};

pub const CARELESS: Rules = Rules {
    decide,
    reconcile: |state, facts| {
        let (mut commands, next_run) = reconcile(state, facts);
        commands.retain(|command| !is_unused(command));
        let loose = |id: &InstanceId| state.instances[id].snapshot().is_some_and(|it| !it.kept);
        let loose = state.index().snapshots().filter(loose).filter(|id| state.instances[id].is_taken());
        commands.extend(loose.map(|instance| Command::SetDesired {
            instance,
            desired: Desired::Stopped,
            why: DesiredChange::Unused,
        }));
        (commands, next_run)
    },
};
