//! Failing tasks: the circuit breaker that ends a deployment and rolls back, and the throttle that slows restarts
//! ("How the Amazon ECS deployment circuit breaker detects failures", "Amazon ECS service throttle logic").
//!
//! Unlike ECS, a task that ran and then ended counts as failed as long as its deployment is under way: a program that
//! crashes a second after its start is the failure that users expect the breaker to see (containers-roadmap #1206).

use state::ecs::{Deployment, Rollout, Service};
use state::{Ids, TimeMs};

use crate::events;

/// The first wait after failures, and the longest.
const BACKOFF_MIN_MS: i64 = 1_000;
const BACKOFF_MAX_MS: i64 = 5 * 60 * 1000;
/// After so many rounds of failures the service says that it cannot start tasks.
const ROUNDS_TO_TELL: u32 = 3;

/// So many failed tasks end a deployment: half of the desired count rounded up, at least 3, at most 200.
pub fn threshold(desired_count: u32) -> u32 {
    desired_count.div_ceil(2).clamp(3, 200)
}

/// How long no task is started after this many failures. The desired number of tasks failing together is one round;
/// after the first nothing waits, so that a killed container is replaced at once.
pub fn backoff_ms(failed_tasks: u32, desired_count: u32) -> i64 {
    let rounds = failed_tasks.div_ceil(desired_count.max(1));
    match rounds {
        0 | 1 => 0,
        n => (BACKOFF_MIN_MS << (n - 2).min(20)).min(BACKOFF_MAX_MS),
    }
}

/// Counts failed tasks of a deployment and sets its backoff.
pub fn count_failures(
    service: &mut Service,
    ids: &mut Ids,
    now_ms: TimeMs,
    deployment_id: &str,
    failures: u32,
) {
    let desired = service.desired_count;
    let Some(deployment) = service.deployments.iter_mut().find(|d| d.id == deployment_id) else { return };
    let rounds = |failed: u32| failed / desired.max(1);
    let before = rounds(deployment.failed_tasks);
    deployment.failed_tasks += failures;
    deployment.backoff_until_ms = now_ms + backoff_ms(deployment.failed_tasks, desired);
    deployment.updated_at_ms = now_ms;
    if before < ROUNDS_TO_TELL && rounds(deployment.failed_tasks) >= ROUNDS_TO_TELL {
        let text = "is unable to consistently start tasks successfully. \
                    For more information, see the Troubleshooting section.";
        events::add(service, ids, now_ms, text);
    }
}

/// Ends the primary deployment if too many of its tasks failed, and makes the last one that ran in full primary again if
/// rollback is wished and there is one.
pub fn trip(service: &mut Service, ids: &mut Ids, now_ms: TimeMs) {
    let limit = threshold(service.desired_count);
    if !service.deployment.breaker_enabled {
        return;
    }
    let tripped =
        |d: &&mut Deployment| d.primary && d.rollout == Rollout::InProgress && d.failed_tasks >= limit;
    let Some(failed) = service.deployments.iter_mut().find(tripped) else { return };
    failed.rollout = Rollout::Failed;
    failed.rollout_reason = "ECS deployment circuit breaker: tasks failed to start.".into();
    failed.updated_at_ms = now_ms;
    let id = failed.id.clone();
    events::add(
        service,
        ids,
        now_ms,
        &format!("(deployment {id}) deployment failed: tasks failed to start."),
    );
    if service.deployment.breaker_rollback {
        roll_back(service, ids, now_ms);
    }
}

fn roll_back(service: &mut Service, ids: &mut Ids, now_ms: TimeMs) {
    let generation = service.generation;
    let is_target = |d: &Deployment| !d.primary && d.was_whole;
    let Some(at) = service.deployments.iter().position(is_target) else { return };
    for deployment in service.deployments.iter_mut().filter(|d| d.primary) {
        deployment.primary = false;
        deployment.updated_at_ms = now_ms;
    }
    let mut target = service.deployments.remove(at);
    target.primary = true;
    target.generation = generation;
    target.rollout = Rollout::InProgress;
    target.rollout_reason =
        format!("ECS deployment circuit breaker: rolling back to deploymentId {}.", target.id);
    target.failed_tasks = 0;
    target.backoff_until_ms = now_ms;
    target.desired_count = service.desired_count;
    target.updated_at_ms = now_ms;
    // What the service rolls out is what it went back to: a later update starts from here.
    service.template = target.template.clone();
    let text = format!("rolling back to deployment {}.", target.id);
    service.deployments.insert(0, target);
    events::add(service, ids, now_ms, &text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_is_that_of_the_guide() {
        let of = |desired| threshold(desired);
        assert_eq!([of(0), of(1), of(6), of(7), of(25), of(400), of(800)], [3, 3, 3, 4, 13, 200, 200]);
    }

    #[test]
    fn waits_double_with_each_round_of_failures() {
        let of = |failed| backoff_ms(failed, 2);
        assert_eq!([of(0), of(1), of(2), of(3), of(4), of(5), of(7)], [0, 0, 0, 1_000, 1_000, 2_000, 4_000]);
        assert_eq!(backoff_ms(u32::MAX, 0), BACKOFF_MAX_MS);
    }
}
