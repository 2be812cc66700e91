//! A service and its deployments as the API shows them: views of the records and of the tasks.

use state::ecs::{Deployment, Rollout, Service, ServiceTemplate};
use state::group::TaskStatus;
use state::{ContainerGroup, Record, Tx};
use wire::shapes::ecs as w;

use super::{capacity, launch_kind, tags};

/// Tasks of a service or a deployment that run, and that are on the way there.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// `runningCount`.
    pub running: i64,
    /// `pendingCount`.
    pub pending: i64,
}

/// Counts the tasks that an index names: `service` or `deployment`.
pub fn counts(tx: &Tx, index: &'static str, value: &str) -> Counts {
    let mut counts = Counts::default();
    for group in tx.table::<ContainerGroup>().by_index(index, value) {
        match group.status() {
            TaskStatus::Running => counts.running += 1,
            TaskStatus::Provisioning | TaskStatus::Pending | TaskStatus::Activating
                if !group.is_stopping() =>
            {
                counts.pending += 1;
            }
            _ => {}
        }
    }
    counts
}

/// Views a service; `with_tags` as `include: [TAGS]` asks.
pub fn view(tx: &Tx, service: &Service, with_tags: bool) -> w::Service {
    let template = &service.template;
    let counts = counts(tx, "service", &service.key());
    let fargate = template.is_fargate();
    w::Service {
        service_arn: Some(service.arn()),
        service_name: Some(service.name.clone()),
        cluster_arn: Some(cluster_arn(service)),
        load_balancers: Some(load_balancers(template)),
        service_registries: Some(registries(template)),
        status: Some(service.status.as_str().into()),
        desired_count: Some(i64::from(service.desired_count)),
        running_count: Some(counts.running),
        pending_count: Some(counts.pending),
        launch_type: launch_type(template),
        capacity_provider_strategy: strategy(template),
        platform_version: template.platform_version.clone(),
        platform_family: fargate.then(|| "Linux".into()),
        task_definition: Some(template.task_definition_arn.clone()),
        deployment_configuration: Some(deployment_configuration(service)),
        task_sets: None,
        deployments: Some(service.deployments.iter().map(|d| deployment(tx, d)).collect()),
        role_arn: service.role_arn.clone(),
        events: Some(service.events.iter().map(event).collect()),
        created_at: Some(service.created_at_ms),
        current_service_deployment: service.primary().map(|d| deployment_arn(service, d)),
        current_service_revisions: Some(
            service.deployments.iter().map(|d| current_revision(tx, service, d)).collect(),
        ),
        placement_constraints: Some(launch_kind::constraints_view(&template.placement_constraints)),
        placement_strategy: Some(launch_kind::strategies_view(&template.placement_strategy)),
        network_configuration: network(template),
        health_check_grace_period_seconds: service.health_check_grace_period_s.map(i64::from),
        scheduling_strategy: Some(service.scheduling_strategy.clone()),
        deployment_controller: Some(w::DeploymentController { r#type: Some("ECS".into()) }),
        tags: with_tags.then(|| tags::view(&service.tags)),
        created_by: Some(service.created_by.clone()),
        enable_ecs_managed_tags: Some(service.enable_ecs_managed_tags),
        propagate_tags: Some(service.propagate_tags.clone()),
        enable_execute_command: Some(service.enable_execute_command),
        availability_zone_rebalancing: Some(service.availability_zone_rebalancing.clone()),
        resource_management_type: None,
    }
}

fn launch_type(template: &ServiceTemplate) -> Option<String> {
    Some(template.launch_type.clone()).filter(|kind| !kind.is_empty())
}

fn strategy(template: &ServiceTemplate) -> Option<Vec<w::CapacityProviderStrategyItem>> {
    Some(capacity::view(&template.strategy)).filter(|items| !items.is_empty())
}

fn cluster_arn(service: &Service) -> String {
    service.scope.arn("ecs", &format!("cluster/{}", service.cluster))
}

/// `arn:aws:ecs:…:service-deployment/cluster/service/id`.
pub fn deployment_arn(service: &Service, deployment: &Deployment) -> String {
    let id = deployment.id.trim_start_matches("ecs-svc/");
    service.scope.arn("ecs", &format!("service-deployment/{}/{}/{id}", service.cluster, service.name))
}

/// `arn:aws:ecs:…:service-revision/cluster/service/id`.
pub fn revision_arn(service: &Service, id: &str) -> String {
    service.scope.arn("ecs", &format!("service-revision/{}/{}/{id}", service.cluster, service.name))
}

fn current_revision(tx: &Tx, service: &Service, deployment: &Deployment) -> w::ServiceCurrentRevisionSummary {
    let counts = counts(tx, "deployment", &deployment.id);
    w::ServiceCurrentRevisionSummary {
        arn: Some(revision_arn(service, &deployment.revision_id)),
        requested_task_count: Some(i64::from(deployment.desired_count)),
        running_task_count: Some(counts.running),
        pending_task_count: Some(counts.pending),
    }
}

/// The target groups of a template.
pub fn load_balancers(template: &ServiceTemplate) -> Vec<w::LoadBalancer> {
    let one = |balancer: &state::ecs::ServiceLoadBalancer| w::LoadBalancer {
        target_group_arn: Some(balancer.target_group_arn.clone()),
        container_name: Some(balancer.container_name.clone()),
        container_port: Some(i64::from(balancer.container_port)),
        ..Default::default()
    };
    template.load_balancers.iter().map(one).collect()
}

/// The Cloud Map services of a template.
pub fn registries(template: &ServiceTemplate) -> Vec<w::ServiceRegistry> {
    let one = |registry: &state::ecs::ServiceRegistry| w::ServiceRegistry {
        registry_arn: Some(registry.registry_arn.clone()),
        port: registry.port.map(i64::from),
        container_name: registry.container_name.clone(),
        container_port: registry.container_port.map(i64::from),
    };
    template.registries.iter().map(one).collect()
}

/// The network configuration of an `awsvpc` template.
pub fn network_configuration(template: &ServiceTemplate) -> w::NetworkConfiguration {
    w::NetworkConfiguration {
        awsvpc_configuration: Some(w::AwsVpcConfiguration {
            subnets: Some(template.subnets.clone()),
            security_groups: Some(template.security_groups.clone()),
            assign_public_ip: template.assign_public_ip.clone(),
        }),
    }
}

/// The network configuration, if there is one.
pub fn network(template: &ServiceTemplate) -> Option<w::NetworkConfiguration> {
    (!template.subnets.is_empty()).then(|| network_configuration(template))
}

/// How deployments of a service proceed.
pub fn deployment_configuration(service: &Service) -> w::DeploymentConfiguration {
    let config = &service.deployment;
    w::DeploymentConfiguration {
        deployment_circuit_breaker: Some(w::DeploymentCircuitBreaker {
            enable: Some(config.breaker_enabled),
            rollback: Some(config.breaker_rollback),
        }),
        maximum_percent: Some(i64::from(config.maximum_percent)),
        minimum_healthy_percent: Some(i64::from(config.minimum_healthy_percent)),
        strategy: Some("ROLLING".into()),
        ..Default::default()
    }
}

fn deployment(tx: &Tx, deployment: &Deployment) -> w::Deployment {
    let template = &deployment.template;
    let counts = counts(tx, "deployment", &deployment.id);
    let fargate = template.is_fargate();
    let platform = template.platform_version.as_deref().map(|version| match version {
        "LATEST" => plan::service_task::PLATFORM_LATEST.to_owned(),
        other => other.to_owned(),
    });
    w::Deployment {
        id: Some(deployment.id.clone()),
        status: Some(if deployment.primary { "PRIMARY" } else { "ACTIVE" }.into()),
        task_definition: Some(template.task_definition_arn.clone()),
        desired_count: Some(i64::from(deployment.desired_count)),
        pending_count: Some(counts.pending),
        running_count: Some(counts.running),
        failed_tasks: Some(i64::from(deployment.failed_tasks)),
        created_at: Some(deployment.created_at_ms),
        updated_at: Some(deployment.updated_at_ms),
        capacity_provider_strategy: strategy(template),
        launch_type: launch_type(template),
        platform_version: platform,
        platform_family: fargate.then(|| "Linux".into()),
        network_configuration: network(template),
        rollout_state: Some(deployment.rollout.as_str().into()),
        rollout_state_reason: Some(deployment.rollout_reason.clone()),
        ..Default::default()
    }
}

fn event(event: &state::ecs::ServiceEvent) -> w::ServiceEvent {
    w::ServiceEvent {
        id: Some(event.id.clone()),
        created_at: Some(event.at_ms),
        message: Some(event.message.clone()),
    }
}

/// A deployment's status in the newer API of service deployments; `past` if the service is done with it.
pub fn deployment_status(service: &Service, deployment: &Deployment, past: bool) -> &'static str {
    let rolls_back = service.deployment.breaker_rollback;
    match (deployment.rollout, deployment.primary) {
        (Rollout::Completed, _) => "SUCCESSFUL",
        (Rollout::InProgress, true) if !past => "IN_PROGRESS",
        // Replaced by a newer one before it was done, or its service was deleted.
        (Rollout::InProgress, _) => "STOPPED",
        // The breaker ended it: without rollback it stays primary, with rollback an older one is again.
        (Rollout::Failed, false) if rolls_back && past => "ROLLBACK_SUCCESSFUL",
        (Rollout::Failed, false) if rolls_back => "ROLLBACK_IN_PROGRESS",
        (Rollout::Failed, _) => "STOPPED",
    }
}
