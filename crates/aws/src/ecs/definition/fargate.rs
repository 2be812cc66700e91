//! What makes a task definition one that Fargate can run ("Task definition differences for Fargate", ECS guide).

use state::group::NetworkMode;
use wire::Fault;
use wire::shapes::ecs as w;

use crate::ecs::faults::client;

/// Checks a document, defaults filled in, against Fargate's rules.
pub fn check(document: &w::TaskDefinition, mode: NetworkMode) -> Result<(), Fault> {
    if mode != NetworkMode::Awsvpc {
        return Err(client("Fargate only supports network mode ‘awsvpc’."));
    }
    let needed = |what: &str| client(format!("Fargate requires that '{what}' be defined at the task level."));
    let cpu = document.cpu.as_ref().ok_or_else(|| needed("cpu"))?;
    let memory = document.memory.as_ref().ok_or_else(|| needed("memory"))?;
    check_size(cpu.parse().unwrap_or(0), memory.parse().unwrap_or(0))?;
    let unsupported =
        |what: &str| client(format!("Fargate compatible task definitions do not support {what}"));
    if document.ipc_mode.is_some() {
        return Err(unsupported("ipcMode"));
    }
    if document.pid_mode.as_deref() == Some("host") {
        return Err(client("Tasks using the Fargate launch type do not support pidMode 'host'"));
    }
    if document.placement_constraints.as_ref().is_some_and(|c| !c.is_empty()) {
        return Err(unsupported("constraints"));
    }
    for volume in document.volumes.iter().flatten() {
        if volume.host.as_ref().is_some_and(|host| host.source_path.is_some()) {
            return Err(unsupported("sourcePath"));
        }
        if volume.docker_volume_configuration.is_some() {
            return Err(unsupported("dockerVolumeConfiguration"));
        }
    }
    document
        .container_definitions
        .iter()
        .flatten()
        .try_for_each(|container| check_container(document, container))
}

/// Checks a size against Fargate's table ("Task CPU and memory", ECS developer guide).
pub fn check_size(cpu_units: u32, memory_mib: u32) -> Result<(), Fault> {
    let (from, to, step) = match cpu_units {
        256 if memory_mib == 512 => return Ok(()),
        256 => (1024, 2048, 1024),
        512 => (1024, 4096, 1024),
        1024 => (2048, 8192, 1024),
        2048 => (4096, 16_384, 1024),
        4096 => (8192, 30_720, 1024),
        8192 => (16_384, 61_440, 4096),
        16_384 => (32_768, 122_880, 8192),
        _ => (1, 0, 1),
    };
    if (from..=to).contains(&memory_mib) && memory_mib.is_multiple_of(step) {
        return Ok(());
    }
    Err(client(format!(
        "No Fargate configuration exists for given values: {cpu_units} CPU, {memory_mib} memory. See the Amazon ECS \
         documentation for the valid values."
    )))
}

fn check_container(document: &w::TaskDefinition, container: &w::ContainerDefinition) -> Result<(), Fault> {
    if container.privileged == Some(true) {
        return Err(client("Fargate requires that the 'privileged' setting be 'false'"));
    }
    for (what, given) in [("start", container.start_timeout), ("stop", container.stop_timeout)] {
        if given.is_some_and(|seconds| seconds > 120) {
            return Err(client(format!(
                "Tasks using the Fargate launch type must have a container {what} timeout of less than 120 seconds."
            )));
        }
    }
    if let Some(linux) = &container.linux_parameters {
        check_linux(linux)?;
    }
    let role = document.execution_role_arn.is_some();
    let registry = container.image.as_deref().and_then(|image| image.split('/').next()).unwrap_or_default();
    if !role && registry.contains(".dkr.ecr.") {
        return Err(client(
            "Fargate requires task definition to have execution role ARN to support ECR images.",
        ));
    }
    let Some(log) = &container.log_configuration else { return Ok(()) };
    let driver = log.log_driver.as_deref().unwrap_or_default();
    if !matches!(driver, "awslogs" | "splunk" | "awsfirelens") {
        let message =
            format!("{driver} is not a valid log driver. Must be one of [awslogs,splunk,awsfirelens]");
        return Err(client(message));
    }
    if driver == "awslogs" && !role {
        return Err(client(
            "Fargate requires task definition to have execution role ARN to support log driver awslogs.",
        ));
    }
    let prefix = log.options.as_ref().is_some_and(|options| options.contains_key("awslogs-stream-prefix"));
    if driver == "awslogs" && !prefix {
        return Err(client("Fargate requires log configuration options to include awslogs-stream-prefix"));
    }
    Ok(())
}

fn check_linux(linux: &w::LinuxParameters) -> Result<(), Fault> {
    let unsupported =
        |what: &str| client(format!("Fargate compatible task definitions do not support {what}"));
    let added = linux.capabilities.iter().filter_map(|c| c.add.as_ref()).flatten();
    let mut refused = added.filter(|name| *name != "SYS_PTRACE");
    if let Some(capability) = refused.next() {
        return Err(client(format!("{capability} is not allowed on Fargate.")));
    }
    if linux.devices.as_ref().is_some_and(|devices| !devices.is_empty()) {
        return Err(unsupported("devices"));
    }
    if linux.shared_memory_size.is_some() {
        return Err(unsupported("sharedMemorySize"));
    }
    if linux.max_swap.is_some() {
        return Err(unsupported("maxSwap"));
    }
    if linux.swappiness.is_some() {
        return Err(unsupported("swappiness"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_size;

    #[test]
    fn sizes_are_those_of_the_guide() {
        let mut valid = 0;
        for cpu in [256, 512, 1024, 2048, 4096, 8192, 16_384] {
            valid += (1..=131_072).filter(|memory| check_size(cpu, *memory).is_ok()).count();
        }
        assert_eq!(valid, 3 + 4 + 7 + 13 + 23 + 12 + 12);
        assert_eq!(
            check_size(256, 100).unwrap_err().message,
            "No Fargate configuration exists for given values: 256 CPU, 100 memory. See the Amazon ECS documentation \
             for the valid values."
        );
        assert!(check_size(100, 512).is_err());
    }
}
