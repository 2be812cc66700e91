//! DescribeServices, ListServices, and the service deployments and revisions behind them.

use std::sync::Arc;

use state::ecs::{Deployment, Rollout, Service, ServiceRevision, ServiceStatus, TaskDefinition};
use state::{Arn, Record, Scope};
use wire::Fault;
use wire::shapes::ecs as w;

use super::faults::{invalid, refuse};
use super::service_view::{self, counts};
use super::{capacity, refs};
use crate::Call;

/// DescribeServices.
pub fn describe(
    call: &mut Call<'_>,
    request: w::DescribeServicesRequest,
) -> Result<w::DescribeServicesResponse, Fault> {
    let w::DescribeServicesRequest { cluster, services, include } = request;
    let scope = call.scope().clone();
    let cluster = refs::cluster(call.tx, &scope, cluster.as_deref())?;
    let asked = services.unwrap_or_default();
    if asked.is_empty() {
        return Err(invalid("Services cannot be empty."));
    }
    if asked.len() > 10 {
        return Err(invalid("Services can have at most 10 items."));
    }
    let with_tags = include.iter().flatten().any(|i| i == "TAGS");
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for given in asked {
        let name = refs::service_name(&scope, &given)?;
        // An ARN that names another cluster is not of this one.
        let path = format!("service/{}/{name}", cluster.name);
        let here = !given.starts_with("arn:") || given == scope.arn("ecs", &path);
        let key = Service::key_of(&scope, &cluster.name, &name);
        match call.tx.get::<Service>(&key).filter(|_| here) {
            Some(service) => found.push(service_view::view(call.tx, &service, with_tags)),
            None => {
                let arn = if given.starts_with("arn:") { given } else { scope.arn("ecs", &path) };
                failures.push(missing(arn));
            }
        }
    }
    Ok(w::DescribeServicesResponse { services: Some(found), failures: Some(failures) })
}

fn missing(arn: String) -> w::Failure {
    w::Failure { arn: Some(arn), reason: Some("MISSING".into()), detail: None }
}

/// ListServices.
pub fn list(call: &mut Call<'_>, request: w::ListServicesRequest) -> Result<w::ListServicesResponse, Fault> {
    let w::ListServicesRequest {
        cluster,
        next_token,
        max_results,
        launch_type,
        scheduling_strategy,
        resource_management_type,
    } = request;
    refuse("resourceManagementType", &resource_management_type)?;
    let scope = call.scope().clone();
    let cluster = refs::active_cluster(call.tx, &scope, cluster.as_deref())?;
    let limit = refs::limit(max_results, 10, 100)?;
    let prefix = scope.key(&format!("{}/", cluster.name));
    let takes = |service: &Service| {
        let fargate = service.template.is_fargate();
        let kind = if fargate { "FARGATE" } else { "EC2" };
        service.status != ServiceStatus::Inactive
            && launch_type.as_ref().is_none_or(|wanted| wanted == kind)
            && scheduling_strategy.as_ref().is_none_or(|wanted| *wanted == service.scheduling_strategy)
    };
    let services = call.tx.table::<Service>().scan(&prefix).filter(|(_, service)| takes(service));
    let (page, next_token) =
        refs::page(next_token.as_deref(), limit)?.take(services, |(key, _)| (*key).to_owned());
    let service_arns = Some(page.into_iter().map(|(_, service)| service.arn()).collect());
    Ok(w::ListServicesResponse { service_arns, next_token })
}

/// ListServiceDeployments: those that the service has and those it had, the newest first.
pub fn list_deployments(
    call: &mut Call<'_>,
    request: w::ListServiceDeploymentsRequest,
) -> Result<w::ListServiceDeploymentsResponse, Fault> {
    let w::ListServiceDeploymentsRequest { service, cluster, status, created_at, next_token, max_results } =
        request;
    let scope = call.scope().clone();
    let cluster = refs::cluster(call.tx, &scope, cluster.as_deref())?;
    let service = refs::service(call.tx, &scope, &cluster.name, &service.unwrap_or_default())?;
    let limit = refs::limit(max_results, 20, 100)?;
    let status = status.unwrap_or_default();
    let window = created_at.unwrap_or_default();
    let takes = |d: &Told| {
        (status.is_empty() || status.iter().any(|s| s == d.status))
            && window.before.is_none_or(|before| d.deployment.created_at_ms < before)
            && window.after.is_none_or(|after| d.deployment.created_at_ms > after)
    };
    let mut found: Vec<Told> = all_deployments(call, &service).into_iter().filter(takes).collect();
    found.sort_by_key(|told| std::cmp::Reverse((told.deployment.created_at_ms, told.deployment.generation)));
    let page = refs::page(next_token.as_deref(), limit)?;
    let (page, next_token) = page.take(found.iter().enumerate(), |(rank, _)| format!("{rank:010}"));
    let brief = |Told { deployment, status, .. }: &Told| w::ServiceDeploymentBrief {
        service_deployment_arn: Some(service_view::deployment_arn(&service, deployment)),
        service_arn: Some(service.arn()),
        cluster_arn: Some(cluster.arn()),
        started_at: Some(deployment.created_at_ms),
        created_at: Some(deployment.created_at_ms),
        finished_at: finished_at(deployment),
        target_service_revision_arn: Some(service_view::revision_arn(&service, &deployment.revision_id)),
        status: Some((*status).into()),
        status_reason: Some(deployment.rollout_reason.clone()),
    };
    let service_deployments = Some(page.into_iter().map(|(_, told)| brief(told)).collect());
    Ok(w::ListServiceDeploymentsResponse { service_deployments, next_token })
}

