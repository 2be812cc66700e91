//! What CreateService and UpdateService check: deployments, load balancers, service registries.

use state::cloudmap::DiscoveryService;
use state::ecs::{DeploymentConfiguration, ServiceLoadBalancer, ServiceRegistry, TaskDefinition};
use state::elb::{Action, Listener, Rule, TargetGroup};
use state::group::NetworkMode;
use state::{Arn, Scope, Tx};
use wire::Fault;
use wire::shapes::ecs as w;

use super::faults::{invalid, refuse, refuse_list, unsupported};

/// What a service has where it is not told otherwise.
pub const DEFAULT_DEPLOYMENT: DeploymentConfiguration = DeploymentConfiguration {
    maximum_percent: 200,
    minimum_healthy_percent: 100,
    breaker_enabled: false,
    breaker_rollback: false,
};

/// Reads a deployment configuration; what is not given stays as it was.
pub fn deployment(
    given: Option<w::DeploymentConfiguration>,
    old: &DeploymentConfiguration,
) -> Result<DeploymentConfiguration, Fault> {
    let w::DeploymentConfiguration {
        deployment_circuit_breaker,
        maximum_percent,
        minimum_healthy_percent,
        alarms,
        strategy,
        bake_time_in_minutes,
        lifecycle_hooks,
        linear_configuration,
        canary_configuration,
    } = given.unwrap_or_default();
    if let Some(w::DeploymentAlarms { alarm_names, rollback, enable }) = alarms
        && (enable == Some(true)
            || rollback == Some(true)
            || alarm_names.is_some_and(|names| !names.is_empty()))
    {
        return Err(unsupported("deploymentConfiguration.alarms"));
    }
    if let Some(strategy) = strategy.filter(|strategy| strategy != "ROLLING") {
        return Err(unsupported(&format!("deploymentConfiguration.strategy '{strategy}'")));
    }
    refuse(
        "deploymentConfiguration.bakeTimeInMinutes",
        &bake_time_in_minutes.filter(|minutes| *minutes != 0),
    )?;
    refuse_list("deploymentConfiguration.lifecycleHooks", &lifecycle_hooks)?;
    refuse("deploymentConfiguration.linearConfiguration", &linear_configuration)?;
    refuse("deploymentConfiguration.canaryConfiguration", &canary_configuration)?;
    let percent = |what: &str, given: Option<i64>, old: u32, from: i64, to: i64| match given {
        None => Ok(old),
        Some(n) if n < from => Err(invalid(format!("{what} must be at least {from}"))),
        Some(n) if n > to => Err(invalid(format!("{what} must be at most {to}"))),
        Some(n) => Ok(n as u32),
    };
    let maximum_percent = percent("maximumPercent", maximum_percent, old.maximum_percent, 100, 10_000)?;
    let minimum_healthy_percent =
        percent("minimumHealthyPercent", minimum_healthy_percent, old.minimum_healthy_percent, 0, 100)?;
    if maximum_percent == 100 && minimum_healthy_percent == 100 {
        return Err(invalid(
            "Both maximumPercent and minimumHealthyPercent cannot be 100 as this will block deployments.",
        ));
    }
    let (breaker_enabled, breaker_rollback) = match deployment_circuit_breaker {
        None => (old.breaker_enabled, old.breaker_rollback),
        Some(w::DeploymentCircuitBreaker { enable, rollback }) => {
            (enable.unwrap_or(false), rollback.unwrap_or(false))
        }
    };
    Ok(DeploymentConfiguration {
        maximum_percent,
        minimum_healthy_percent,
        breaker_enabled,
        breaker_rollback,
    })
}

