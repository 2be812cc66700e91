//! Volumes of a task definition.

use state::group::{Volume, VolumeSource};
use wire::Fault;
use wire::shapes::ecs as w;

use crate::ecs::faults::{client, refuse, refuse_true, unsupported};

/// What a volume is.
pub fn compile(volume: &w::Volume) -> Result<Volume, Fault> {
    let w::Volume {
        name,
        host,
        docker_volume_configuration,
        efs_volume_configuration,
        s3files_volume_configuration,
        fsx_windows_file_server_volume_configuration,
        configured_at_launch,
    } = volume;
    refuse("efsVolumeConfiguration", efs_volume_configuration)?;
    refuse("s3filesVolumeConfiguration", s3files_volume_configuration)?;
    refuse("fsxWindowsFileServerVolumeConfiguration", fsx_windows_file_server_volume_configuration)?;
    refuse_true("configuredAtLaunch", *configured_at_launch)?;
    let name = name.clone().unwrap_or_default();
    let path = host.as_ref().and_then(|w::HostVolumeProperties { source_path }| source_path.clone());
    let source = match (path, docker_volume_configuration) {
        (Some(_), Some(_)) => {
            return Err(client(format!(
                "Volume '{name}' cannot have both 'host' and 'dockerVolumeConfiguration' set."
            )));
        }
        (Some(path), None) if path.starts_with('/') => VolumeSource::Host { path },
        (Some(path), None) => {
            return Err(client(format!(
                "Invalid 'sourcePath' setting for volume '{name}': {path} is not absolute."
            )));
        }
        (None, Some(docker)) => named(&name, docker)?,
        (None, None) => VolumeSource::Scratch,
    };
    Ok(Volume { name, source })
}

fn named(volume: &str, docker: &w::DockerVolumeConfiguration) -> Result<VolumeSource, Fault> {
    let w::DockerVolumeConfiguration { scope, autoprovision, driver, driver_opts, labels } = docker;
    if driver.as_deref().is_some_and(|driver| driver != "local") {
        return Err(unsupported(&format!(
            "driver '{}' of volume '{volume}'",
            driver.clone().unwrap_or_default()
        )));
    }
    if driver_opts.as_ref().is_some_and(|options| !options.is_empty()) {
        return Err(unsupported("driverOpts"));
    }
    if labels.as_ref().is_some_and(|labels| !labels.is_empty()) {
        return Err(unsupported("labels of a volume"));
    }
    let shared = match scope.as_deref() {
        None | Some("task") => false,
        Some("shared") => true,
        Some(other) => return Err(client(format!("Invalid 'scope' setting for volume '{volume}': {other}"))),
    };
    if autoprovision.is_some() && !shared {
        return Err(client("Autoprovision is only supported for volumes with shared scope."));
    }
    Ok(VolumeSource::Named {
        name: volume.to_owned(),
        shared,
        autoprovision: !shared || autoprovision.unwrap_or(false),
    })
}