/// A deployment that a service has or had.
struct Told {
    deployment: Deployment,
    status: &'static str,
}

fn all_deployments(call: &Call<'_>, service: &Service) -> Vec<Told> {
    let told = |deployment: &Deployment, past| Told {
        deployment: deployment.clone(),
        status: service_view::deployment_status(service, deployment, past),
    };
    let mut all: Vec<Told> = service.deployments.iter().map(|d| told(d, false)).collect();
    let prefix = format!("{}/", service.key());
    let revisions = call.tx.table::<ServiceRevision>().scan(&prefix);
    // A deployment that was rolled back to is had again, though it was let go once.
    let had = revisions.filter_map(|(_, revision)| revision.past.as_ref());
    let had = had.filter(|past| service.deployments.iter().all(|d| d.id != past.id));
    all.extend(had.map(|past| told(past, true)));
    all
}

fn finished_at(deployment: &Deployment) -> Option<i64> {
    (deployment.rollout != Rollout::InProgress).then_some(deployment.updated_at_ms)
}

/// The service and the last part of an ARN like `…:service-deployment/cluster/service/id`.
fn service_of(
    call: &Call<'_>,
    scope: &Scope,
    kind: &str,
    arn: &str,
) -> Result<Option<(Arc<Service>, String)>, Fault> {
    let bad = || invalid(format!("Invalid {kind} ARN: {arn}"));
    let parsed = Arn::parse(arn).filter(|a| a.service == "ecs").ok_or_else(bad)?;
    let parts: Vec<&str> = parsed.resource.split('/').collect();
    let [found, cluster, service, id] = parts[..] else { return Err(bad()) };
    if found != kind {
        return Err(bad());
    }
    let here = parsed.account == scope.account && parsed.region == scope.region;
    let service = call.tx.get::<Service>(&Service::key_of(scope, cluster, service)).filter(|_| here);
    Ok(service.map(|service| (service, id.to_owned())))
}

/// DescribeServiceDeployments.
pub fn describe_deployments(
    call: &mut Call<'_>,
    request: w::DescribeServiceDeploymentsRequest,
) -> Result<w::DescribeServiceDeploymentsResponse, Fault> {
    let w::DescribeServiceDeploymentsRequest { service_deployment_arns } = request;
    let asked = service_deployment_arns.unwrap_or_default();
    if asked.is_empty() || asked.len() > 20 {
        return Err(invalid("serviceDeploymentArns must have between 1 and 20 items."));
    }
    let scope = call.scope().clone();
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for arn in asked {
        let owner = service_of(call, &scope, "service-deployment", &arn)?;
        let view = owner.and_then(|(service, id)| {
            let id = format!("ecs-svc/{id}");
            let told = all_deployments(call, &service).into_iter().find(|told| told.deployment.id == id)?;
            Some(deployment_view(call, &service, &told))
        });
        match view {
            Some(view) => found.push(view),
            None => failures.push(missing(arn)),
        }
    }
    Ok(w::DescribeServiceDeploymentsResponse { service_deployments: Some(found), failures: Some(failures) })
}

