//! The metadata documents, as pure functions ("Task metadata endpoint version 4", ECS developer guide).

use serde_json::{Map, Value, json};
use state::assignment::{AgentDesired, Assignment};
use state::group::{
    ContainerObserved, ContainerSpec, ContainerState, Health, LogDestination, NetworkMode, Phase,
    VolumeSource,
};

use super::super::network::{DNS_ADDRESS, host_name, internal_domain};
use super::time::rfc3339;
use super::{Facts, LocalContainer};

/// The kernel's least weight, which a container without CPU units has.
const CPU_UNITS_MIN: u32 = 2;

/// The document of a task. `tags`: with its tags.
pub fn task(facts: &Facts, tags: bool) -> Value {
    let (assignment, observed) = (&*facts.assignment, &facts.observed);
    let spec = &assignment.spec;
    let mut task = Map::new();
    let mut put = |name: &str, value: Value| drop(task.insert(name.to_owned(), value));
    put("Cluster", cluster(assignment).into());
    put("TaskARN", assignment.task_arn.clone().into());
    put("Family", spec.family.clone().into());
    put("Revision", spec.revision.to_string().into());
    put("DesiredStatus", desired_status(facts).into());
    put("KnownStatus", known_status(facts).into());
    let mut limits = Map::new();
    if let Some(units) = spec.cpu_limit_units {
        limits.insert("CPU".into(), json!(f64::from(units) / 1024.0));
    }
    if let Some(mib) = spec.memory_limit_mib {
        limits.insert("Memory".into(), mib.into());
    }
    if !limits.is_empty() {
        put("Limits", limits.into());
    }
    let times = [
        ("PullStartedAt", observed.pull_started_at_ms),
        ("PullStoppedAt", observed.pull_stopped_at_ms),
        ("ExecutionStoppedAt", observed.execution_stopped_at_ms),
    ];
    for (name, at_ms) in times {
        if let Some(at_ms) = at_ms {
            put(name, rfc3339(at_ms).into());
        }
    }
    if !assignment.availability_zone.is_empty() {
        put("AvailabilityZone", assignment.availability_zone.clone().into());
    }
    if tags {
        let tags = assignment.tags.iter().map(|tag| (tag.key.clone(), tag.value.clone().into()));
        put("TaskTags", tags.collect::<Map<_, _>>().into());
    }
    put("LaunchType", assignment.launch_type.clone().into());
    // A container that has not been made yet has no document, as with ECS.
    let containers = (0..spec.containers.len()).filter_map(|n| container(facts, n));
    put("Containers", containers.collect::<Vec<_>>().into());
    if let Some(network) = &assignment.network {
        put("VPCID", network.vpc_id.clone().into());
    }
    if let Some(service) = &assignment.service {
        put("ServiceName", service.clone().into());
    }
    put("FaultInjectionEnabled", false.into());
    task.into()
}

/// The document of a container; none until its image is there.
pub fn container(facts: &Facts, index: usize) -> Option<Value> {
    let assignment = &*facts.assignment;
    let spec = assignment.spec.containers.get(index)?;
    let seen = facts.observed.containers.get(index)?;
    let local = facts.containers.get(index).cloned().unwrap_or_default();
    let digest = seen.image_digest.clone()?;
    let mut container = Map::new();
    let mut put = |name: &str, value: Value| drop(container.insert(name.to_owned(), value));
    put("DockerId", seen.runtime_id.clone().unwrap_or_default().into());
    put("Name", spec.name.clone().into());
    put("DockerName", spec.name.clone().into());
    put("Image", spec.image.clone().into());
    put("ImageID", digest.into());
    if !seen.bindings.is_empty() {
        put("Ports", ports(seen));
    }
    put("Labels", labels(assignment, spec));
    let over = matches!(seen.state, ContainerState::Exited { .. });
    put("DesiredStatus", if over { "STOPPED" } else { desired_status(facts) }.into());
    put("KnownStatus", container_status(seen).into());
    if let ContainerState::Exited { code: Some(code), .. } = seen.state {
        put("ExitCode", code.into());
    }
    let cpu = spec.cpu_units.max(CPU_UNITS_MIN);
    put("Limits", json!({"CPU": cpu, "Memory": spec.memory_mib.unwrap_or(0)}));
    for (name, at_ms) in container_times(seen, &local) {
        put(name, rfc3339(at_ms).into());
    }
    put("Type", "NORMAL".into());
    if spec.health_check.is_some() {
        let status = (seen.health != Health::Unknown).then(|| seen.health.as_str());
        put("Health", status.map_or_else(|| json!({}), |status| json!({"status": status})));
    }
    let volumes = volumes(assignment, spec);
    if !volumes.is_empty() {
        put("Volumes", volumes.into());
    }
    if let Some((driver, options)) = log_driver(facts, index) {
        put("LogDriver", driver.into());
        put("LogOptions", options);
    }
    put("ContainerARN", container_arn(assignment, seen).into());
    put("Networks", json!([network(assignment, &local)]));
    put("Snapshotter", "overlayfs".into());
    if spec.restart_policy.is_some() {
        put("RestartCount", seen.restart_count.into());
    }
    Some(container.into())
}

/// On Fargate the cluster's ARN, elsewhere its name.
fn cluster(assignment: &Assignment) -> String {
    match assignment.task_arn.split_once(":task/") {
        Some((start, _)) if assignment.launch_type == "FARGATE" => {
            format!("{start}:cluster/{}", assignment.cluster)
        }
        _ => assignment.cluster.clone(),
    }
}

