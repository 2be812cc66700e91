//! What a task is registered as: the targets of its target groups and the instances of its Cloud Map services.

use std::collections::BTreeMap;
use std::net::IpAddr;

use state::cloudmap::{DiscoveryService, Instance};
use state::ecs::{ServiceLoadBalancer, ServiceRegistry};
use state::elb::{Target, TargetHealth};
use state::group::Health;
use state::node::instance_id;
use state::{Arn, ContainerGroup, Record, Snapshot, TimeMs, Tx};

use crate::traffic::host_endpoint;

/// Why a task cannot be registered yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// The target group does not exist.
    TargetGroup(String),
    /// The Cloud Map service does not exist.
    Registry(String),
    /// Its host port is not known yet, or another task's target still has the address.
    Later,
}

impl Missing {
    /// The service's event, if it is worth one.
    pub fn as_event(&self) -> Option<String> {
        match self {
            Missing::TargetGroup(arn) => Some(format!(
                "failed to register targets in (target-group {arn}) with \
                 (error The target group with targetGroupArn {arn} does not exist.)"
            )),
            Missing::Registry(arn) => Some(format!(
                "failed to register instances in (service-registry {arn}) with (error Service not found.)"
            )),
            Missing::Later => None,
        }
    }
}

/// The targets of a running task, to be written.
pub fn targets(snapshot: &Snapshot, group: &ContainerGroup, now_ms: TimeMs) -> Result<Vec<Target>, Missing> {
    group.task().load_balancers.iter().map(|balancer| target(snapshot, group, balancer, now_ms)).collect()
}

fn target(
    snapshot: &Snapshot,
    group: &ContainerGroup,
    balancer: &ServiceLoadBalancer,
    now_ms: TimeMs,
) -> Result<Target, Missing> {
    let arn = &balancer.target_group_arn;
    let target_group = snapshot.target_groups.get(arn).ok_or_else(|| Missing::TargetGroup(arn.clone()))?;
    let port = balancer.container_port;
    let (id, port, address) = match group.attachment() {
        Some(attachment) => (attachment.private_ip.to_string(), port, IpAddr::V4(attachment.private_ip)),
        None => {
            let at = host_endpoint(snapshot, group, &balancer.container_name, port);
            let (address, port) = at.ok_or(Missing::Later)?;
            let by_address = target_group.target_type == "ip";
            let id = if by_address { address.to_string() } else { instance_id(group.node().unwrap_or("")) };
            (id, port, address)
        }
    };
    let owner = ContainerGroup::key_of(&group.scope, &group.cluster, &group.id);
    // A port of the host can be used again before the one that had it is forgotten.
    let other = snapshot.targets.get(&Target::key_of(arn, &id, port)).and_then(|t| t.owner.clone());
    if other.is_some_and(|other| {
        other != owner && snapshot.groups.get(&other).is_some_and(|g| !g.containers_over())
    }) {
        return Err(Missing::Later);
    }
    Ok(Target {
        target_group_arn: arn.clone(),
        id,
        port,
        address,
        availability_zone: group.attachment().map(|a| a.availability_zone.clone()),
        owner: Some(owner),
        registered_at_ms: now_ms,
        draining_since_ms: None,
        drained: false,
        health: TargetHealth::registering(),
    })
}

/// The task whose target this is, by what its service says and by where it is: one that has its targets, not one that is
/// yet to get them or has none any more.
pub fn owner_of(snapshot: &Snapshot, target_group_arn: &str, id: &str, port: u16) -> Option<String> {
    let by_address = || {
        let subnets = snapshot.subnets.iter().map(move |(_, subnet)| format!("{}|{id}", subnet.id));
        subnets.flat_map(|at| snapshot.groups.by_index("ip", &at).collect::<Vec<_>>())
    };
    let by_node = || {
        let node = snapshot.nodes.iter().find(|(_, node)| node.instance_id() == id);
        node.into_iter().flat_map(|(node, _)| snapshot.groups.by_index("node", node))
    };
    let has = |group: &ContainerGroup| {
        let of_group = |b: &&ServiceLoadBalancer| b.target_group_arn == target_group_arn;
        let mut own = group.task().load_balancers.iter().filter(of_group);
        own.any(|b| target(snapshot, group, b, 0).is_ok_and(|t| t.id == id && t.port == port))
    };
    let serves = |group: &ContainerGroup| {
        group.traffic.activated_at_ms.is_some() && group.traffic.deactivated_at_ms.is_none()
    };
    by_address().chain(by_node()).find(|group| serves(group) && has(group)).map(|group| group.key())
}

