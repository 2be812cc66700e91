//! Volumes: folders of the group, of the node and of the host, and what of them each container mounts.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use state::group::{ContainerSpec, GroupSpec, Volume, VolumeSource};

/// A folder or file mounted in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub target: String,
    /// Mounted read-only.
    pub read_only: bool,
    /// While it is empty it is filled with what the image has at the target, as Docker does for its volumes.
    pub fill: bool,
}

/// Where the volumes of a node and of a group are.
#[derive(Debug, Clone)]
pub struct Places {
    /// Of the node: one folder per shared volume.
    pub node: PathBuf,
    /// Of the group: one folder per volume that goes with it.
    pub group: PathBuf,
}

impl Places {
    fn folder(&self, volume: &Volume) -> PathBuf {
        match &volume.source {
            VolumeSource::Scratch => self.group.join(file_name(&volume.name)),
            VolumeSource::Host { path } => path.into(),
            VolumeSource::Named { name, shared: true, .. } => self.node.join(file_name(name)),
            VolumeSource::Named { name, shared: false, .. } => self.group.join(file_name(name)),
        }
    }

    /// Makes all volumes of a group, or what is missing of them.
    ///
    /// # Errors
    /// In ECS's words.
    pub fn make(&self, spec: &GroupSpec) -> Result<(), String> {
        for volume in &spec.volumes {
            let folder = self.folder(volume);
            let made = match &volume.source {
                VolumeSource::Scratch => make_folder(&folder, 0o755),
                VolumeSource::Host { path } if !path.starts_with('/') => {
                    Err(io::Error::other(format!("{path:?} is not an absolute path")))
                }
                VolumeSource::Host { .. } => make_folder(&folder, 0o755),
                VolumeSource::Named { name, shared: true, autoprovision: false } if !folder.is_dir() => {
                    Err(io::Error::new(io::ErrorKind::NotFound, format!("get {name}: no such volume")))
                }
                VolumeSource::Named { .. } => make_folder(&folder, 0o755),
            };
            made.map_err(|err| format!("CannotCreateVolumeError: volume {}: {err}", volume.name))?;
        }
        Ok(())
    }

    /// What a container mounts, its own before those of `volumesFrom`.
    ///
    /// # Errors
    /// In ECS's words, when something is named that is not there.
    pub fn binds(&self, spec: &GroupSpec, container: &ContainerSpec) -> Result<Vec<Bind>, String> {
        let mut binds = Vec::new();
        self.collect(spec, container, false, &mut Vec::new(), &mut binds)?;
        Ok(binds)
    }

    fn collect<'a>(
        &self,
        spec: &'a GroupSpec,
        container: &'a ContainerSpec,
        read_only: bool,
        seen: &mut Vec<&'a str>,
        binds: &mut Vec<Bind>,
    ) -> Result<(), String> {
        // Containers may mount each other's volumes in a circle.
        if seen.contains(&container.name.as_str()) {
            return Ok(());
        }
        seen.push(&container.name);
        for mount in &container.mount_points {
            let volume = spec.volumes.iter().find(|v| v.name == mount.volume);
            let volume =
                volume.ok_or_else(|| format!("CannotCreateContainerError: no volume {}", mount.volume))?;
            if binds.iter().any(|b: &Bind| b.target == mount.container_path) {
                continue;
            }
            binds.push(Bind {
                source: self.folder(volume),
                target: mount.container_path.clone(),
                read_only: mount.read_only || read_only,
                fill: !matches!(volume.source, VolumeSource::Host { .. }),
            });
        }
        for from in &container.volumes_from {
            let other = spec.containers.iter().find(|c| c.name == from.container);
            let other = other
                .ok_or_else(|| format!("CannotCreateContainerError: no container {}", from.container))?;
            self.collect(spec, other, read_only || from.read_only, seen, binds)?;
        }
        Ok(())
    }
}

fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    if path.exists() {
        // A file of the host may be mounted as well.
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// A name that is one file name, whatever a user calls a volume. Two names never become one.
fn file_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
    let mut safe = String::from("v-");
    for c in name.chars() {
        if plain(c) {
            safe.push(c);
        } else {
            safe.push_str(&format!("%{:x}%", u32::from(c)));
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::group::{MountPoint, VolumesFrom};

    fn mount(volume: &str, path: &str) -> MountPoint {
        MountPoint { volume: volume.into(), container_path: path.into(), read_only: false }
    }

    fn from(container: &str, read_only: bool) -> VolumesFrom {
        VolumesFrom { container: container.into(), read_only }
    }

    fn group() -> GroupSpec {
        let volume = |name: &str, source| Volume { name: name.into(), source };
        let named = |shared| VolumeSource::Named { name: "data".into(), shared, autoprovision: true };
        let a = ContainerSpec {
            name: "a".into(),
            mount_points: vec![mount("scratch", "/s"), mount("host", "/h")],
            volumes_from: vec![from("b", true)],
            ..ContainerSpec::default()
        };
        let b = ContainerSpec {
            name: "b".into(),
            mount_points: vec![mount("shared", "/d"), mount("own", "/s")],
            volumes_from: vec![from("a", false)],
            ..ContainerSpec::default()
        };
        GroupSpec {
            containers: vec![a, b],
            volumes: vec![
                volume("scratch", VolumeSource::Scratch),
                volume("host", VolumeSource::Host { path: "/srv/x".into() }),
                volume("shared", named(true)),
                volume("own", named(false)),
            ],
            ..GroupSpec::default()
        }
    }

    #[test]
    fn mounts_are_collected_over_volumes_from() {
        let places = Places { node: "/node".into(), group: "/group".into() };
        let spec = group();
        let binds = places.binds(&spec, &spec.containers[0]).unwrap();
        let text: Vec<String> = binds
            .iter()
            .map(|b| format!("{}:{}:{}:{}", b.source.display(), b.target, b.read_only, b.fill))
            .collect();
        assert_eq!(
            text,
            ["/group/v-scratch:/s:false:true", "/srv/x:/h:false:false", "/node/v-data:/d:true:true"]
        );
        let mut broken = spec.clone();
        broken.volumes.clear();
        assert!(places.binds(&broken, &spec.containers[0]).is_err());
    }

    #[test]
    fn volumes_are_made_where_they_belong_and_an_absent_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places { node: dir.path().join("node"), group: dir.path().join("group") };
        let mut spec = group();
        spec.volumes[1].source = VolumeSource::Host { path: dir.path().join("a/b").display().to_string() };
        places.make(&spec).unwrap();
        places.make(&spec).unwrap();
        for path in ["group/v-scratch", "a/b", "node/v-data", "group/v-data"] {
            assert!(dir.path().join(path).is_dir(), "{path}");
        }
        spec.volumes[2].source =
            VolumeSource::Named { name: "none".into(), shared: true, autoprovision: false };
        let err = places.make(&spec).unwrap_err();
        assert_eq!(err, "CannotCreateVolumeError: volume shared: get none: no such volume");
        assert_eq!(file_name("../x"), "v-..%2f%x");
    }
}
