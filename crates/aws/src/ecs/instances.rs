//! Container instances: each node, seen from each cluster. There is no record: they are views of (cluster, node).

use std::collections::BTreeSet;
use std::sync::Arc;

use state::ecs::Cluster;
use state::group::TaskStatus;
use state::node::{Capacity, Ledger, Node, container_instance_id};
use state::{Arn, ContainerGroup, Scope, Tx};
use wire::Fault;
use wire::shapes::ecs as w;

use super::faults::invalid;
use super::refs;
use crate::Call;

/// `arn:aws:ecs:…:container-instance/cluster/32 hex`, derived from the cluster and the node.
pub fn arn(scope: &Scope, cluster: &str, node: &str) -> String {
    scope.arn("ecs", &format!("container-instance/{cluster}/{}", container_instance_id(scope, cluster, node)))
}

/// The node that a container instance of a cluster is, by id or ARN.
pub fn node(tx: &Tx, cluster: &Cluster, given: &str) -> Option<Arc<Node>> {
    let wanted = given.rsplit('/').next().unwrap_or_default();
    let mut nodes = tx.table::<Node>().iter().map(|(_, node)| node);
    let is_wanted =
        |node: &&Arc<Node>| container_instance_id(&cluster.scope, &cluster.name, &node.id) == wanted;
    nodes.find(is_wanted).cloned()
}

/// Whether an ARN is that of a container instance.
pub fn is_instance(call: &Call<'_>, text: &str) -> bool {
    let Some(arn) = Arn::parse(text).filter(|arn| arn.service == "ecs") else { return false };
    let parts: Vec<&str> = arn.resource.split('/').collect();
    let ["container-instance", cluster, _] = parts[..] else { return false };
    let cluster = call.tx.get::<Cluster>(&call.scope().key(cluster));
    cluster.is_some_and(|cluster| node(call.tx, &cluster, text).is_some())
}

/// ListContainerInstances.
pub fn list(
    call: &mut Call<'_>,
    request: w::ListContainerInstancesRequest,
) -> Result<w::ListContainerInstancesResponse, Fault> {
    let w::ListContainerInstancesRequest { cluster, filter, next_token, max_results, status } = request;
    let filter = filter.filter(|text| !text.is_empty()).map(|text| {
        plan::constraint::parse(&text).map_err(|error| invalid(format!("Invalid filter: {error}")))
    });
    let filter = filter.transpose()?;
    let scope = call.scope().clone();
    let cluster = refs::active_cluster(call.tx, &scope, cluster.as_deref())?;
    let limit = refs::limit(max_results, 100, 100)?;
    // A node is always ACTIVE: whether its agent is there is `agentConnected`.
    let shown = status.as_deref().unwrap_or("ACTIVE") == "ACTIVE";
    let matches = |node: &Node| {
        filter.as_ref().is_none_or(|filter| {
            let ledger = call.tx.get::<Ledger>(&node.id).unwrap_or_default();
            filter.matches(&plan::placement::attributes(call.tx.snapshot(), node, &ledger))
        })
    };
    let nodes = call.tx.table::<Node>().iter().filter(|(_, node)| shown && matches(node));
    let mut arns: Vec<String> = nodes.map(|(_, node)| arn(&scope, &cluster.name, &node.id)).collect();
    arns.sort();
    let (arns, next_token) = refs::page(next_token.as_deref(), limit)?.take(arns, Clone::clone);
    Ok(w::ListContainerInstancesResponse { container_instance_arns: Some(arns), next_token })
}

/// DescribeContainerInstances.
pub fn describe(
    call: &mut Call<'_>,
    request: w::DescribeContainerInstancesRequest,
) -> Result<w::DescribeContainerInstancesResponse, Fault> {
    let w::DescribeContainerInstancesRequest { cluster, container_instances, include } = request;
    let scope = call.scope().clone();
    let cluster = refs::active_cluster(call.tx, &scope, cluster.as_deref())?;
    let asked = container_instances.unwrap_or_default();
    if asked.is_empty() {
        return Err(invalid("Container Instances cannot be empty."));
    }
    if asked.len() > 100 {
        return Err(invalid("Container Instances can have at most 100 items."));
    }
    let with_health = include.iter().flatten().any(|i| i == "CONTAINER_INSTANCE_HEALTH");
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for given in asked {
        if let Some(node) = node(call.tx, &cluster, &given) {
            found.push(view(call.tx, &cluster, &node, with_health));
            continue;
        }
        let full = if given.starts_with("arn:") {
            given
        } else {
            scope.arn("ecs", &format!("container-instance/{}/{given}", cluster.name))
        };
        failures.push(w::Failure { arn: Some(full), reason: Some("MISSING".into()), detail: None });
    }
    Ok(w::DescribeContainerInstancesResponse { container_instances: Some(found), failures: Some(failures) })
}

