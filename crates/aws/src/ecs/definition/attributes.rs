//! `requiresAttributes`: what ECS says an instance's agent must be able to do for a task definition.

use std::collections::BTreeSet;

use state::group::NetworkMode;
use wire::shapes::ecs as w;

/// The attributes of a document with its defaults filled in.
pub fn required(document: &w::TaskDefinition, mode: NetworkMode) -> Vec<w::Attribute> {
    let mut names = BTreeSet::new();
    let mut add = |name: &str| {
        names.insert(name.to_owned());
    };
    if mode == NetworkMode::Awsvpc {
        add("ecs.capability.task-eni");
        add("com.amazonaws.ecs.capability.docker-remote-api.1.18");
    }
    if document.task_role_arn.is_some() {
        add("com.amazonaws.ecs.capability.task-iam-role");
    }
    if document.pid_mode.is_some() || document.ipc_mode.is_some() {
        add("ecs.capability.pid-ipc-namespace-sharing");
    }
    for container in document.container_definitions.iter().flatten() {
        if container.health_check.is_some() {
            add("ecs.capability.container-health-check");
            add("com.amazonaws.ecs.capability.docker-remote-api.1.24");
        }
        if container.depends_on.is_some()
            || container.start_timeout.is_some()
            || container.stop_timeout.is_some()
        {
            add("ecs.capability.container-ordering");
        }
        if container.restart_policy.is_some() {
            add("ecs.capability.container-restart-policy");
        }
        if container.privileged == Some(true) {
            add("com.amazonaws.ecs.capability.privileged-container");
        }
        if container.memory_reservation.is_some() {
            add("com.amazonaws.ecs.capability.docker-remote-api.1.21");
        }
        if container.image.as_deref().is_some_and(|image| image.contains(".dkr.ecr.")) {
            add("com.amazonaws.ecs.capability.ecr-auth");
            add("com.amazonaws.ecs.capability.docker-remote-api.1.19");
            if document.execution_role_arn.is_some() {
                add("ecs.capability.execution-role-ecr-pull");
            }
        }
        if let Some(driver) = container.log_configuration.as_ref().and_then(|log| log.log_driver.as_ref()) {
            add(&format!("com.amazonaws.ecs.capability.logging-driver.{driver}"));
            add("com.amazonaws.ecs.capability.docker-remote-api.1.19");
            if driver == "awslogs" && document.execution_role_arn.is_some() {
                add("ecs.capability.execution-role-awslogs");
            }
        }
    }
    names.into_iter().map(|name| w::Attribute { name: Some(name), ..Default::default() }).collect()
}
