//! Services: created, updated, deleted. What they start and stop is the service controller's to decide.

use plan::ecs_service::ensure_deployment;
use state::Record;
use state::ecs::{Cluster, Service, ServiceStatus, ServiceTemplate, TaskDefinition};
use wire::Fault;
use wire::shapes::ecs as w;

use super::faults::{invalid, refuse_list, refuse_true, service_not_found, unsupported};
use super::{definition, launch_kind, network, refs, service_checks as checks, service_view, tags};
use crate::Call;

/// CreateService.
pub fn create(
    call: &mut Call<'_>,
    request: w::CreateServiceRequest,
) -> Result<w::CreateServiceResponse, Fault> {
    let scope = call.scope().clone();
    let cluster = refs::active_cluster(call.tx, &scope, request.cluster.as_deref())?;
    let given = request.service_name.clone().unwrap_or_default();
    if !refs::is_name(&given) {
        return Err(invalid("Invalid service name."));
    }
    let key = Service::key_of(&scope, &cluster.name, &given);
    let mut generation = 0;
    if let Some(old) = call.tx.get::<Service>(&key) {
        match old.status {
            ServiceStatus::Active
                if request.client_token.is_some() && request.client_token == old.client_token =>
            {
                let view = service_view::view(call.tx, &old, true);
                return Ok(w::CreateServiceResponse { service: Some(view) });
            }
            ServiceStatus::Active => return Err(invalid("Creation of service was not idempotent.")),
            ServiceStatus::Draining => {
                return Err(invalid("Unable to Start a service that is still Draining."));
            }
            ServiceStatus::Inactive => generation = old.generation,
        }
    }
    let service = read_new(call, &cluster, request, generation + 1)?;
    call.tx.put(service);
    ensure_deployment(call.tx, call.ids, call.now_ms, &key);
    let service = call.tx.get::<Service>(&key).ok_or_else(service_not_found)?;
    Ok(w::CreateServiceResponse { service: Some(service_view::view(call.tx, &service, true)) })
}

fn refuse_missing(request: &w::CreateServiceRequest) -> Result<(), Fault> {
    checks::controller(&request.deployment_controller)?;
    if let Some(other) = request.scheduling_strategy.as_ref().filter(|strategy| *strategy != "REPLICA") {
        return Err(unsupported(&format!("schedulingStrategy '{other}'")));
    }
    refuse_true("enableExecuteCommand", request.enable_execute_command)?;
    checks::service_connect(&request.service_connect_configuration)?;
    refuse_list("volumeConfigurations", &request.volume_configurations)?;
    refuse_list("vpcLatticeConfigurations", &request.vpc_lattice_configurations)
}

/// A new service from a checked request.
fn read_new(
    call: &Call<'_>,
    cluster: &Cluster,
    mut request: w::CreateServiceRequest,
    generation: u64,
) -> Result<Service, Fault> {
    refuse_missing(&request)?;
    let template = NewTemplate::take(&mut request);
    let w::CreateServiceRequest {
        cluster: _,
        service_name,
        task_definition,
        availability_zone_rebalancing,
        desired_count,
        client_token,
        role,
        deployment_configuration,
        health_check_grace_period_seconds,
        tags,
        enable_ecs_managed_tags,
        propagate_tags,
        // Taken for the template.
        load_balancers: _,
        service_registries: _,
        launch_type: _,
        capacity_provider_strategy: _,
        platform_version: _,
        placement_constraints: _,
        placement_strategy: _,
        network_configuration: _,
        // Refused where they were given.
        scheduling_strategy: _,
        deployment_controller: _,
        enable_execute_command: _,
        service_connect_configuration: _,
        volume_configurations: _,
        vpc_lattice_configurations: _,
    } = request;
    let scope = call.scope();
    let definition = refs::runnable_definition(call.tx, scope, task_definition.as_deref())?;
    let template = template.read(call, cluster, &definition)?;
    Ok(Service {
        scope: scope.clone(),
        cluster: cluster.name.clone(),
        name: service_name.unwrap_or_default(),
        status: ServiceStatus::Active,
        desired_count: count(desired_count)?
            .ok_or_else(|| invalid("desiredCount can not be blank for the REPLICA scheduling strategy."))?,
        generation,
        deployment: checks::deployment(deployment_configuration, &checks::DEFAULT_DEPLOYMENT)?,
        health_check_grace_period_s: grace_period(health_check_grace_period_seconds, &template)?,
        scheduling_strategy: "REPLICA".into(),
        availability_zone_rebalancing: availability_zone_rebalancing.unwrap_or_else(|| "DISABLED".into()),
        propagate_tags: propagate_tags.unwrap_or_else(|| "NONE".into()),
        enable_ecs_managed_tags: enable_ecs_managed_tags.unwrap_or(false),
        enable_execute_command: false,
        role_arn: role_of(call, role, &definition, &template)?,
        client_token,
        tags: tags::read(tags)?,
        created_at_ms: call.now_ms,
        created_by: call.caller.arn.clone(),
        deployments: Vec::new(),
        events: Default::default(),
        steady: false,
        deleted_at_ms: None,
        template,
    })
}

