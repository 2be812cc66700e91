//! What ECS refuses in a task definition, in its words.

use std::collections::{BTreeMap, BTreeSet};

use state::group::{NetworkMode, Ulimit};
use wire::Fault;
use wire::shapes::ecs as w;

use crate::ecs::faults::client;
use crate::ecs::refs::is_name;

/// Checks a document with its defaults filled in.
pub fn check(document: &w::TaskDefinition, mode: NetworkMode) -> Result<(), Fault> {
    let containers = document.container_definitions.as_deref().unwrap_or_default();
    if containers.is_empty() {
        return Err(client("Container list cannot be empty."));
    }
    if containers.len() > 10 {
        return Err(client("Too many containers."));
    }
    let mut names = BTreeSet::new();
    for container in containers {
        named(container)?;
        if !names.insert(container.name.as_deref().unwrap_or_default()) {
            return Err(client("Container names must be unique within a Task Definition."));
        }
    }
    if !containers.iter().any(|c| c.essential == Some(true)) {
        return Err(client("Task definition doesn't have any essential container."));
    }
    let volumes = volume_names(document)?;
    for container in containers {
        sizes(document, container)?;
        ports(container, mode)?;
        network_settings(container, mode)?;
        timing(container)?;
        limits(container)?;
        mounts(container, &volumes, &names)?;
    }
    let cpu: i64 = containers.iter().filter_map(|c| c.cpu).sum();
    if number(&document.cpu).is_some_and(|task| cpu > task) {
        return Err(client(
            "The sum of all container 'cpu' values cannot be greater than the value of the task 'cpu'.",
        ));
    }
    shared_ports(containers)?;
    dependencies(containers)
}

fn number(text: &Option<String>) -> Option<i64> {
    text.as_ref().and_then(|text| text.parse().ok())
}