fn view(tx: &Tx, cluster: &Cluster, node: &Node, with_health: bool) -> w::ContainerInstance {
    let ledger = tx.get::<Ledger>(&node.id).map(|l| Ledger::clone(&l)).unwrap_or_default();
    let remaining = Capacity {
        cpu_units: node.capacity.cpu_units.saturating_sub(ledger.used.cpu_units),
        memory_mib: node.capacity.memory_mib.saturating_sub(ledger.used.memory_mib),
    };
    let prefix = format!("{}{}/", cluster.scope.prefix(), cluster.name);
    let groups = || tx.table::<ContainerGroup>().by_index("node", &node.id);
    let shown =
        |g: &&Arc<ContainerGroup>| !g.task().is_fargate() && state::Record::key(&***g).starts_with(&prefix);
    let here = || groups().filter(shown);
    let running = here().filter(|g| g.status() == TaskStatus::Running).count();
    let pending = here().filter(|g| g.status() < TaskStatus::Running).count();
    let version = tx.table::<Ledger>().row(&node.id).map_or(1, |row| row.revision.max(1));
    let health = if node.is_connected() { "OK" } else { "IMPAIRED" };
    w::ContainerInstance {
        container_instance_arn: Some(arn(&cluster.scope, &cluster.name, &node.id)),
        ec2_instance_id: Some(node.instance_id()),
        version: Some(version as i64),
        version_info: Some(w::VersionInfo {
            agent_version: Some(env!("CARGO_PKG_VERSION").into()),
            ..Default::default()
        }),
        remaining_resources: Some(resources(remaining, &ledger)),
        registered_resources: Some(resources(node.capacity, &Ledger::default())),
        status: Some("ACTIVE".into()),
        agent_connected: Some(node.is_connected()),
        running_tasks_count: Some(running as i64),
        pending_tasks_count: Some(pending as i64),
        attributes: Some(attributes(node, None)),
        registered_at: Some(node.registered_at_ms),
        attachments: Some(Vec::new()),
        tags: Some(Vec::new()),
        health_status: with_health
            .then(|| w::ContainerInstanceHealthStatus { overall_status: Some(health.into()), details: None }),
        ..Default::default()
    }
}

/// CPU, memory and the host ports that are taken, as ECS lists them.
fn resources(capacity: Capacity, ledger: &Ledger) -> Vec<w::Resource> {
    let integer = |name: &str, value: u32| w::Resource {
        name: Some(name.into()),
        r#type: Some("INTEGER".into()),
        double_value: Some(0.0),
        long_value: Some(0),
        integer_value: Some(i64::from(value)),
        string_set_value: None,
    };
    let ports = |name: &str, protocol: &str| {
        let taken = ledger.host_ports.keys().filter_map(|key| key.split_once('/'));
        let taken: BTreeSet<u16> =
            taken.filter(|(_, p)| *p == protocol).filter_map(|(port, _)| port.parse().ok()).collect();
        w::Resource {
            name: Some(name.into()),
            r#type: Some("STRINGSET".into()),
            double_value: Some(0.0),
            long_value: Some(0),
            integer_value: Some(0),
            string_set_value: Some(taken.into_iter().map(|port| port.to_string()).collect()),
        }
    };
    vec![
        integer("CPU", capacity.cpu_units),
        integer("MEMORY", capacity.memory_mib),
        ports("PORTS", "tcp"),
        ports("PORTS_UDP", "udp"),
    ]
}

/// A node's attributes; with its ARN as their target where they are listed.
fn attributes(node: &Node, target: Option<&str>) -> Vec<w::Attribute> {
    let rows = [
        ("ecs.availability-zone", node.availability_zone.clone()),
        ("ecs.cpu-architecture", architecture(node).to_owned()),
        ("ecs.os-family", "LINUX".to_owned()),
        ("ecs.os-type", "linux".to_owned()),
    ];
    let attribute = |(name, value): (&str, String)| w::Attribute {
        name: Some(name.into()),
        value: Some(value),
        target_type: target.map(|_| "container-instance".into()),
        target_id: target.map(Into::into),
    };
    rows.into_iter().map(attribute).collect()
}

/// `x86_64` or `arm64`, as the attribute `ecs.cpu-architecture` has it.
pub fn architecture(node: &Node) -> &'static str {
    if node.cpu_architecture == "ARM64" { "arm64" } else { "x86_64" }
}

/// ListAttributes.
pub fn list_attributes(
    call: &mut Call<'_>,
    request: w::ListAttributesRequest,
) -> Result<w::ListAttributesResponse, Fault> {
    let w::ListAttributesRequest {
        cluster,
        target_type,
        attribute_name,
        attribute_value,
        next_token,
        max_results,
    } = request;
    let scope = call.scope().clone();
    let cluster = refs::active_cluster(call.tx, &scope, cluster.as_deref())?;
    if target_type.as_deref() != Some("container-instance") {
        return Err(invalid("targetType must be container-instance."));
    }
    if attribute_value.is_some() && attribute_name.is_none() {
        return Err(invalid("attributeValue cannot be specified without attributeName."));
    }
    let limit = refs::limit(max_results, 100, 100)?;
    let mut found: Vec<w::Attribute> = Vec::new();
    for (_, node) in call.tx.table::<Node>().iter() {
        found.extend(attributes(node, Some(&arn(&scope, &cluster.name, &node.id))));
    }
    found.retain(|a| attribute_name.is_none() || a.name == attribute_name);
    found.retain(|a| attribute_value.is_none() || a.value == attribute_value);
    let key = |a: &w::Attribute| {
        format!("{}|{}", a.target_id.clone().unwrap_or_default(), a.name.clone().unwrap_or_default())
    };
    found.sort_by_key(key);
    let (page, next_token) = refs::page(next_token.as_deref(), limit)?.take(found, key);
    Ok(w::ListAttributesResponse { attributes: Some(page), next_token })
}