/// What a new service says of its tasks.
struct NewTemplate {
    load_balancers: Option<Vec<w::LoadBalancer>>,
    service_registries: Option<Vec<w::ServiceRegistry>>,
    launch_type: Option<String>,
    capacity_provider_strategy: Option<Vec<w::CapacityProviderStrategyItem>>,
    platform_version: Option<String>,
    placement_constraints: Option<Vec<w::PlacementConstraint>>,
    placement_strategy: Option<Vec<w::PlacementStrategy>>,
    network_configuration: Option<w::NetworkConfiguration>,
}

impl NewTemplate {
    fn take(request: &mut w::CreateServiceRequest) -> NewTemplate {
        NewTemplate {
            load_balancers: request.load_balancers.take(),
            service_registries: request.service_registries.take(),
            launch_type: request.launch_type.take(),
            capacity_provider_strategy: request.capacity_provider_strategy.take(),
            platform_version: request.platform_version.take(),
            placement_constraints: request.placement_constraints.take(),
            placement_strategy: request.placement_strategy.take(),
            network_configuration: request.network_configuration.take(),
        }
    }

    fn read(
        self,
        call: &Call<'_>,
        cluster: &Cluster,
        definition: &TaskDefinition,
    ) -> Result<ServiceTemplate, Fault> {
        let strategy = self.capacity_provider_strategy;
        let kind =
            launch_kind::choose(cluster, definition, self.launch_type, strategy, self.platform_version)?;
        let fargate = kind.is_fargate();
        let mode = definition.spec.network_mode;
        let network = network::read(call.tx, call.scope(), mode, self.network_configuration, fargate)?;
        let template = ServiceTemplate {
            task_definition_arn: definition.arn(),
            launch_type: kind.launch_type,
            strategy: kind.strategy,
            platform_version: fargate.then(|| kind.platform_version.unwrap_or_else(|| "LATEST".into())),
            subnets: network.subnets,
            security_groups: network.security_groups,
            assign_public_ip: network.assign_public_ip,
            load_balancers: checks::load_balancers(self.load_balancers.unwrap_or_default())?,
            registries: checks::registries(self.service_registries.unwrap_or_default())?,
            placement_constraints: launch_kind::constraints(self.placement_constraints, fargate)?,
            placement_strategy: launch_kind::strategies(self.placement_strategy, fargate)?,
        };
        check_template(call, definition, &template)?;
        Ok(template)
    }
}

/// What holds of a template, new or changed.
fn check_template(
    call: &Call<'_>,
    definition: &TaskDefinition,
    template: &ServiceTemplate,
) -> Result<(), Fault> {
    checks::check_load_balancers(call.tx, definition, &template.load_balancers)?;
    checks::check_registries(call.tx, call.scope(), definition, &template.registries)
}

fn count(given: Option<i64>) -> Result<Option<u32>, Fault> {
    let bad = |n: i64| invalid(format!("desiredCount must be between 0 and 5000, but was {n}"));
    given.map(|n| u32::try_from(n).ok().filter(|n| *n <= 5000).ok_or_else(|| bad(n))).transpose()
}

fn grace_period(given: Option<i64>, template: &ServiceTemplate) -> Result<Option<u32>, Fault> {
    let Some(seconds) = given else { return Ok(None) };
    if template.load_balancers.is_empty() {
        return Err(invalid(
            "Health check grace period is only valid for services configured to use load balancers",
        ));
    }
    let seconds = u32::try_from(seconds).ok().filter(|seconds| *seconds <= i32::MAX as u32);
    seconds
        .map(Some)
        .ok_or_else(|| invalid("healthCheckGracePeriodSeconds must be between 0 and 2147483647."))
}

