//! What the agent reports of a group: a view of what it knows.

use state::assignment::Assignment;
use state::group::{ContainerObserved, ContainerState, Observed, Phase};

use super::known::{Ground, Image, Known, KnownContainer, Run};

/// What is to be reported.
pub fn observe(assignment: &Assignment, known: &Known) -> Observed {
    let containers = assignment.spec.containers.iter().zip(&known.containers);
    Observed {
        phase: phase(known),
        stop: known.stop.clone().filter(|_| known.stop_is_own),
        containers: containers.map(|(spec, container)| observed(assignment, &spec.name, container)).collect(),
        connectivity_at_ms: known.connectivity_at_ms,
        pull_started_at_ms: known.pull_started_at_ms,
        pull_stopped_at_ms: known.pull_stopped_at_ms,
        started_at_ms: known.started_at_ms,
        stopping_at_ms: known.stopping_at_ms,
        execution_stopped_at_ms: known.execution_stopped_at_ms,
        stopped_at_ms: known.stopped_at_ms,
    }
}

fn phase(known: &Known) -> Phase {
    match (&known.stop, known.ground) {
        (_, Ground::Removed) => Phase::Gone,
        (_, Ground::Removing) => Phase::Deprovisioning,
        (Some(_), _) => Phase::Stopping,
        (None, Ground::Absent | Ground::Making | Ground::Failed) => Phase::Provisioning,
        (None, Ground::Ready) if known.started_at_ms.is_some() => Phase::Running,
        (None, Ground::Ready) => Phase::Pending,
    }
}

fn observed(assignment: &Assignment, name: &str, known: &KnownContainer) -> ContainerObserved {
    // The server gave it its id; only the rest is seen here.
    let given = assignment.observed.containers.iter().find(|c| c.name == name);
    ContainerObserved {
        name: name.to_owned(),
        id: given.map(|c| c.id.clone()).unwrap_or_default(),
        runtime_id: known.runtime_id.clone(),
        image_digest: match &known.image {
            Image::Pulled { digest, .. } => Some(digest.clone()),
            Image::Wanted | Image::Pulling | Image::Failed => None,
        },
        state: match &known.run {
            Run::Waiting | Run::Starting => ContainerState::Waiting,
            Run::Running => match known.since_ms {
                Some(since_ms) => ContainerState::Running { since_ms },
                None => ContainerState::Waiting,
            },
            Run::Exited { code, reason, at_ms, .. } => {
                ContainerState::Exited { code: *code, reason: reason.clone(), at_ms: *at_ms }
            }
        },
        health: known.health.health,
        bindings: known.bindings.clone(),
        restart_count: known.restart_count,
    }
}
