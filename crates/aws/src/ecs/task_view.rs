//! A task as DescribeTasks shows it: a view of what is wanted, where it is and what its node saw.

use std::sync::Arc;

use state::group::{ContainerObserved, ContainerSpec, ContainerState, Health, Phase, TaskStatus};
use state::node::Node;
use state::{ContainerGroup, GroupSpec, Snapshot};
use wire::shapes::ecs as w;

use super::{document, instances, tags};

/// The ephemeral storage that Fargate gives where a definition does not ask for more, GiB.
const FARGATE_STORAGE_GIB: i64 = 20;

/// Views a task; `with_tags` as `include: [TAGS]` asks.
pub fn view(state: &Snapshot, key: &str, group: &ContainerGroup, with_tags: bool) -> w::Task {
    let task = group.task();
    let spec: Arc<GroupSpec> = state.specs.get(&group.spec).map(|r| r.spec.clone()).unwrap_or_default();
    let node = group.node().and_then(|id| state.nodes.get(id)).map(|node| &**node);
    let fargate = task.is_fargate();
    let seen = &group.observed;
    let cause = group.stop_cause();
    let status = group.status();
    let version = state.groups.row(key).map_or(1, |row| row.revision.max(1));
    w::Task {
        attachments: Some(attachment(group).into_iter().collect()),
        attributes: Some(attributes(node)),
        availability_zone: zone(group, node),
        capacity_provider_name: task.capacity_provider.clone(),
        cluster_arn: Some(group.scope.arn("ecs", &format!("cluster/{}", group.cluster))),
        connectivity: connectivity(group, node).map(Into::into),
        connectivity_at: seen.connectivity_at_ms,
        container_instance_arn: node
            .filter(|_| !fargate)
            .map(|node| instances::arn(&group.scope, &group.cluster, &node.id)),
        containers: Some(spec.containers.iter().map(|c| container(group, c)).collect()),
        cpu: Some(spec.demand.cpu_units.to_string()),
        created_at: Some(group.created_at_ms),
        desired_status: Some(group.desired_status().into()),
        enable_execute_command: Some(task.enable_execute_command),
        execution_stopped_at: seen.execution_stopped_at_ms,
        group: Some(task.group.clone()),
        health_status: Some(group.health(&spec).as_str().into()),
        inference_accelerators: None,
        last_status: Some(status.as_str().into()),
        launch_type: Some(if fargate { "FARGATE" } else { "EC2" }.into()),
        memory: Some(spec.demand.memory_mib.to_string()),
        overrides: task.overrides.as_ref().map(|json| document::from_json("TaskOverride", json)).or_else(
            || {
                Some(w::TaskOverride {
                    container_overrides: Some(spec.containers.iter().map(no_override).collect()),
                    inference_accelerator_overrides: Some(Vec::new()),
                    ..Default::default()
                })
            },
        ),
        platform_version: task.platform_version.clone(),
        platform_family: fargate.then(|| "Linux".into()),
        pull_started_at: seen.pull_started_at_ms,
        pull_stopped_at: seen.pull_stopped_at_ms,
        started_at: group.started_at_ms(),
        started_by: task.started_by.clone(),
        stop_code: cause.map(|cause| cause.code.as_str().into()),
        stopped_at: seen.stopped_at_ms,
        stopped_reason: cause.map(|cause| cause.reason.clone()),
        stopping_at: cause.map(|cause| seen.stopping_at_ms.unwrap_or(cause.at_ms)),
        tags: Some(if with_tags { tags::view(&task.tags) } else { Vec::new() }),
        task_arn: Some(group.task_arn()),
        task_definition_arn: Some(task.task_definition_arn.clone()),
        version: Some(version as i64),
        ephemeral_storage: fargate.then_some(w::EphemeralStorage { size_in_gib: Some(FARGATE_STORAGE_GIB) }),
        fargate_ephemeral_storage: fargate
            .then_some(w::TaskEphemeralStorage { size_in_gib: Some(FARGATE_STORAGE_GIB), kms_key_id: None }),
    }
}

fn no_override(container: &ContainerSpec) -> w::ContainerOverride {
    w::ContainerOverride { name: Some(container.name.clone()), ..Default::default() }
}

fn zone(group: &ContainerGroup, node: Option<&Node>) -> Option<String> {
    let attached = group.attachment().map(|a| a.availability_zone.clone());
    attached.or_else(|| node.map(|node| node.availability_zone.clone()))
}

