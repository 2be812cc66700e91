//! One task of a service: what it is made from.

use std::sync::Arc;

use state::ecs::{Deployment, Service, StrategyItem, TaskDefinition};
use state::group::{ServiceOwner, TaskSource};
use state::{Arn, ContainerGroup, Ids, Scope, Tag, Tags, TimeMs, Tx};

use crate::placement::{Reason, Unplaced};
use crate::{Launch, images, launch as launch_group};

/// The Fargate platform version that `LATEST` is.
pub const PLATFORM_LATEST: &str = "1.4.0";

/// Launches a task of a deployment; its id.
pub fn launch(
    tx: &mut Tx,
    ids: &mut Ids,
    now_ms: TimeMs,
    service_key: &str,
    service: &Service,
    deployment: &Deployment,
) -> Result<String, Unplaced> {
    let template = &deployment.template;
    let arn = &template.task_definition_arn;
    let definition = definition_key(&service.scope, arn).and_then(|key| tx.get::<TaskDefinition>(&key));
    // Deleting a task definition that a service uses waits until it is not; so this is a record lost.
    let definition =
        definition.ok_or_else(|| Unplaced { reason: Reason::NoDefinition(arn.clone()), node: None })?;
    let (spec_id, spec) = images::given(tx, service_key, deployment, &definition);
    let capacity_provider = provider(tx, deployment);
    let fargate = template.is_fargate();
    let source = TaskSource {
        task_definition_arn: arn.clone(),
        launch_type: if capacity_provider.is_some() { String::new() } else { template.launch_type.clone() },
        capacity_provider,
        group: format!("service:{}", service.name),
        started_by: Some(deployment.id.clone()),
        service: Some(ServiceOwner {
            key: service_key.to_owned(),
            name: service.name.clone(),
            deployment_id: deployment.id.clone(),
        }),
        overrides: None,
        platform_version: fargate.then(|| platform(template.platform_version.as_deref())),
        enable_execute_command: service.enable_execute_command,
        security_groups: template.security_groups.clone(),
        client_token: None,
        tags: tags(service, &definition),
        load_balancers: template.load_balancers.clone(),
        registries: template.registries.clone(),
    };
    let key = launch_group(
        tx,
        ids,
        now_ms,
        Launch {
            scope: &service.scope,
            cluster: &service.cluster,
            source: Arc::new(source),
            spec_id,
            spec,
            subnets: &template.subnets,
            constraints: &template.placement_constraints,
            strategy: &template.placement_strategy,
            node: None,
        },
    )?;
    Ok(key.rsplit('/').next().unwrap_or(&key).to_owned())
}

/// The record key of a task definition's ARN; `None` if it is not one.
pub fn definition_key(scope: &Scope, arn: &str) -> Option<String> {
    let name = Arn::parse(arn)?.resource.strip_prefix("task-definition/")?;
    let (family, revision) = name.rsplit_once(':')?;
    Some(TaskDefinition::key_of(scope, family, revision.parse().ok()?))
}

fn platform(asked: Option<&str>) -> String {
    match asked {
        None | Some("LATEST") => PLATFORM_LATEST.to_owned(),
        Some(version) => version.to_owned(),
    }
}

/// The capacity provider of the next task: first the base, then whoever is furthest behind its weight.
fn provider(tx: &Tx, deployment: &Deployment) -> Option<String> {
    let strategy = &deployment.template.strategy;
    let count = |item: &StrategyItem| {
        let groups = tx.table::<ContainerGroup>().by_index("deployment", &deployment.id);
        let of = |g: &&std::sync::Arc<ContainerGroup>| {
            !g.is_stopping() && g.task().capacity_provider.as_ref() == Some(&item.provider)
        };
        groups.filter(of).count() as u32
    };
    let counted: Vec<(u32, &StrategyItem)> = strategy.iter().map(|item| (count(item), item)).collect();
    let base = counted.iter().find(|(have, item)| *have < item.base);
    let behind = || {
        let weighted = counted.iter().filter(|(_, item)| item.weight > 0);
        // have/weight compared without division.
        weighted.min_by(|(a, x), (b, y)| {
            let (a, b) = (a.saturating_sub(x.base), b.saturating_sub(y.base));
            (u64::from(a) * u64::from(y.weight)).cmp(&(u64::from(b) * u64::from(x.weight)))
        })
    };
    base.or_else(behind).or(counted.first()).map(|(_, item)| item.provider.clone())
}

/// A service task's tags: the propagated ones, and ECS's own if they are enabled.
fn tags(service: &Service, definition: &TaskDefinition) -> Tags {
    let mut all = match service.propagate_tags.as_str() {
        "SERVICE" => service.tags.clone(),
        "TASK_DEFINITION" => definition.tags.clone(),
        _ => Tags::new(),
    };
    if service.enable_ecs_managed_tags {
        let own = |key: &str, value: &str| Tag { key: key.to_owned(), value: value.to_owned() };
        all.push(own("aws:ecs:clusterName", &service.cluster));
        all.push(own("aws:ecs:serviceName", &service.name));
    }
    all
}