/// The Cloud Map instances of a running task, to be written ("Use service discovery to connect Amazon ECS services
/// with DNS names", ECS developer guide).
pub fn instances(
    snapshot: &Snapshot,
    group: &ContainerGroup,
    now_ms: TimeMs,
) -> Result<Vec<Instance>, Missing> {
    group.task().registries.iter().map(|registry| instance(snapshot, group, registry, now_ms)).collect()
}

fn instance(
    snapshot: &Snapshot,
    group: &ContainerGroup,
    registry: &ServiceRegistry,
    now_ms: TimeMs,
) -> Result<Instance, Missing> {
    let arn = &registry.registry_arn;
    let service = discovery_service(snapshot, group, arn).ok_or_else(|| Missing::Registry(arn.clone()))?;
    let mut attributes = attributes(snapshot, group);
    let mut set = |name: &str, value: String| attributes.insert(name.to_owned(), value);
    match group.attachment() {
        Some(attachment) => {
            set("AWS_INSTANCE_IPV4", attachment.private_ip.to_string());
            if let Some(port) = registry.port.or(registry.container_port) {
                set("AWS_INSTANCE_PORT", port.to_string());
            }
        }
        None => {
            let container = registry.container_name.as_deref().unwrap_or_default();
            let port = registry.container_port.or(registry.port).unwrap_or_default();
            let (address, port) = host_endpoint(snapshot, group, container, port).ok_or(Missing::Later)?;
            set("AWS_INSTANCE_IPV4", address.to_string());
            set("AWS_INSTANCE_PORT", port.to_string());
        }
    }
    Ok(Instance {
        scope: group.scope.clone(),
        service_id: service.id.clone(),
        id: group.id.clone(),
        attributes,
        healthy: is_instance_healthy(snapshot, group, &service.id),
        owner: Some(ContainerGroup::key_of(&group.scope, &group.cluster, &group.id)),
        registered_at_ms: now_ms,
    })
}

fn attributes(snapshot: &Snapshot, group: &ContainerGroup) -> BTreeMap<String, String> {
    let task = group.task();
    let node = group.node().and_then(|node| snapshot.nodes.get(node));
    let zone = group.attachment().map(|a| &a.availability_zone).or(node.map(|n| &n.availability_zone));
    let family = task.task_definition_arn.rsplit_once('/').map_or("", |(_, name)| name);
    let family = family.rsplit_once(':').map_or(family, |(family, _)| family);
    let mut all = BTreeMap::from([
        ("ECS_CLUSTER_NAME".to_owned(), group.cluster.clone()),
        ("ECS_TASK_DEFINITION_FAMILY".to_owned(), family.to_owned()),
        ("REGION".to_owned(), group.scope.region.clone()),
    ]);
    all.extend(task.service.iter().map(|s| ("ECS_SERVICE_NAME".to_owned(), s.name.clone())));
    all.extend(zone.map(|zone| ("AVAILABILITY_ZONE".to_owned(), zone.clone())));
    all
}

fn discovery_service<'a>(
    snapshot: &'a Snapshot,
    group: &ContainerGroup,
    arn: &str,
) -> Option<&'a DiscoveryService> {
    let id = Arn::parse(arn)?.resource.strip_prefix("service/")?;
    snapshot.discovery_services.get(&group.scope.key(id)).map(|s| &**s)
}

/// Whether Cloud Map gives the task out: always if the service takes no health from outside, otherwise as its
/// containers' health says.
pub fn is_instance_healthy(snapshot: &Snapshot, group: &ContainerGroup, service_id: &str) -> bool {
    let custom =
        snapshot.discovery_services.get(&group.scope.key(service_id)).is_some_and(|s| s.custom_health);
    let Some(spec) = snapshot.specs.get(&group.spec).filter(|_| custom) else { return true };
    let checked = spec.spec.containers.iter().any(|c| c.essential && c.health_check.is_some());
    !checked || group.health(&spec.spec) == Health::Healthy
}

/// Writes an instance and raises its service's revision.
pub fn put_instance(tx: &mut Tx, instance: Instance) {
    let service = instance.scope.key(&instance.service_id);
    tx.put(instance);
    tx.update::<DiscoveryService>(&service, |service| service.instances_revision += 1);
}

/// Deletes an instance and raises its service's revision.
pub fn delete_instance(tx: &mut Tx, instance: &Instance) {
    tx.delete::<Instance>(&state::Record::key(instance));
    let service = instance.scope.key(&instance.service_id);
    tx.update::<DiscoveryService>(&service, |service| service.instances_revision += 1);
}
