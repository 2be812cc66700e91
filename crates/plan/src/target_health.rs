//! How a service's task is: from its status, its containers' health and its targets' health.

use state::elb::{Target, TargetGroup};
use state::group::{Health, TaskStatus};
use state::{ContainerGroup, Snapshot, TimeMs};

use crate::deployment::Fitness;

/// A task with no check at all counts as healthy only when it has run this long: most broken programs end at once,
/// and nothing else would tell before the old tasks are gone.
pub const SETTLE_MS: i64 = 2_000;

/// What is known of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How it is.
    pub fitness: Fitness,
    /// When that may change with time alone.
    pub again_at_ms: Option<TimeMs>,
    /// Why it is unhealthy.
    pub why: Option<Ill>,
}

/// Why a task is unhealthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ill {
    /// The service's event, without `(service name)`.
    pub event: String,
    /// The task's `stoppedReason`.
    pub stopped_reason: String,
}

impl Verdict {
    fn of(fitness: Fitness) -> Verdict {
        Verdict { fitness, again_at_ms: None, why: None }
    }
}

/// Judges a live task. Within the grace period after its start an unhealthy one counts as starting.
pub fn judge(snapshot: &Snapshot, group: &ContainerGroup, grace_s: u32, now_ms: TimeMs) -> Verdict {
    if group.status() != TaskStatus::Running {
        return Verdict::of(Fitness::Starting);
    }
    let Some(spec) = snapshot.specs.get(&group.spec) else { return Verdict::of(Fitness::Starting) };
    let checked = spec.spec.containers.iter().any(|c| c.essential && c.health_check.is_some());
    let container = match group.health(&spec.spec) {
        Health::Unhealthy => Err(Ill {
            event: format!("(task {}) failed container health checks.", group.id),
            stopped_reason: "Task failed container health checks".into(),
        }),
        Health::Unknown if checked => Ok(Fitness::Starting),
        Health::Unknown | Health::Healthy => Ok(Fitness::Healthy),
    };
    let targets = targets(snapshot, group);
    match container.and_then(|container| Ok(container.min(targets?))) {
        Err(ill) => {
            let started = group.started_at_ms().unwrap_or(group.created_at_ms);
            let grace_ends = started + i64::from(grace_s) * 1000;
            if now_ms < grace_ends {
                return Verdict { again_at_ms: Some(grace_ends), ..Verdict::of(Fitness::Starting) };
            }
            Verdict { why: Some(ill), ..Verdict::of(Fitness::Unhealthy) }
        }
        Ok(Fitness::Healthy) if !checked && group.task().load_balancers.is_empty() => {
            let settled = group.traffic.activated_at_ms.unwrap_or(now_ms) + SETTLE_MS;
            if now_ms < settled {
                return Verdict { again_at_ms: Some(settled), ..Verdict::of(Fitness::Starting) };
            }
            Verdict::of(Fitness::Healthy)
        }
        Ok(fitness) => Verdict::of(fitness),
    }
}

/// The worst of a task's targets. One that was deregistered by hand makes the task unhealthy, as in ECS.
fn targets(snapshot: &Snapshot, group: &ContainerGroup) -> Result<Fitness, Ill> {
    let key = ContainerGroup::key_of(&group.scope, &group.cluster, &group.id);
    let mut worst = Fitness::Healthy;
    for balancer in &group.task().load_balancers {
        let arn = &balancer.target_group_arn;
        let mut targets = snapshot.targets.by_index("owner", &key).filter(|t| t.target_group_arn == *arn);
        let fitness = match targets.next() {
            // Nobody can tell: what the task serves otherwise is not ended for it.
            None if snapshot.target_groups.get(arn).is_none() => Fitness::Healthy,
            None => return Err(ill(snapshot, group, balancer.container_port, arn, None)),
            Some(t) if t.draining_since_ms.is_some() => return Err(ill(snapshot, group, t.port, arn, None)),
            Some(t) => match t.health.state.as_str() {
                "unhealthy" => return Err(ill(snapshot, group, t.port, arn, Some(t))),
                "initial" => Fitness::Starting,
                // `unused` and `unavailable`: nothing checks it, so nothing speaks against it.
                _ => Fitness::Healthy,
            },
        };
        worst = worst.min(fitness);
    }
    Ok(worst)
}

fn ill(snapshot: &Snapshot, group: &ContainerGroup, port: u16, arn: &str, target: Option<&Target>) -> Ill {
    let is_instance = |group: &TargetGroup| group.target_type == "instance";
    let instance = match (snapshot.target_groups.get(arn), group.node()) {
        (Some(target_group), Some(node)) if is_instance(target_group) => {
            format!("(instance {}) ", state::node::instance_id(node))
        }
        _ => String::new(),
    };
    let reason = match target {
        Some(target) => target.health.description.as_deref().unwrap_or("Health checks failed"),
        None => "Target deregistration is in progress",
    };
    Ill {
        event: format!(
            "{instance}(port {port}) is unhealthy in (target-group {arn}) due to (reason {reason})."
        ),
        stopped_reason: format!("Task failed ELB health checks in (target-group {arn})"),
    }
}
