//! What to run: a task definition (or pod) with its overrides, compiled once.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ecs::TaskDefinition;
use crate::record::Record;
use crate::{Tx, digest};

/// A compiled specification, stored once for all groups that run it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpecRecord {
    /// What the spec is called: the task definition's key, plus a digest if anything was changed ([`changed`]).
    pub id: String,
    /// The spec.
    pub spec: Arc<GroupSpec>,
}

impl Record for SpecRecord {
    const TABLE: u8 = 8;

    fn key(&self) -> String {
        self.id.clone()
    }
}

/// What was made of a task definition's specification, and the id of its record: the definition's key, plus a digest if
/// anything was changed.
pub fn changed(tx: &Tx, definition: &TaskDefinition, spec: GroupSpec) -> (String, Arc<GroupSpec>) {
    if spec == *definition.spec {
        return (definition.key(), definition.spec.clone());
    }
    let text = serde_json::to_string(&spec).expect("a spec is plain data");
    let mut id = format!("{}+{}", definition.key(), digest::hex32(&text));
    // The digest is short and not secret: another spec may have it.
    while tx.get::<SpecRecord>(&id).is_some_and(|other| *other.spec != spec) {
        id.push('+');
    }
    (id, Arc::new(spec))
}

/// What a group runs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct GroupSpec {
    /// The containers, in the order given.
    pub containers: Vec<ContainerSpec>,
    /// How the group is connected.
    pub network_mode: NetworkMode,
    /// Volumes that containers mount.
    pub volumes: Vec<Volume>,
    /// What placement reserves on the node.
    pub demand: Demand,
    /// `memberOf` expressions that its node must meet, whoever launches it.
    #[serde(default)]
    pub placement_constraints: Vec<String>,
    /// A hard limit over all containers together, CPU units (1024 = one core).
    pub cpu_limit_units: Option<u32>,
    /// A hard limit over all containers together.
    pub memory_limit_mib: Option<u32>,
    /// `X86_64` or `ARM64`.
    pub cpu_architecture: Option<String>,
    /// All containers share one PID namespace (`pidMode: task`).
    pub share_pid: bool,
    /// The role that the containers' credentials are of.
    pub task_role_arn: Option<String>,
    /// The role that pulls images and writes logs.
    pub execution_role_arn: Option<String>,
    /// `family` and `revision`, for the metadata endpoint.
    pub family: String,
    /// See `family`.
    pub revision: u32,
}

/// Resources that placement reserves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Demand {
    /// CPU units (1024 = one core).
    pub cpu_units: u32,
    /// Memory.
    pub memory_mib: u32,
    /// Host ports that must be free, with protocol.
    pub host_ports: Vec<(u16, String)>,
}

/// ECS network modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum NetworkMode {
    /// A namespace and an interface of its own.
    #[default]
    Awsvpc,
    /// Each container a namespace behind the host's bridge.
    Bridge,
    /// The host's namespace.
    Host,
    /// Loopback only.
    None,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Its name, unique in the group.
    pub name: String,
    /// The image reference as the user wrote it.
    pub image: String,
    /// What the image's tag was found to stand for by the first task of a service's deployment: what this one pulls.
    #[serde(default)]
    pub image_digest: Option<String>,
    /// Whether each task finds out anew what the tag stands for (`versionConsistency: disabled`).
    #[serde(default)]
    pub follows_tag: bool,
    /// Replaces the image's `Cmd`.
    pub command: Option<Vec<String>>,
    /// Replaces the image's `Entrypoint`.
    pub entry_point: Option<Vec<String>>,
    /// Added to the image's environment, in order.
    pub environment: Vec<(String, String)>,
    /// Replaces the image's working directory.
    pub working_directory: Option<String>,
    /// Replaces the image's user: `user`, `user:group`, `uid`, `uid:gid`, `uid:group`, `user:gid`.
    pub user: Option<String>,
    /// CPU shares in CPU units (relative weight under the group's limit); 0 = the minimum of 2 shares.
    pub cpu_units: u32,
    /// A hard limit.
    pub memory_mib: Option<u32>,
    /// A soft limit.
    pub memory_reservation_mib: Option<u32>,
    /// The group stops when this container does.
    pub essential: bool,
    /// Ports it listens on.
    pub port_mappings: Vec<PortMapping>,
    /// Volumes mounted.
    pub mount_points: Vec<MountPoint>,
    /// Containers whose mounts are mounted here as well.
    pub volumes_from: Vec<VolumesFrom>,
    /// What must have happened before it starts.
    pub depends_on: Vec<Dependency>,
    /// A command that tells its health.
    pub health_check: Option<HealthCheck>,
    /// How long its dependencies may take to be met before it is given up, seconds.
    pub start_timeout_s: Option<u32>,
    /// Between SIGTERM and SIGKILL, seconds.
    pub stop_timeout_s: u32,
    /// Resource limits: name (`nofile`), soft, hard.
    pub ulimits: Vec<Ulimit>,
    /// The root filesystem is mounted read-only.
    pub readonly_root_filesystem: bool,
    /// All capabilities and devices.
    pub privileged: bool,
    /// Linux settings.
    pub linux: LinuxParameters,
    /// Kernel parameters of its namespaces (`net.core.somaxconn`).
    pub system_controls: Vec<(String, String)>,
    /// Where its output goes; `None` = nowhere but the node's own bounded buffer.
    pub log: Option<LogDestination>,
    /// Start it again when it exits.
    pub restart_policy: Option<RestartPolicy>,
    /// Its host name.
    pub hostname: Option<String>,
    /// Name servers instead of the node's own.
    pub dns_servers: Vec<String>,
    /// Search domains.
    pub dns_search_domains: Vec<String>,
    /// Extra lines of `/etc/hosts`: (host name, address).
    pub extra_hosts: Vec<(String, String)>,
    /// Docker labels, shown by the metadata endpoint.
    pub labels: BTreeMap<String, String>,
    /// Keep standard input open.
    pub interactive: bool,
    /// Allocate a pseudo terminal.
    pub pseudo_terminal: bool,
}

