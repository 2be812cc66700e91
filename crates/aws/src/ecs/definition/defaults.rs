//! The defaults that ECS writes into a task definition when it is registered, and shows from then on.

use state::group::NetworkMode;
use wire::shapes::ecs as w;

/// Fills in what was not given.
pub fn fill(document: &mut w::TaskDefinition, mode: NetworkMode) {
    for container in document.container_definitions.iter_mut().flatten() {
        container.cpu.get_or_insert(0);
        container.essential.get_or_insert(true);
        container.port_mappings.get_or_insert_default();
        container.environment.get_or_insert_default();
        container.mount_points.get_or_insert_default();
        container.volumes_from.get_or_insert_default();
        container.system_controls.get_or_insert_default();
        for port in container.port_mappings.iter_mut().flatten() {
            fill_port(port, mode);
        }
        if let Some(check) = &mut container.health_check {
            check.interval.get_or_insert(30);
            check.timeout.get_or_insert(5);
            check.retries.get_or_insert(3);
        }
    }
    for volume in document.volumes.iter_mut().flatten() {
        let other = volume.docker_volume_configuration.is_some()
            || volume.efs_volume_configuration.is_some()
            || volume.s3files_volume_configuration.is_some()
            || volume.fsx_windows_file_server_volume_configuration.is_some()
            || volume.configured_at_launch == Some(true);
        if !other {
            volume.host.get_or_insert_default();
        }
        if let Some(docker) = &mut volume.docker_volume_configuration {
            docker.scope.get_or_insert_with(|| "task".into());
            docker.driver.get_or_insert_with(|| "local".into());
        }
    }
}

fn fill_port(port: &mut w::PortMapping, mode: NetworkMode) {
    port.protocol.get_or_insert_with(|| "tcp".into());
    if port.container_port_range.is_some() {
        return;
    }
    match mode {
        NetworkMode::Awsvpc | NetworkMode::Host => port.host_port = port.host_port.or(port.container_port),
        NetworkMode::Bridge | NetworkMode::None => {
            port.host_port.get_or_insert(0);
        }
    }
}