/// Whether the node's agent speaks for the task.
fn connectivity(group: &ContainerGroup, node: Option<&Node>) -> Option<&'static str> {
    group.observed.connectivity_at_ms?;
    Some(if node.is_some_and(|node| node.is_connected()) { "CONNECTED" } else { "DISCONNECTED" })
}

fn attributes(node: Option<&Node>) -> Vec<w::Attribute> {
    let attribute = |node: &Node| w::Attribute {
        name: Some("ecs.cpu-architecture".into()),
        value: Some(instances::architecture(node).into()),
        ..Default::default()
    };
    node.into_iter().map(attribute).collect()
}

/// The elastic network interface, with its life as the phase tells it.
fn attachment(group: &ContainerGroup) -> Option<w::Attachment> {
    let eni = group.attachment()?;
    let status = match group.observed.phase {
        Phase::Unseen => "PRECREATED",
        Phase::Provisioning => "ATTACHING",
        Phase::Pending | Phase::Running | Phase::Stopping => "ATTACHED",
        Phase::Deprovisioning => "DETACHING",
        Phase::Gone => "DELETED",
    };
    let detail = |name: &str, value: String| w::KeyValuePair { name: Some(name.into()), value: Some(value) };
    let host = eni.private_ip.to_string().replace('.', "-");
    let domain = match group.scope.region.as_str() {
        "us-east-1" => "ec2.internal".to_owned(),
        region => format!("{region}.compute.internal"),
    };
    Some(w::Attachment {
        id: Some(eni.id.clone()),
        r#type: Some("ElasticNetworkInterface".into()),
        status: Some(status.into()),
        details: Some(vec![
            detail("subnetId", eni.subnet_id.clone()),
            detail("networkInterfaceId", eni.eni_id.clone()),
            detail("macAddress", eni.mac.clone()),
            detail("privateDnsName", format!("ip-{host}.{domain}")),
            detail("privateIPv4Address", eni.private_ip.to_string()),
        ]),
    })
}

fn container(group: &ContainerGroup, spec: &ContainerSpec) -> w::Container {
    let unseen = ContainerObserved { name: spec.name.clone(), ..Default::default() };
    let seen = group.observed.containers.iter().find(|c| c.name == spec.name).unwrap_or(&unseen);
    let (status, exit_code, reason) = match &seen.state {
        ContainerState::Waiting if group.status() == TaskStatus::Stopped => ("STOPPED", None, None),
        ContainerState::Waiting => ("PENDING", None, None),
        ContainerState::Running { .. } => ("RUNNING", None, None),
        ContainerState::Exited { code, reason, .. } => ("STOPPED", *code, reason.clone()),
    };
    let interface = |eni: &state::group::Attachment| w::NetworkInterface {
        attachment_id: Some(eni.id.clone()),
        private_ipv4_address: Some(eni.private_ip.to_string()),
        ipv6_address: None,
    };
    let binding = |binding: &state::group::NetworkBinding| w::NetworkBinding {
        bind_ip: Some(binding.bind_ip.clone()),
        container_port: Some(i64::from(binding.container_port)),
        host_port: Some(i64::from(binding.host_port)),
        protocol: Some(binding.protocol.clone()),
        ..Default::default()
    };
    let path = format!("container/{}/{}/{}", group.cluster, group.id, seen.id);
    // Without a check the health is UNKNOWN, whatever was reported.
    let health = if spec.health_check.is_some() { seen.health } else { Health::Unknown };
    w::Container {
        container_arn: Some(group.scope.arn("ecs", &path)),
        task_arn: Some(group.task_arn()),
        name: Some(spec.name.clone()),
        image: Some(spec.image.clone()),
        image_digest: seen.image_digest.clone(),
        runtime_id: seen.runtime_id.clone(),
        last_status: Some(status.into()),
        exit_code: exit_code.map(i64::from),
        reason,
        network_bindings: Some(seen.bindings.iter().map(binding).collect()),
        network_interfaces: Some(group.attachment().map(interface).into_iter().collect()),
        health_status: Some(health.as_str().into()),
        managed_agents: None,
        cpu: Some(spec.cpu_units.to_string()),
        memory: spec.memory_mib.map(|mib| mib.to_string()),
        memory_reservation: spec.memory_reservation_mib.map(|mib| mib.to_string()),
        gpu_ids: None,
    }
}
