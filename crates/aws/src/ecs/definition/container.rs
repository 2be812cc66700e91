//! From a container definition to what a node runs.

use state::GroupSpec;
use state::group::{
    Condition, ContainerSpec, Demand, Dependency, HealthCheck, MountPoint, NetworkMode, PortMapping,
    RestartPolicy, Ulimit, VolumesFrom,
};
use wire::Fault;
use wire::shapes::ecs as w;

use super::{linux, logs};
use crate::ecs::faults::{client, refuse, refuse_list, refuse_true};

/// Between SIGTERM and SIGKILL where a definition does not say.
const STOP_TIMEOUT_S: u32 = 30;

/// Refuses what is not had. Every member is named here: one that a new model adds does not compile until it is either
/// refused here or compiled below.
fn refuse_missing(container: &w::ContainerDefinition) -> Result<(), Fault> {
    let w::ContainerDefinition {
        repository_credentials,
        links,
        environment_files,
        secrets,
        disable_networking,
        docker_security_options,
        resource_requirements,
        firelens_configuration,
        credential_specs,
        // Compiled below.
        name: _,
        image: _,
        version_consistency: _,
        cpu: _,
        memory: _,
        memory_reservation: _,
        port_mappings: _,
        essential: _,
        restart_policy: _,
        entry_point: _,
        command: _,
        environment: _,
        mount_points: _,
        volumes_from: _,
        linux_parameters: _,
        depends_on: _,
        start_timeout: _,
        stop_timeout: _,
        hostname: _,
        user: _,
        working_directory: _,
        privileged: _,
        readonly_root_filesystem: _,
        dns_servers: _,
        dns_search_domains: _,
        extra_hosts: _,
        interactive: _,
        pseudo_terminal: _,
        docker_labels: _,
        ulimits: _,
        log_configuration: _,
        health_check: _,
        system_controls: _,
    } = container;
    refuse("repositoryCredentials", repository_credentials)?;
    refuse_list("links", links)?;
    refuse_list("environmentFiles", environment_files)?;
    refuse_list("secrets", secrets)?;
    refuse_true("disableNetworking", *disable_networking)?;
    refuse_list("dockerSecurityOptions", docker_security_options)?;
    refuse_list("resourceRequirements", resource_requirements)?;
    refuse("firelensConfiguration", firelens_configuration)?;
    refuse_list("credentialSpecs", credential_specs)
}

/// Compiles a container definition that has its defaults filled in and was checked.
pub fn compile(c: &w::ContainerDefinition, mode: NetworkMode) -> Result<ContainerSpec, Fault> {
    refuse_missing(c)?;
    Ok(ContainerSpec {
        name: c.name.clone().unwrap_or_default(),
        image: c.image.clone().unwrap_or_default(),
        image_digest: None,
        follows_tag: c.version_consistency.as_deref() == Some("disabled"),
        command: c.command.clone().filter(|words| !words.is_empty()),
        entry_point: c.entry_point.clone().filter(|words| !words.is_empty()),
        environment: c.environment.iter().flatten().map(pair).collect(),
        working_directory: c.working_directory.clone(),
        user: c.user.clone(),
        cpu_units: unsigned(c.cpu).unwrap_or(0),
        memory_mib: unsigned(c.memory),
        memory_reservation_mib: unsigned(c.memory_reservation),
        essential: c.essential.unwrap_or(true),
        port_mappings: c.port_mappings.iter().flatten().map(|p| port(p, mode)).collect::<Result<_, _>>()?,
        mount_points: c.mount_points.iter().flatten().map(mount_point).collect(),
        volumes_from: c.volumes_from.iter().flatten().map(volume_from).collect(),
        depends_on: c.depends_on.iter().flatten().map(dependency).collect::<Result<_, _>>()?,
        health_check: c.health_check.as_ref().and_then(check),
        start_timeout_s: unsigned(c.start_timeout),
        stop_timeout_s: unsigned(c.stop_timeout).unwrap_or(STOP_TIMEOUT_S),
        ulimits: c.ulimits.iter().flatten().map(ulimit).collect(),
        readonly_root_filesystem: c.readonly_root_filesystem.unwrap_or(false),
        privileged: c.privileged.unwrap_or(false),
        linux: c.linux_parameters.as_ref().map(linux::compile).transpose()?.unwrap_or_default(),
        system_controls: c.system_controls.iter().flatten().map(system_control).collect(),
        log: c.log_configuration.as_ref().map(logs::compile).transpose()?.flatten(),
        restart_policy: c.restart_policy.as_ref().and_then(restart),
        hostname: c.hostname.clone(),
        dns_servers: c.dns_servers.clone().unwrap_or_default(),
        dns_search_domains: c.dns_search_domains.clone().unwrap_or_default(),
        extra_hosts: c.extra_hosts.iter().flatten().map(host_entry).collect(),
        labels: c.docker_labels.clone().unwrap_or_default(),
        interactive: c.interactive.unwrap_or(false),
        pseudo_terminal: c.pseudo_terminal.unwrap_or(false),
    })
}