/// Only ECS's own deployment controller is had.
pub fn controller(given: &Option<w::DeploymentController>) -> Result<(), Fault> {
    let kind = given.as_ref().and_then(|w::DeploymentController { r#type }| r#type.as_deref());
    match kind.filter(|kind| *kind != "ECS") {
        Some(other) => Err(unsupported(&format!("deploymentController '{other}'"))),
        None => Ok(()),
    }
}

/// Service Connect is not had; turned off it may be named.
pub fn service_connect(given: &Option<w::ServiceConnectConfiguration>) -> Result<(), Fault> {
    let off = w::ServiceConnectConfiguration { enabled: Some(false), ..Default::default() };
    match given {
        Some(given) if *given != off => Err(unsupported("serviceConnectConfiguration")),
        _ => Ok(()),
    }
}

/// Reads the target groups of a service.
pub fn load_balancers(given: Vec<w::LoadBalancer>) -> Result<Vec<ServiceLoadBalancer>, Fault> {
    if given.len() > 5 {
        return Err(invalid("load balancers can have at most 5 items."));
    }
    let mut all = Vec::new();
    for balancer in given {
        let w::LoadBalancer {
            target_group_arn,
            load_balancer_name,
            container_name,
            container_port,
            advanced_configuration,
        } = balancer;
        refuse("advancedConfiguration", &advanced_configuration)?;
        if target_group_arn.is_some() && load_balancer_name.is_some() {
            return Err(invalid("loadBalancerName and targetGroupArn cannot both be specified."));
        }
        refuse("loadBalancerName (Classic Load Balancer)", &load_balancer_name)?;
        let port = container_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        all.push(ServiceLoadBalancer {
            target_group_arn: target_group_arn.ok_or_else(|| invalid("targetGroupArn can not be blank."))?,
            container_name: container_name.ok_or_else(|| invalid("Container name can not be blank."))?,
            container_port: port.ok_or_else(|| invalid("Container port can not be blank."))?,
        });
    }
    Ok(all)
}

/// Checks target groups against the task definition and the load balancers there are.
pub fn check_load_balancers(
    tx: &Tx,
    definition: &TaskDefinition,
    all: &[ServiceLoadBalancer],
) -> Result<(), Fault> {
    let (mode, name) = mode_of(definition);
    for balancer in all {
        check_port(definition, &balancer.container_name, balancer.container_port)?;
        let arn = &balancer.target_group_arn;
        let group = tx.get::<TargetGroup>(arn).filter(|group| group.scope == definition.scope);
        let group = group.ok_or_else(|| invalid(format!("The target group {arn} does not exist.")))?;
        let wanted = if mode == NetworkMode::Awsvpc { "ip" } else { "instance" };
        if group.target_type != wanted {
            return Err(invalid(format!(
                "The provided target group {arn} has target type {}, which is incompatible with the {name} network \
                 mode specified in the task definition.",
                group.target_type
            )));
        }
        if !is_attached(tx, arn) {
            return Err(invalid(format!(
                "The target group with targetGroupArn {arn} does not have an associated load balancer."
            )));
        }
    }
    Ok(())
}

fn mode_of(definition: &TaskDefinition) -> (NetworkMode, &'static str) {
    let mode = definition.spec.network_mode;
    let name = match mode {
        NetworkMode::Awsvpc => "awsvpc",
        NetworkMode::Bridge => "bridge",
        NetworkMode::Host => "host",
        NetworkMode::None => "none",
    };
    (mode, name)
}

fn check_port(definition: &TaskDefinition, name: &str, port: u16) -> Result<(), Fault> {
    let container = definition.spec.containers.iter().find(|c| c.name == name);
    let container = container
        .ok_or_else(|| invalid(format!("The container {name} does not exist in the task definition.")))?;
    if !container.port_mappings.iter().any(|mapping| mapping.container_port == port) {
        return Err(invalid(format!("The container {name} did not have a container port {port} defined.")));
    }
    Ok(())
}

/// Whether a listener or a rule forwards to the target group.
fn is_attached(tx: &Tx, arn: &str) -> bool {
    let forwards = |actions: &[Action]| {
        actions.iter().any(|action| match action {
            Action::Forward { groups, .. } => groups.iter().any(|(group, _)| group == arn),
            Action::Redirect { .. } | Action::FixedResponse { .. } => false,
        })
    };
    tx.table::<Listener>().iter().any(|(_, listener)| forwards(&listener.default_actions))
        || tx.table::<Rule>().iter().any(|(_, rule)| forwards(&rule.actions))
}

/// Reads the Cloud Map services of a service.
pub fn registries(given: Vec<w::ServiceRegistry>) -> Result<Vec<ServiceRegistry>, Fault> {
    if given.len() > 1 {
        return Err(invalid("service registries can have at most 1 items."));
    }
    let port = |what: &str, given: Option<i64>| match given {
        None => Ok(None),
        Some(n) => {
            let port = u16::try_from(n).ok().filter(|port| *port > 0);
            port.map(Some).ok_or_else(|| invalid(format!("Invalid {what} of a service registry: {n}")))
        }
    };
    let one = |registry: w::ServiceRegistry| {
        let w::ServiceRegistry { registry_arn, port: number, container_name, container_port } = registry;
        Ok(ServiceRegistry {
            registry_arn: registry_arn.ok_or_else(|| invalid("registryArn can not be blank."))?,
            port: port("port", number)?,
            container_name,
            container_port: port("containerPort", container_port)?,
        })
    };
    given.into_iter().map(one).collect()
}

/// Checks Cloud Map services against the task definition ("ServiceRegistry", ECS API reference).
pub fn check_registries(
    tx: &Tx,
    scope: &Scope,
    definition: &TaskDefinition,
    all: &[ServiceRegistry],
) -> Result<(), Fault> {
    let (mode, name) = mode_of(definition);
    for registry in all {
        let arn = &registry.registry_arn;
        let id = Arn::parse(arn).filter(|arn| arn.service == "servicediscovery");
        let id = id.and_then(|arn| arn.resource.strip_prefix("service/"));
        let service = id.and_then(|id| tx.get::<DiscoveryService>(&scope.key(id)));
        let service =
            service.ok_or_else(|| invalid(format!("The service registry {arn} does not exist.")))?;
        let needs_port = service.dns_records.iter().any(|(kind, _)| kind == "SRV");
        let container = match (&registry.container_name, registry.container_port) {
            (Some(name), Some(port)) => Some((name, port)),
            (None, None) => None,
            _ => {
                return Err(invalid(
                    "serviceRegistries need both or neither of containerName and containerPort.",
                ));
            }
        };
        if let Some((name, port)) = container {
            check_port(definition, name, port)?;
        }
        let by_name = service.dns_records.iter().any(|_| true);
        match mode {
            NetworkMode::None => {
                return Err(invalid("Service registries are not supported when networkMode=none."));
            }
            NetworkMode::Awsvpc if needs_port && container.is_none() && registry.port.is_none() => {
                return Err(invalid(
                    "When specifying 'awsvpc' for networkMode and an SRV record, a value for 'port' or values for \
                     'containerName' and 'containerPort' must be specified.",
                ));
            }
            NetworkMode::Awsvpc if by_name && !needs_port && container.is_some() => {
                return Err(invalid(
                    "The values specified for serviceRegistries do not require a value for 'containerPort'.",
                ));
            }
            NetworkMode::Bridge | NetworkMode::Host if container.is_none() => {
                return Err(invalid(format!(
                    "When specifying '{name}' for networkMode, values for 'containerName' and 'containerPort' must be \
                     specified from the task definition."
                )));
            }
            _ => {}
        }
        if container.is_some() && registry.port.is_some() {
            return Err(invalid("serviceRegistries cannot have both a port and a containerPort."));
        }
    }
    Ok(())
}
