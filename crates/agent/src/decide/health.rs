//! Container health checks ("HealthCheck", ECS API reference): when one is due, and what its result makes of a
//! container.

use serde::{Deserialize, Serialize};
use state::TimeMs;
use state::group::{ContainerSpec, Health};

use super::known::{Known, Run};
use super::{Plan, Step};

/// How a container's health checks stand.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// The health.
    pub health: Health,
    /// Failures in a row that count.
    pub failures: u32,
    /// A check is under way.
    pub in_flight: bool,
    /// When the last one ended.
    pub ended_at_ms: Option<TimeMs>,
    /// The last one's result, until it is judged.
    pub unjudged: Option<bool>,
}

impl Progress {
    pub(super) fn checked(&mut self, passed: bool, now_ms: TimeMs) {
        self.in_flight = false;
        self.ended_at_ms = Some(now_ms);
        self.unjudged = Some(passed);
    }
}

/// Judges the results that came in: before anything is started, for what waits for HEALTHY starts with the same decision.
pub fn judge(specs: &[ContainerSpec], known: &mut Known) {
    for (index, container) in known.containers.iter_mut().enumerate() {
        let (Some(check), Run::Running, Some(since)) =
            (&specs[index].health_check, &container.run, container.since_ms)
        else {
            continue;
        };
        let progress = &mut container.health;
        let (Some(passed), Some(ended)) = (progress.unjudged.take(), progress.ended_at_ms) else { continue };
        let in_start_period = ended < since + i64::from(check.start_period_s) * 1000;
        match passed {
            true => (progress.health, progress.failures) = (Health::Healthy, 0),
            // Once it was healthy, the start period is over.
            false if in_start_period && progress.health == Health::Unknown => {}
            false => progress.failures += 1,
        }
        if progress.failures >= check.retries.max(1) {
            progress.health = Health::Unhealthy;
        }
    }
}

/// Begins the checks that are due.
pub fn begin_due(specs: &[ContainerSpec], known: &mut Known, now_ms: TimeMs, plan: &mut Plan) {
    for (index, container) in known.containers.iter_mut().enumerate() {
        let (Some(check), Run::Running, Some(since)) =
            (&specs[index].health_check, &container.run, container.since_ms)
        else {
            continue;
        };
        let progress = &mut container.health;
        if progress.in_flight {
            continue;
        }
        let due = progress.ended_at_ms.unwrap_or(since).max(since) + i64::from(check.interval_s) * 1000;
        if now_ms >= due {
            progress.in_flight = true;
            plan.steps.push(Step::Check { container: index, run: container.runs });
        } else {
            plan.wake(due);
        }
    }
}