/// What placement reserves: the task's own size, else the sum of its containers'.
pub fn demand_of(spec: &GroupSpec) -> Demand {
    let containers = || spec.containers.iter();
    let cpu: u32 = containers().map(|c| c.cpu_units).sum();
    let memory: u32 = containers().filter_map(|c| c.memory_reservation_mib.or(c.memory_mib)).sum();
    let ports = containers().flat_map(|c| &c.port_mappings);
    let fixed = |p: &PortMapping| Some((p.host_port.filter(|port| *port > 0)?, p.protocol.clone()));
    Demand {
        cpu_units: spec.cpu_limit_units.unwrap_or(cpu),
        memory_mib: spec.memory_limit_mib.unwrap_or(memory),
        host_ports: match spec.network_mode {
            NetworkMode::Bridge | NetworkMode::Host => ports.filter_map(fixed).collect(),
            NetworkMode::Awsvpc | NetworkMode::None => Vec::new(),
        },
    }
}

/// Checked before: never negative and within 32 bits.
fn unsigned(number: Option<i64>) -> Option<u32> {
    number.and_then(|n| u32::try_from(n).ok())
}

fn pair(pair: &w::KeyValuePair) -> (String, String) {
    let w::KeyValuePair { name, value } = pair;
    (name.clone().unwrap_or_default(), value.clone().unwrap_or_default())
}

fn port(mapping: &w::PortMapping, mode: NetworkMode) -> Result<PortMapping, Fault> {
    let w::PortMapping { container_port, host_port, protocol, name, app_protocol, container_port_range } =
        mapping;
    refuse("containerPortRange", container_port_range)?;
    let port = |n: Option<i64>| n.and_then(|n| u16::try_from(n).ok());
    let host_port = match mode {
        // The group's own namespace: no port of the host is taken.
        NetworkMode::Awsvpc | NetworkMode::None => None,
        NetworkMode::Bridge | NetworkMode::Host => port(*host_port),
    };
    Ok(PortMapping {
        container_port: port(*container_port).unwrap_or(0),
        host_port,
        protocol: protocol.clone().unwrap_or_else(|| "tcp".into()),
        name: name.clone(),
        app_protocol: app_protocol.clone(),
    })
}

fn mount_point(mount: &w::MountPoint) -> MountPoint {
    let w::MountPoint { source_volume, container_path, read_only } = mount;
    MountPoint {
        volume: source_volume.clone().unwrap_or_default(),
        container_path: container_path.clone().unwrap_or_default(),
        read_only: read_only.unwrap_or(false),
    }
}

fn volume_from(from: &w::VolumeFrom) -> VolumesFrom {
    let w::VolumeFrom { source_container, read_only } = from;
    VolumesFrom {
        container: source_container.clone().unwrap_or_default(),
        read_only: read_only.unwrap_or(false),
    }
}

fn dependency(depends: &w::ContainerDependency) -> Result<Dependency, Fault> {
    let w::ContainerDependency { container_name, condition } = depends;
    let condition = match condition.as_deref().unwrap_or_default() {
        "START" => Condition::Start,
        "COMPLETE" => Condition::Complete,
        "SUCCESS" => Condition::Success,
        "HEALTHY" => Condition::Healthy,
        other => return Err(client(format!("Invalid container dependency condition '{other}'"))),
    };
    Ok(Dependency { container: container_name.clone().unwrap_or_default(), condition })
}

/// `None` for `NONE`, which turns an image's own check off.
fn check(check: &w::HealthCheck) -> Option<HealthCheck> {
    let w::HealthCheck { command, interval, timeout, retries, start_period } = check;
    let words = command.clone().unwrap_or_default();
    let (kind, rest) = words.split_first()?;
    let command = match kind.as_str() {
        "CMD" => rest.to_vec(),
        "CMD-SHELL" => ["/bin/sh".into(), "-c".into()].into_iter().chain(rest.iter().cloned()).collect(),
        _ => return None,
    };
    Some(HealthCheck {
        command,
        interval_s: unsigned(*interval).unwrap_or(30),
        timeout_s: unsigned(*timeout).unwrap_or(5),
        retries: unsigned(*retries).unwrap_or(3),
        start_period_s: unsigned(*start_period).unwrap_or(0),
    })
}

fn ulimit(limit: &w::Ulimit) -> Ulimit {
    let w::Ulimit { name, soft_limit, hard_limit } = limit;
    Ulimit {
        name: name.clone().unwrap_or_default(),
        soft: soft_limit.unwrap_or(0),
        hard: hard_limit.unwrap_or(0),
    }
}

fn system_control(control: &w::SystemControl) -> (String, String) {
    let w::SystemControl { namespace, value } = control;
    (namespace.clone().unwrap_or_default(), value.clone().unwrap_or_default())
}

fn restart(policy: &w::ContainerRestartPolicy) -> Option<RestartPolicy> {
    let w::ContainerRestartPolicy { enabled, ignored_exit_codes, restart_attempt_period } = policy;
    let ignored = ignored_exit_codes.iter().flatten().filter_map(|code| i32::try_from(*code).ok());
    enabled.unwrap_or(false).then(|| RestartPolicy {
        ignored_exit_codes: ignored.collect(),
        attempt_period_s: unsigned(*restart_attempt_period).unwrap_or(300),
    })
}

fn host_entry(entry: &w::HostEntry) -> (String, String) {
    let w::HostEntry { hostname, ip_address } = entry;
    (hostname.clone().unwrap_or_default(), ip_address.clone().unwrap_or_default())
}