fn deployment_view(call: &Call<'_>, service: &Service, told: &Told) -> w::ServiceDeployment {
    let Told { deployment, status } = told;
    let summary = |d: &Deployment| {
        let counts = counts(call.tx, "deployment", &d.id);
        w::ServiceRevisionSummary {
            arn: Some(service_view::revision_arn(service, &d.revision_id)),
            requested_task_count: Some(i64::from(d.desired_count)),
            running_task_count: Some(counts.running),
            pending_task_count: Some(counts.pending),
            ..Default::default()
        }
    };
    let older = service.deployments.iter().filter(|d| d.created_at_ms < deployment.created_at_ms);
    let threshold = plan::breaker::threshold(service.desired_count);
    let breaker = match (service.deployment.breaker_enabled, deployment.rollout) {
        (false, _) => "DISABLED",
        (true, Rollout::Failed) => "TRIGGERED",
        (true, Rollout::Completed) => "MONITORING_COMPLETE",
        (true, Rollout::InProgress) => "MONITORING",
    };
    w::ServiceDeployment {
        service_deployment_arn: Some(service_view::deployment_arn(service, deployment)),
        service_arn: Some(service.arn()),
        cluster_arn: Some(service.scope.arn("ecs", &format!("cluster/{}", service.cluster))),
        created_at: Some(deployment.created_at_ms),
        started_at: Some(deployment.created_at_ms),
        finished_at: finished_at(deployment),
        stopped_at: (*status == "STOPPED").then_some(deployment.updated_at_ms),
        updated_at: Some(deployment.updated_at_ms),
        source_service_revisions: Some(older.map(summary).collect()),
        target_service_revision: Some(summary(deployment)),
        status: Some((*status).into()),
        status_reason: Some(deployment.rollout_reason.clone()),
        deployment_configuration: Some(service_view::deployment_configuration(service)),
        deployment_circuit_breaker: Some(w::ServiceDeploymentCircuitBreaker {
            status: Some(breaker.into()),
            failure_count: Some(i64::from(deployment.failed_tasks)),
            threshold: Some(i64::from(threshold)),
        }),
        ..Default::default()
    }
}

/// DescribeServiceRevisions.
pub fn describe_revisions(
    call: &mut Call<'_>,
    request: w::DescribeServiceRevisionsRequest,
) -> Result<w::DescribeServiceRevisionsResponse, Fault> {
    let w::DescribeServiceRevisionsRequest { service_revision_arns } = request;
    let asked = service_revision_arns.unwrap_or_default();
    if asked.is_empty() || asked.len() > 20 {
        return Err(invalid("serviceRevisionArns must have between 1 and 20 items."));
    }
    let scope = call.scope().clone();
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for arn in asked {
        let owner = service_of(call, &scope, "service-revision", &arn)?;
        let revision = owner.and_then(|(service, id)| {
            let revision = call.tx.get::<ServiceRevision>(&format!("{}/{id}", service.key()))?;
            Some((service, revision))
        });
        match revision {
            Some((service, revision)) => found.push(revision_view(call, &service, &revision)),
            None => failures.push(missing(arn)),
        }
    }
    Ok(w::DescribeServiceRevisionsResponse { service_revisions: Some(found), failures: Some(failures) })
}

fn revision_view(call: &Call<'_>, service: &Service, revision: &ServiceRevision) -> w::ServiceRevision {
    let template = &revision.template;
    let fargate = template.is_fargate();
    let strategy = Some(capacity::view(&template.strategy)).filter(|items| !items.is_empty());
    let key = plan::service_task::definition_key(&service.scope, &template.task_definition_arn);
    let definition = key.and_then(|key| call.tx.get::<TaskDefinition>(&key));
    let image = |container: &state::group::ContainerSpec| w::ContainerImage {
        container_name: Some(container.name.clone()),
        image_digest: match container.image.split_once('@') {
            Some((_, digest)) => Some(digest.to_owned()),
            None => revision.images.get(&container.name).cloned(),
        },
        image: Some(container.image.clone()),
    };
    let platform = template.platform_version.as_deref().map(|version| match version {
        "LATEST" => plan::service_task::PLATFORM_LATEST.to_owned(),
        other => other.to_owned(),
    });
    w::ServiceRevision {
        service_revision_arn: Some(service_view::revision_arn(service, &revision.id)),
        service_arn: Some(service.arn()),
        cluster_arn: Some(service.scope.arn("ecs", &format!("cluster/{}", service.cluster))),
        task_definition: Some(template.task_definition_arn.clone()),
        capacity_provider_strategy: strategy,
        launch_type: Some(template.launch_type.clone()).filter(|kind| !kind.is_empty()),
        platform_version: platform,
        platform_family: fargate.then(|| "Linux".into()),
        load_balancers: Some(service_view::load_balancers(template)),
        service_registries: Some(service_view::registries(template)),
        network_configuration: service_view::network(template),
        container_images: definition.map(|d| d.spec.containers.iter().map(image).collect()),
        guard_duty_enabled: Some(false),
        created_at: Some(revision.created_at_ms),
        ..Default::default()
    }
}