/// The role that a load balancer's targets are registered with, where ECS takes one.
fn role_of(
    call: &Call<'_>,
    given: Option<String>,
    definition: &TaskDefinition,
    template: &ServiceTemplate,
) -> Result<Option<String>, Fault> {
    let role = definition::role(call.scope(), given)?;
    let linked = definition.spec.network_mode == state::group::NetworkMode::Awsvpc
        || template.load_balancers.len() != 1
        || !template.registries.is_empty();
    if role.is_some() && linked {
        return Err(invalid(
            "You cannot specify an IAM role for services that require a service linked role.",
        ));
    }
    Ok(role)
}

/// UpdateService. What changes the tasks begins a deployment; what does not, does not.
pub fn update(
    call: &mut Call<'_>,
    request: w::UpdateServiceRequest,
) -> Result<w::UpdateServiceResponse, Fault> {
    let scope = call.scope().clone();
    let cluster = refs::active_cluster(call.tx, &scope, request.cluster.as_deref())?;
    let given = request.service.clone().unwrap_or_default();
    let found = refs::service(call.tx, &scope, &cluster.name, &given)?;
    if found.status != ServiceStatus::Active {
        return Err(Fault::new("ServiceNotActiveException", "Service was not ACTIVE."));
    }
    let mut service = Service::clone(&found);
    change(call, &cluster, &mut service, request)?;
    let key = service.key();
    call.tx.put(service);
    ensure_deployment(call.tx, call.ids, call.now_ms, &key);
    let service = call.tx.get::<Service>(&key).ok_or_else(service_not_found)?;
    Ok(w::UpdateServiceResponse { service: Some(service_view::view(call.tx, &service, true)) })
}

fn change(
    call: &Call<'_>,
    cluster: &Cluster,
    service: &mut Service,
    request: w::UpdateServiceRequest,
) -> Result<(), Fault> {
    let w::UpdateServiceRequest {
        cluster: _,
        service: _,
        desired_count,
        task_definition,
        capacity_provider_strategy,
        deployment_configuration,
        availability_zone_rebalancing,
        network_configuration,
        placement_constraints,
        placement_strategy,
        platform_version,
        force_new_deployment,
        health_check_grace_period_seconds,
        deployment_controller,
        enable_execute_command,
        enable_ecs_managed_tags,
        load_balancers,
        propagate_tags,
        service_registries,
        service_connect_configuration,
        volume_configurations,
        vpc_lattice_configurations,
    } = request;
    checks::controller(&deployment_controller)?;
    refuse_true("enableExecuteCommand", enable_execute_command)?;
    checks::service_connect(&service_connect_configuration)?;
    refuse_list("volumeConfigurations", &volume_configurations)?;
    refuse_list("vpcLatticeConfigurations", &vpc_lattice_configurations)?;
    let template = TemplateChange {
        task_definition,
        capacity_provider_strategy,
        network_configuration,
        placement_constraints,
        placement_strategy,
        platform_version,
        load_balancers,
        service_registries,
    };
    let template = template.apply(call, cluster, &service.template)?;
    if template != service.template || force_new_deployment == Some(true) {
        service.generation += 1;
    }
    if health_check_grace_period_seconds.is_some() {
        service.health_check_grace_period_s = grace_period(health_check_grace_period_seconds, &template)?;
    }
    service.template = template;
    service.desired_count = count(desired_count)?.unwrap_or(service.desired_count);
    service.deployment = checks::deployment(deployment_configuration, &service.deployment)?;
    if let Some(rebalancing) = availability_zone_rebalancing {
        service.availability_zone_rebalancing = rebalancing;
    }
    if let Some(propagate) = propagate_tags {
        service.propagate_tags = propagate;
    }
    service.enable_ecs_managed_tags = enable_ecs_managed_tags.unwrap_or(service.enable_ecs_managed_tags);
    Ok(())
}

