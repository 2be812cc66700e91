//! ECS statuses of a task, computed from what is wanted, where it is and what was seen.

use super::{ContainerGroup, ContainerState, Desired, Health, Phase, Placement, StopCause};
use crate::TimeMs;

/// ECS `lastStatus` of a task ("Task lifecycle", ECS developer guide).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaskStatus {
    /// Network and placement are being made.
    Provisioning,
    /// Images are being pulled, containers created.
    Pending,
    /// Containers run; targets are being registered.
    Activating,
    /// Everything runs.
    Running,
    /// Targets are being deregistered and drained.
    Deactivating,
    /// Containers are being stopped.
    Stopping,
    /// The network is being removed.
    Deprovisioning,
    /// Nothing is left.
    Stopped,
}

impl TaskStatus {
    /// The text shown by the API.
    pub fn as_str(self) -> &'static str {
        match self {
            TaskStatus::Provisioning => "PROVISIONING",
            TaskStatus::Pending => "PENDING",
            TaskStatus::Activating => "ACTIVATING",
            TaskStatus::Running => "RUNNING",
            TaskStatus::Deactivating => "DEACTIVATING",
            TaskStatus::Stopping => "STOPPING",
            TaskStatus::Deprovisioning => "DEPROVISIONING",
            TaskStatus::Stopped => "STOPPED",
        }
    }
}

impl ContainerGroup {
    /// The task's `lastStatus`.
    pub fn status(&self) -> TaskStatus {
        match self.observed.phase {
            Phase::Gone => return TaskStatus::Stopped,
            Phase::Deprovisioning => return TaskStatus::Deprovisioning,
            Phase::Stopping => return TaskStatus::Stopping,
            Phase::Unseen | Phase::Provisioning | Phase::Pending | Phase::Running => {}
        }
        if matches!(self.desired, Desired::Stop(_)) && self.observed.phase == Phase::Running {
            return match self.traffic.deactivated_at_ms {
                None => TaskStatus::Deactivating,
                Some(_) => TaskStatus::Stopping,
            };
        }
        match (self.observed.phase, &self.placement) {
            (_, Placement::Unplaced { .. }) | (Phase::Unseen | Phase::Provisioning, _) => {
                TaskStatus::Provisioning
            }
            (Phase::Pending, _) => TaskStatus::Pending,
            _ if self.traffic.activated_at_ms.is_none() => TaskStatus::Activating,
            _ => TaskStatus::Running,
        }
    }

    /// Whether the task's `desiredStatus` is STOPPED rather than RUNNING.
    pub fn is_stopping(&self) -> bool {
        matches!(self.desired, Desired::Stop(_)) || self.observed.stop.is_some() || self.is_stopped()
    }

    /// The task's `desiredStatus`.
    pub fn desired_status(&self) -> &'static str {
        if self.is_stopping() { "STOPPED" } else { "RUNNING" }
    }

    /// When the task was started, as ECS counts it: its containers run and its targets are registered. One that ends
    /// before that was started when its containers were.
    pub fn started_at_ms(&self) -> Option<TimeMs> {
        let started = self.observed.started_at_ms?;
        match self.traffic.activated_at_ms {
            Some(activated) => Some(activated.max(started)),
            None => self.is_stopping().then_some(started),
        }
    }

    /// Why it stops or stopped: the earlier of what was wanted and what happened.
    pub fn stop_cause(&self) -> Option<&StopCause> {
        let wanted = match &self.desired {
            Desired::Stop(cause) => Some(cause),
            Desired::Run => None,
        };
        match (wanted, &self.observed.stop) {
            (Some(wanted), Some(seen)) if seen.at_ms < wanted.at_ms => Some(seen),
            (Some(wanted), _) => Some(wanted),
            (None, seen) => seen.as_ref(),
        }
    }

    /// The task's `healthStatus`: of its essential containers that have a check ("healthCheck", ECS API reference).
    pub fn health(&self, spec: &super::GroupSpec) -> Health {
        let mut worst = None;
        for container in spec.containers.iter().filter(|c| c.essential && c.health_check.is_some()) {
            let seen = self.observed.containers.iter().find(|o| o.name == container.name);
            let health = seen.map_or(Health::Unknown, |o| o.health);
            worst = Some(match (worst, health) {
                (Some(Health::Unhealthy), _) | (_, Health::Unhealthy) => Health::Unhealthy,
                (Some(Health::Unknown), _) | (_, Health::Unknown) => Health::Unknown,
                _ => Health::Healthy,
            });
        }
        worst.unwrap_or(Health::Unknown)
    }

    /// Whether all containers have exited or were never started.
    pub fn containers_over(&self) -> bool {
        self.observed.containers.iter().all(|c| matches!(c.state, ContainerState::Exited { .. }))
    }
}