impl ContainerSpec {
    /// What is pulled: the image as it is named, by its digest where that is given.
    pub fn image_reference(&self) -> String {
        match &self.image_digest {
            Some(digest) => format!("{}@{digest}", self.image),
            None => self.image.clone(),
        }
    }

    /// Whether all tasks of a deployment are to have one image: it is named by a tag, which may move.
    pub fn is_resolved_once(&self) -> bool {
        !self.follows_tag && !self.image.contains('@')
    }
}

/// A port a container listens on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PortMapping {
    /// The container's port.
    pub container_port: u16,
    /// The host's port; 0 or absent in `bridge` mode = a free one from 32768–60999.
    pub host_port: Option<u16>,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The mapping's name.
    pub name: Option<String>,
    /// `http`, `http2` or `grpc`.
    pub app_protocol: Option<String>,
}

/// A volume of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name, unique in the group.
    pub name: String,
    /// What it is.
    pub source: VolumeSource,
}

/// What a volume is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeSource {
    /// An empty folder that lives as long as the group.
    Scratch,
    /// A folder of the host.
    Host {
        /// Its absolute path; created if absent, as the ECS agent does.
        path: String,
    },
    /// A Docker volume kept by the node.
    Named {
        /// The name on the node.
        name: String,
        /// Outlives the group (`scope: shared`).
        shared: bool,
        /// Created if absent.
        autoprovision: bool,
    },
}

/// A volume mounted in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// The volume's name.
    pub volume: String,
    /// An absolute path.
    pub container_path: String,
    /// Mounted read-only.
    pub read_only: bool,
}

/// All mounts of another container, mounted here as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumesFrom {
    /// The other container's name.
    pub container: String,
    /// Mounted read-only.
    pub read_only: bool,
}

/// What must have happened to another container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The other container's name.
    pub container: String,
    /// What must have happened.
    pub condition: Condition,
}

/// ECS `ContainerCondition`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// It has started.
    Start,
    /// It has exited.
    Complete,
    /// It has exited with code 0.
    Success,
    /// Its health check passes.
    Healthy,
}

/// A command run in the container; exit code 0 is healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// The program and its arguments (`CMD-SHELL x` is compiled to `/bin/sh -c x`).
    pub command: Vec<String>,
    /// Between checks.
    pub interval_s: u32,
    /// A check that takes longer has failed.
    pub timeout_s: u32,
    /// Failures in a row until unhealthy.
    pub retries: u32,
    /// Failures in this time after the start do not count.
    pub start_period_s: u32,
}

/// A resource limit (`setrlimit(2)`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, `nproc`, `core`, …
    pub name: String,
    /// The soft limit.
    pub soft: i64,
    /// The hard limit.
    pub hard: i64,
}

impl Ulimit {
    /// The kernel's limits as ECS names them.
    pub const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
}

/// ECS `linuxParameters`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LinuxParameters {
    /// An init process reaps children and forwards signals.
    pub init: bool,
    /// Capabilities added to the default set, without `CAP_`.
    pub cap_add: Vec<String>,
    /// Capabilities taken from the default set, or `ALL`.
    pub cap_drop: Vec<String>,
    /// Size of `/dev/shm`.
    pub shared_memory_mib: Option<u32>,
    /// tmpfs mounts: path, size in MiB, options.
    pub tmpfs: Vec<(String, u32, Vec<String>)>,
    /// Devices: host path, container path, permissions (`r`, `w`, `m`).
    pub devices: Vec<(String, String, String)>,
    /// Memory plus swap limit: `maxSwap`; 0 = none.
    pub max_swap_mib: Option<u32>,
    /// 0–100.
    pub swappiness: Option<u8>,
}

/// Where a container's output goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogDestination {
    /// CloudWatch Logs (`awslogs`).
    Awslogs {
        /// The log group.
        group: String,
        /// The region.
        region: String,
        /// The stream is `prefix/container/task-id`.
        stream_prefix: String,
        /// Create the group if absent.
        create_group: bool,
        /// `awslogs-datetime-format` or `awslogs-multiline-pattern`, as a regular expression.
        multiline_pattern: Option<String>,
        /// When the buffer is full, `non-blocking` (true) drops the oldest; `blocking` has the container wait.
        non_blocking: bool,
        /// `max-buffer-size`.
        max_buffer_bytes: Option<u64>,
    },
    /// Nothing is kept (`none`).
    Discard,
}

/// ECS `restartPolicy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// Exit codes that do not restart it.
    pub ignored_exit_codes: Vec<i32>,
    /// It must have run this long before it is started again.
    pub attempt_period_s: u32,
}