/// What an update says of the tasks; what it does not say stays.
#[derive(Default, PartialEq)]
struct TemplateChange {
    task_definition: Option<String>,
    capacity_provider_strategy: Option<Vec<w::CapacityProviderStrategyItem>>,
    network_configuration: Option<w::NetworkConfiguration>,
    placement_constraints: Option<Vec<w::PlacementConstraint>>,
    placement_strategy: Option<Vec<w::PlacementStrategy>>,
    platform_version: Option<String>,
    load_balancers: Option<Vec<w::LoadBalancer>>,
    service_registries: Option<Vec<w::ServiceRegistry>>,
}

impl TemplateChange {
    fn apply(
        self,
        call: &Call<'_>,
        cluster: &Cluster,
        old: &ServiceTemplate,
    ) -> Result<ServiceTemplate, Fault> {
        // A service can be scaled and rolled though a target group or a subnet of it is there no more.
        if self == TemplateChange::default() {
            return Ok(old.clone());
        }
        let scope = call.scope();
        let mut new = old.clone();
        let definition = match &self.task_definition {
            Some(given) => refs::runnable_definition(call.tx, scope, Some(given))?,
            // A service goes on with its definition after that was deregistered.
            None => refs::task_definition(call.tx, scope, &old.task_definition_arn)?
                .ok_or_else(|| super::faults::client("TaskDefinition not found."))?,
        };
        new.task_definition_arn = definition.arn();
        if self.capacity_provider_strategy.as_ref().is_some_and(Vec::is_empty) && !old.strategy.is_empty() {
            return Err(unsupported("Removing the capacity provider strategy of a service"));
        }
        let strategy = self.capacity_provider_strategy.filter(|items| !items.is_empty());
        let platform = self.platform_version.or_else(|| old.platform_version.clone());
        let kind = match strategy {
            Some(items) => launch_kind::choose(cluster, &definition, None, Some(items), platform)?,
            None if old.strategy.is_empty() => {
                launch_kind::choose(cluster, &definition, Some(old.launch_type.clone()), None, platform)?
            }
            None => {
                let items = super::capacity::view(&old.strategy);
                launch_kind::choose(cluster, &definition, None, Some(items), platform)?
            }
        };
        let fargate = kind.is_fargate();
        new.platform_version = kind.platform_version.clone();
        (new.launch_type, new.strategy) = (kind.launch_type, kind.strategy);
        let mode = definition.spec.network_mode;
        let current = (!old.subnets.is_empty()).then(|| service_view::network_configuration(old));
        let network = self.network_configuration.or(current);
        let network = network::read(call.tx, scope, mode, network, fargate)?;
        new.subnets = network.subnets;
        new.security_groups = network.security_groups;
        new.assign_public_ip = network.assign_public_ip;
        if let Some(constraints) = self.placement_constraints {
            new.placement_constraints = launch_kind::constraints(Some(constraints), fargate)?;
        }
        if let Some(strategies) = self.placement_strategy {
            new.placement_strategy = launch_kind::strategies(Some(strategies), fargate)?;
        }
        if let Some(balancers) = self.load_balancers {
            new.load_balancers = checks::load_balancers(balancers)?;
        }
        if let Some(registries) = self.service_registries {
            new.registries = checks::registries(registries)?;
        }
        check_template(call, &definition, &new)?;
        Ok(new)
    }
}

/// DeleteService: DRAINING until its tasks are over, then INACTIVE.
pub fn delete(
    call: &mut Call<'_>,
    request: w::DeleteServiceRequest,
) -> Result<w::DeleteServiceResponse, Fault> {
    let w::DeleteServiceRequest { cluster, service, force } = request;
    let scope = call.scope().clone();
    let cluster = refs::cluster(call.tx, &scope, cluster.as_deref())?;
    let found = refs::service(call.tx, &scope, &cluster.name, &service.unwrap_or_default())?;
    let mut service = Service::clone(&found);
    match service.status {
        ServiceStatus::Active => {
            if service.desired_count > 0 && force != Some(true) {
                return Err(invalid("The service cannot be stopped while it is scaled above 0."));
            }
            service.status = ServiceStatus::Draining;
            service.desired_count = 0;
        }
        ServiceStatus::Draining => {}
        ServiceStatus::Inactive => return Err(service_not_found()),
    }
    let key = service.key();
    call.tx.put(service);
    let service = call.tx.get::<Service>(&key).ok_or_else(service_not_found)?;
    Ok(w::DeleteServiceResponse { service: Some(service_view::view(call.tx, &service, true)) })
}