fn named(container: &w::ContainerDefinition) -> Result<(), Fault> {
    let name = container.name.as_deref().unwrap_or_default();
    if name.is_empty() {
        return Err(client("Container.name should not be null or empty."));
    }
    if !is_name(name) {
        return Err(client("Container.name contains invalid characters."));
    }
    let image = container.image.as_deref().unwrap_or_default();
    if image.is_empty() {
        return Err(client("Container.image should not be null or empty."));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_:./#@+".contains(&b);
    if image.len() > 255 || !image.bytes().all(allowed) {
        return Err(client("Container.image contains invalid characters."));
    }
    Ok(())
}

fn sizes(document: &w::TaskDefinition, container: &w::ContainerDefinition) -> Result<(), Fault> {
    let name = container.name.as_deref().unwrap_or_default();
    let invalid = |what: &str| Err(client(format!("Invalid setting for container '{name}'. {what}")));
    let task = number(&document.memory);
    if task.is_none() && container.memory.is_none() && container.memory_reservation.is_none() {
        return invalid("At least one of 'memory' or 'memoryReservation' must be specified.");
    }
    for (what, given) in [("memory", container.memory), ("memoryReservation", container.memory_reservation)] {
        if given.is_some_and(|mib| !(4..=i64::from(u32::MAX)).contains(&mib)) {
            return invalid(&format!("'{what}' must be at least 4."));
        }
    }
    if container.cpu.is_some_and(|units| !(0..=196_608).contains(&units)) {
        return invalid("'cpu' must not be negative.");
    }
    if let (Some(hard), Some(soft)) = (container.memory, container.memory_reservation)
        && hard < soft
    {
        return invalid("'memory' must be greater than or equal to 'memoryReservation'.");
    }
    let swap = container.linux_parameters.as_ref().and_then(|linux| linux.max_swap);
    if swap.is_some() && container.memory.is_none() {
        return invalid("'maxSwap' needs the container's 'memory' to be specified.");
    }
    let most = container.memory.max(container.memory_reservation);
    if let (Some(task), Some(most)) = (task, most)
        && most > task
    {
        return Err(client(format!(
            "The 'memory' setting for container '{name}' is greater than for the task."
        )));
    }
    Ok(())
}

fn ports(container: &w::ContainerDefinition, mode: NetworkMode) -> Result<(), Fault> {
    let name = container.name.as_deref().unwrap_or_default();
    let mappings = container.port_mappings.as_deref().unwrap_or_default();
    if mode == NetworkMode::None && !mappings.is_empty() {
        return Err(client("Port mappings are not supported when networkMode=none."));
    }
    for mapping in mappings {
        let range = |what: &str, given: Option<i64>, least: i64| match given {
            Some(port) if !(least..=65_535).contains(&port) => {
                Err(client(format!("Invalid '{what}' setting for container '{name}'")))
            }
            _ => Ok(()),
        };
        if mapping.container_port_range.is_some() {
            if mapping.container_port.is_some() || mapping.host_port.is_some() {
                return Err(client("cannot specify both single port and port range"));
            }
            continue;
        }
        range("containerPort", mapping.container_port.or(Some(0)), 1)?;
        range("hostPort", mapping.host_port, 0)?;
        if !matches!(mapping.protocol.as_deref(), Some("tcp" | "udp")) {
            return Err(client(format!("Invalid 'protocol' setting for container '{name}'")));
        }
        let which = match mode {
            NetworkMode::Awsvpc => "awsvpc",
            NetworkMode::Host => "host",
            NetworkMode::Bridge | NetworkMode::None => continue,
        };
        if mapping.host_port != mapping.container_port {
            return Err(client(format!(
                "When networkMode={which}, the host ports and container ports in port mappings must match."
            )));
        }
    }
    Ok(())
}

/// Names of mappings are unique in the task, and so are the host ports that it takes.
fn shared_ports(containers: &[w::ContainerDefinition]) -> Result<(), Fault> {
    let (mut names, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for mapping in containers.iter().flat_map(|c| c.port_mappings.iter().flatten()) {
        if mapping.name.as_ref().is_some_and(|name| !names.insert(name)) {
            return Err(client("port mapping name is already used"));
        }
        let port = mapping.host_port.filter(|port| *port > 0);
        if port.is_some_and(|port| !taken.insert((port, &mapping.protocol))) {
            return Err(client(format!(
                "host port {} is used multiple times in task",
                port.unwrap_or_default()
            )));
        }
    }
    Ok(())
}

fn network_settings(container: &w::ContainerDefinition, mode: NetworkMode) -> Result<(), Fault> {
    let some = |list: bool, what: &str| if list { Err(client(what)) } else { Ok(()) };
    if mode == NetworkMode::Awsvpc {
        let filled = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
        some(filled(&container.links), "Links are not supported when networkMode=awsvpc.")?;
        some(
            container.hostname.is_some(),
            "hostname is not supported on container when networkMode=awsvpc.",
        )?;
        some(
            container.disable_networking == Some(true),
            "Disable Networking is not supported on container when networkMode=awsvpc.",
        )?;
        some(
            filled(&container.dns_servers),
            "DNS servers are not supported on container when networkMode=awsvpc.",
        )?;
        some(
            filled(&container.dns_search_domains),
            "DNS search domains are not supported on container when networkMode=awsvpc.",
        )?;
        some(
            container.extra_hosts.as_ref().is_some_and(|hosts| !hosts.is_empty()),
            "Extra hosts are not supported on container when networkMode=awsvpc.",
        )?;
    }
    let net =
        |control: &w::SystemControl| control.namespace.as_deref().is_some_and(|n| n.starts_with("net."));
    let controls = container.system_controls.as_deref().unwrap_or_default();
    some(
        mode == NetworkMode::Host && controls.iter().any(net),
        "Network system controls are not supported when networkMode=host.",
    )?;
    for server in container.dns_servers.iter().flatten() {
        some(
            server.parse::<std::net::IpAddr>().is_err(),
            &format!("Invalid 'dnsServers' setting: {server}"),
        )?;
    }
    for host in container.extra_hosts.iter().flatten() {
        let address = host.ip_address.as_deref().unwrap_or_default();
        some(
            address.parse::<std::net::IpAddr>().is_err(),
            &format!("Invalid 'extraHosts' setting: {address}"),
        )?;
    }
    Ok(())
}

fn timing(container: &w::ContainerDefinition) -> Result<(), Fault> {
    let name = container.name.as_deref().unwrap_or_default();
    for (what, given) in [("start", container.start_timeout), ("stop", container.stop_timeout)] {
        if given.is_some_and(|seconds| !(2..=i64::from(u32::MAX)).contains(&seconds)) {
            let message =
                format!("Granular {what} timeout on container '{name}' must be at least 2 seconds.");
            return Err(client(message));
        }
    }
    if let Some(check) = &container.health_check {
        health_check(name, check)?;
    }
    let Some(policy) = &container.restart_policy else { return Ok(()) };
    let between = |value: Option<i64>, from, to| value.is_none_or(|value| (from..=to).contains(&value));
    if !between(policy.restart_attempt_period, 60, 1800) {
        return Err(client(format!(
            "the 'restartAttemptPeriod' setting for container '{name}' must be between 60 and 1800"
        )));
    }
    let codes = policy.ignored_exit_codes.as_deref().unwrap_or_default();
    if codes.len() > 50 || codes.iter().any(|code| !(0..=255).contains(code)) {
        return Err(client(format!("Invalid 'ignoredExitCodes' setting for container '{name}'")));
    }
    Ok(())
}

fn health_check(name: &str, check: &w::HealthCheck) -> Result<(), Fault> {
    let words = check.command.as_deref().unwrap_or_default();
    let known = match words.first().map(String::as_str) {
        Some("CMD" | "CMD-SHELL") => words.len() > 1,
        Some("NONE") => words.len() == 1,
        _ => false,
    };
    if !known {
        return Err(client(format!(
            "Container health check's command of container '{name}' is invalid: it must start with CMD or CMD-SHELL."
        )));
    }
    let bounds = [
        ("interval", check.interval, 5, 300),
        ("timeout", check.timeout, 2, 60),
        ("retries", check.retries, 1, 10),
        ("startPeriod", check.start_period, 0, 300),
    ];
    for (what, value, from, to) in bounds {
        if value.is_some_and(|value| !(from..=to).contains(&value)) {
            return Err(client(format!(
                "Container health check's {what} value of container '{name}' is invalid: it must be between {from} \
                 and {to}."
            )));
        }
    }
    Ok(())
}

fn limits(container: &w::ContainerDefinition) -> Result<(), Fault> {
    let mut seen = BTreeSet::new();
    for limit in container.ulimits.iter().flatten() {
        let name = limit.name.as_deref().unwrap_or_default();
        if !Ulimit::NAMES.contains(&name) {
            return Err(client(format!("Invalid ulimit '{name}'")));
        }
        if !seen.insert(name) {
            return Err(client(format!("Duplicate ulimit '{name}'")));
        }
        let (Some(soft), Some(hard)) = (limit.soft_limit, limit.hard_limit) else {
            return Err(client(format!("Ulimit '{name}' must have a softLimit and a hardLimit")));
        };
        // -1 is without limit.
        let reach = |value: i64| if value < 0 { i64::MAX } else { value };
        if soft < -1 || hard < -1 || reach(soft) > reach(hard) {
            return Err(client(format!("Soft limit exceeds hard limit for ulimit {name}")));
        }
    }
    for pair in container.environment.iter().flatten() {
        let name = pair.name.as_deref().unwrap_or_default();
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(client(format!("Invalid environment variable name '{name}'")));
        }
    }
    for control in container.system_controls.iter().flatten() {
        if control.namespace.as_ref().is_none_or(String::is_empty) || control.value.is_none() {
            return Err(client("System controls must have a namespace and a value."));
        }
    }
    Ok(())
}

fn volume_names(document: &w::TaskDefinition) -> Result<BTreeSet<&str>, Fault> {
    let mut names = BTreeSet::new();
    for volume in document.volumes.iter().flatten() {
        let name = volume.name.as_deref().unwrap_or_default();
        if !is_name(name) {
            return Err(client("Volume.name contains invalid characters."));
        }
        if !names.insert(name) {
            return Err(client("Volume names must be unique within a Task Definition."));
        }
    }
    Ok(names)
}

fn mounts(
    container: &w::ContainerDefinition,
    volumes: &BTreeSet<&str>,
    containers: &BTreeSet<&str>,
) -> Result<(), Fault> {
    let mut paths = BTreeSet::new();
    for mount in container.mount_points.iter().flatten() {
        let volume = mount.source_volume.as_deref().unwrap_or_default();
        if !volumes.contains(volume) {
            return Err(client(format!("Unknown volume '{volume}'.")));
        }
        let path = mount.container_path.as_deref().unwrap_or_default();
        if !path.starts_with('/') {
            return Err(client(format!("Invalid 'containerPath' setting for volume '{volume}'.")));
        }
        if !paths.insert(path) {
            return Err(client(format!("Duplicate 'containerPath' setting: {path}")));
        }
    }
    for from in container.volumes_from.iter().flatten() {
        let source = from.source_container.as_deref().unwrap_or_default();
        if !containers.contains(source) || container.name.as_deref() == Some(source) {
            return Err(client(format!("Invalid 'volumesFrom' setting. Unknown container: '{source}'.")));
        }
    }
    Ok(())
}

/// Dependencies exist, can be met, and end.
fn dependencies(containers: &[w::ContainerDefinition]) -> Result<(), Fault> {
    let by_name: BTreeMap<&str, &w::ContainerDefinition> =
        containers.iter().filter_map(|c| Some((c.name.as_deref()?, c))).collect();
    for container in containers {
        for dependency in container.depends_on.iter().flatten() {
            let on = dependency.container_name.as_deref().unwrap_or_default();
            let Some(other) = by_name.get(on) else {
                return Err(client(format!("Cannot depend on container + '{on}' because it does not exist")));
            };
            match dependency.condition.as_deref().unwrap_or_default() {
                "SUCCESS" | "COMPLETE" if other.essential == Some(true) => {
                    return Err(client(
                        "A dependency container with SUCCESS or COMPLETE condition cannot be an essential container",
                    ));
                }
                "HEALTHY" if other.health_check.is_none() => {
                    return Err(client(
                        "A dependency container with HEALTHY condition must have health check configured",
                    ));
                }
                _ => {}
            }
        }
    }
    let mut done = BTreeSet::new();
    for name in by_name.keys() {
        let mut path = Vec::new();
        if !ends(name, &by_name, &mut path, &mut done) {
            return Err(client("Container dependencies should not have a cycle"));
        }
    }
    Ok(())
}

/// Whether the dependencies of a container, and of volumes it takes from others, lead to an end.
fn ends<'a>(
    name: &'a str,
    by_name: &BTreeMap<&'a str, &'a w::ContainerDefinition>,
    path: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> bool {
    if done.contains(name) {
        return true;
    }
    if path.contains(&name) {
        return false;
    }
    let Some(container) = by_name.get(name) else { return true };
    path.push(name);
    let starts = container.depends_on.iter().flatten().filter_map(|d| d.container_name.as_deref());
    let volumes = container.volumes_from.iter().flatten().filter_map(|v| v.source_container.as_deref());
    let all_end = starts.chain(volumes).all(|next| ends(next, by_name, path, done));
    path.pop();
    done.insert(name);
    all_end
}