fn container_arn(assignment: &Assignment, seen: &ContainerObserved) -> String {
    format!("{}/{}", assignment.task_arn.replacen(":task/", ":container/", 1), seen.id)
}

fn desired_status(facts: &Facts) -> &'static str {
    let run = facts.assignment.desired == AgentDesired::Run && facts.observed.stop.is_none();
    if run { "RUNNING" } else { "STOPPED" }
}

/// The agent's own statuses of a task are those of its containers: that of the one least far.
fn known_status(facts: &Facts) -> &'static str {
    let containers = &facts.observed.containers;
    match facts.observed.phase {
        Phase::Deprovisioning | Phase::Gone => "STOPPED",
        Phase::Running | Phase::Stopping => "RUNNING",
        Phase::Pending if containers.iter().all(|c| c.image_digest.is_some()) => "PULLED",
        Phase::Unseen | Phase::Provisioning | Phase::Pending => "NONE",
    }
}

fn container_status(seen: &ContainerObserved) -> &'static str {
    match seen.state {
        ContainerState::Waiting => "PULLED",
        ContainerState::Running { .. } => "RUNNING",
        ContainerState::Exited { .. } => "STOPPED",
    }
}

fn container_times(seen: &ContainerObserved, local: &LocalContainer) -> Vec<(&'static str, i64)> {
    let mut times = Vec::new();
    times.extend(local.created_at_ms.map(|at| ("CreatedAt", at)));
    match seen.state {
        ContainerState::Waiting => {}
        ContainerState::Running { since_ms } => times.push(("StartedAt", since_ms)),
        ContainerState::Exited { at_ms, .. } => {
            times.extend(local.started_at_ms.map(|at| ("StartedAt", at)));
            times.push(("FinishedAt", at_ms));
        }
    }
    times
}

fn ports(seen: &ContainerObserved) -> Value {
    let port = |b: &state::group::NetworkBinding| {
        json!({
            "ContainerPort": b.container_port,
            "Protocol": b.protocol,
            "HostPort": b.host_port,
            "HostIp": b.bind_ip,
        })
    };
    seen.bindings.iter().map(port).collect()
}

fn labels(assignment: &Assignment, spec: &ContainerSpec) -> Value {
    let own = [
        ("com.amazonaws.ecs.cluster", cluster(assignment)),
        ("com.amazonaws.ecs.container-name", spec.name.clone()),
        ("com.amazonaws.ecs.task-arn", assignment.task_arn.clone()),
        ("com.amazonaws.ecs.task-definition-family", assignment.spec.family.clone()),
        ("com.amazonaws.ecs.task-definition-version", assignment.spec.revision.to_string()),
    ];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    let given = spec.labels.iter().map(|(name, value)| (name.clone(), value.clone()));
    given.chain(own).map(|(name, value)| (name, Value::from(value))).collect::<Map<_, _>>().into()
}

fn volumes(assignment: &Assignment, spec: &ContainerSpec) -> Vec<Value> {
    let volume = |mount: &state::group::MountPoint| {
        let volume = assignment.spec.volumes.iter().find(|v| v.name == mount.volume)?;
        Some(match &volume.source {
            VolumeSource::Host { path } => json!({"Source": path, "Destination": mount.container_path}),
            VolumeSource::Named { name, .. } => {
                json!({"DockerName": name, "Destination": mount.container_path})
            }
            VolumeSource::Scratch => json!({"DockerName": volume.name, "Destination": mount.container_path}),
        })
    };
    spec.mount_points.iter().filter_map(volume).collect()
}

fn log_driver(facts: &Facts, index: usize) -> Option<(&'static str, Value)> {
    match facts.assignment.spec.containers[index].log.as_ref()? {
        LogDestination::Awslogs { group, region, create_group, .. } => {
            let mut options = Map::new();
            if *create_group {
                options.insert("awslogs-create-group".into(), "true".into());
            }
            options.insert("awslogs-group".into(), group.clone().into());
            options.insert("awslogs-region".into(), region.clone().into());
            if let Some(name) = super::super::logs::destination(&facts.assignment, index) {
                options.insert("awslogs-stream".into(), name.stream.into());
            }
            Some(("awslogs", options.into()))
        }
        LogDestination::Discard => Some(("none", json!({}))),
    }
}

fn network(assignment: &Assignment, local: &LocalContainer) -> Value {
    let mode = match assignment.spec.network_mode {
        NetworkMode::Awsvpc => "awsvpc",
        NetworkMode::Bridge => "bridge",
        NetworkMode::Host => "host",
        NetworkMode::None => "none",
    };
    match (&assignment.network, local.address) {
        (Some(network), _) => {
            let attachment = &network.attachment;
            json!({
                "NetworkMode": mode,
                "IPv4Addresses": [attachment.private_ip.to_string()],
                "AttachmentIndex": 0,
                "MACAddress": attachment.mac,
                "IPv4SubnetCIDRBlock": network.subnet_cidr.to_string(),
                "DomainNameServers": [DNS_ADDRESS.to_string()],
                "DomainNameSearchList": [internal_domain(&assignment.region)],
                "PrivateDNSName": host_name(attachment.private_ip, &assignment.region),
                "SubnetGatewayIpv4Address": format!("{}/{}", network.gateway, network.subnet_cidr.prefix),
            })
        }
        (None, Some(address)) => json!({"NetworkMode": mode, "IPv4Addresses": [address.to_string()]}),
        (None, None) => json!({"NetworkMode": mode}),
    }
}
