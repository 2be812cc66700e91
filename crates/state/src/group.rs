//! Container groups: what a task and a pod both are. Containers that share a node, a network namespace and volumes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::record::{Record, Table};
use crate::{Scope, Tags, TimeMs};

mod spec;
mod status;

pub use spec::*;
pub use status::*;

/// A task or a pod: what is wanted of it, where it is, and what its node saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerGroup {
    /// Account and region.
    pub scope: Scope,
    /// The cluster's name.
    pub cluster: String,
    /// 32 hexadecimal digits: a task's id.
    pub id: String,
    /// What created it and what its API shows. Written at creation.
    pub source: Source,
    /// The key of its [`SpecRecord`].
    pub spec: String,
    /// Writer: handlers and controllers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub desired: Desired,
    /// Writer: placement.
    pub placement: Placement,
    /// Writer: the targets controller.
    #[serde(default, skip_serializing_if = "is_default")]
    pub traffic: Traffic,
    /// Writer: the node's agent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub observed: Observed,
    /// When the group was created.
    pub created_at_ms: TimeMs,
}

impl ContainerGroup {
    /// The record key of a group: `account/region/cluster/id`.
    pub fn key_of(scope: &Scope, cluster: &str, id: &str) -> String {
        scope.key(&format!("{cluster}/{id}"))
    }

    /// What the index `listed` has of this group.
    fn listed(&self) -> String {
        let (task, desired) = (self.task(), self.desired_status());
        let (family, kind) = (task.family(), task.launch_kind());
        let counted = match self.status() {
            TaskStatus::Running => "RUNNING",
            TaskStatus::Provisioning | TaskStatus::Pending | TaskStatus::Activating => "PENDING",
            _ => "ENDING",
        };
        self.scope.key(&format!("{}/{desired}/{family}/{kind}/{counted}", self.cluster))
    }

    /// The task's ARN.
    pub fn task_arn(&self) -> String {
        self.scope.arn("ecs", &format!("task/{}/{}", self.cluster, self.id))
    }

    /// The task that this group is.
    pub fn task(&self) -> &TaskSource {
        let Source::Task(task) = &self.source;
        task
    }

    /// The node it was placed on.
    pub fn node(&self) -> Option<&str> {
        match &self.placement {
            Placement::Placed { node, .. } => Some(node),
            Placement::Unplaced { .. } => None,
        }
    }

    /// Its network interface, if it has one of its own.
    pub fn attachment(&self) -> Option<&Attachment> {
        match &self.placement {
            Placement::Placed { attachment, .. } => attachment.as_deref(),
            Placement::Unplaced { .. } => None,
        }
    }

    /// Whether its targets and names have yet to come, because it runs, or to go, because it stops.
    pub fn traffic_moves(&self) -> bool {
        let comes = self.observed.phase == Phase::Running && self.traffic.activated_at_ms.is_none();
        (comes || self.is_stopping()) && self.traffic.deactivated_at_ms.is_none()
    }

    /// Whether it is over: nothing of it is left on its node.
    pub fn is_stopped(&self) -> bool {
        self.observed.phase == Phase::Gone
    }
}

impl Record for ContainerGroup {
    const TABLE: u8 = 7;

    fn key(&self) -> String {
        Self::key_of(&self.scope, &self.cluster, &self.id)
    }

    /// `node`: node id, while not stopped. `service`: key of the owning service. `deployment`: id of the service
    /// deployment. `ip`: `subnet-id|address`; `subnet`: its id; `security-group`: each id; these three while not
    /// stopped. `spec`: the spec's key. `stopped`: when, in milliseconds of 20 digits. `held`: `task group|node id`,
    /// while it is to run, only counted. `traffic`: constant `1`, while its targets have yet to come or to go.
    /// `listed`: what lists of tasks are narrowed to and clusters count, each a segment below the cluster's: desired
    /// status, family, kind of launch, and RUNNING, PENDING (all on the way to RUNNING) or ENDING.
    fn indexes(&self) -> Vec<(&'static str, String)> {
        let mut indexes = vec![("spec", self.spec.clone())];
        if self.is_stopped() {
            let at_ms = self.observed.stopped_at_ms.unwrap_or(self.created_at_ms);
            indexes.push(("stopped", format!("{at_ms:020}")));
        } else {
            indexes.extend(self.node().map(|node| ("node", node.to_owned())));
            if let Some(a) = self.attachment() {
                indexes.push(("ip", format!("{}|{}", a.subnet_id, a.private_ip)));
                indexes.push(("subnet", a.subnet_id.clone()));
                indexes.extend(self.task().security_groups.iter().map(|id| ("security-group", id.clone())));
            }
        }
        let task = self.task();
        indexes.push(("listed", self.listed()));
        let is_stopping = self.is_stopping();
        if let Some(node) = self.node().filter(|_| !is_stopping) {
            indexes.push(("held", format!("{}|{node}", task.group)));
        }
        if self.traffic_moves() {
            indexes.push(("traffic", "1".into()));
        }
        if let Some(token) = &task.client_token {
            indexes.push(("token", format!("{}|{token}", self.scope.key(&self.cluster))));
        }
        if let Some(service) = &task.service {
            indexes.push(("service", service.key.clone()));
            indexes.push(("deployment", service.deployment_id.clone()));
        }
        indexes
    }

    const COUNTED: &'static [&'static str] = &["held"];

    fn share(&mut self, table: &Table<Self>) {
        let Some(other) = table.by_index("spec", &self.spec).next() else { return };
        let (Source::Task(own), Source::Task(shared)) = (&mut self.source, &other.source);
        if own == shared {
            *own = shared.clone();
        }
    }
}

impl Table<ContainerGroup> {
    /// How many groups are not stopped.
    pub fn live(&self) -> usize {
        self.len() - self.index_values("stopped", "").map(|(_, count)| count).sum::<usize>()
    }
}

/// Left out of what is written: most groups have most fields empty.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What created a group. Pods join with the Kubernetes API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Source {
    /// An ECS task. Tasks that are alike share it.
    Task(Arc<TaskSource>),
}

/// What an ECS task shows of its making. Field names as in the ECS API's `Task`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskSource {
    /// `arn:aws:ecs:…:task-definition/family:revision`.
    #[serde(skip_serializing_if = "is_default")]
    pub task_definition_arn: String,
    /// `FARGATE` or `EC2`, empty if a capacity provider was given.
    #[serde(skip_serializing_if = "is_default")]
    pub launch_type: String,
    /// `FARGATE` or `FARGATE_SPOT`, if a capacity provider was given.
    #[serde(skip_serializing_if = "is_default")]
    pub capacity_provider: Option<String>,
    /// `family:name` or `service:name` or what the caller gave.
    #[serde(skip_serializing_if = "is_default")]
    pub group: String,
    /// Who started it: the caller's text, or the service deployment's id.
    #[serde(skip_serializing_if = "is_default")]
    pub started_by: Option<String>,
    /// The owning service.
    #[serde(skip_serializing_if = "is_default")]
    pub service: Option<ServiceOwner>,
    /// The overrides as given, in the JSON of the ECS API, to be shown again.
    #[serde(skip_serializing_if = "is_default")]
    pub overrides: Option<serde_json::Value>,
    /// The Fargate platform version shown, such as `1.4.0`.
    #[serde(skip_serializing_if = "is_default")]
    pub platform_version: Option<String>,
    /// Whether ECS Exec was enabled.
    #[serde(skip_serializing_if = "is_default")]
    pub enable_execute_command: bool,
    /// Security groups of its network interface.
    #[serde(skip_serializing_if = "is_default")]
    pub security_groups: Vec<String>,
    /// The caller's idempotency token, if any.
    #[serde(skip_serializing_if = "is_default")]
    pub client_token: Option<String>,
    /// Tags of the task.
    #[serde(skip_serializing_if = "is_default")]
    pub tags: Tags,
    /// Target groups it is to be registered with.
    #[serde(skip_serializing_if = "is_default")]
    pub load_balancers: Vec<crate::ecs::ServiceLoadBalancer>,
    /// Cloud Map services it is to be registered with.
    #[serde(skip_serializing_if = "is_default")]
    pub registries: Vec<crate::ecs::ServiceRegistry>,
}

impl TaskSource {
    /// Whether it runs on Fargate, by launch type or by capacity provider: no container instance then shows it.
    pub fn is_fargate(&self) -> bool {
        self.launch_type == "FARGATE" || self.capacity_provider.is_some()
    }

    /// `FARGATE` or `EC2`, as lists of tasks and counts of clusters know them.
    pub fn launch_kind(&self) -> &'static str {
        if self.is_fargate() { "FARGATE" } else { "EC2" }
    }

    /// The family of its task definition.
    pub fn family(&self) -> &str {
        let name = self.task_definition_arn.rsplit('/').next().unwrap_or_default();
        name.split(':').next().unwrap_or_default()
    }
}

/// Which service, and which of its deployments, owns a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceOwner {
    /// The service record's key.
    pub key: String,
    /// The service's name.
    pub name: String,
    /// `ecs-svc/…`.
    pub deployment_id: String,
}

/// What is wanted of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Desired {
    /// Run it.
    #[default]
    Run,
    /// Stop it, for this cause.
    Stop(StopCause),
}

/// Why a group stops. The first cause stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopCause {
    /// The stop code.
    pub code: StopCode,
    /// The `stoppedReason`, in ECS's words.
    pub reason: String,
    /// When it was decided.
    pub at_ms: TimeMs,
}

/// ECS `stopCode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopCode {
    /// It could not be started (an image that cannot be pulled, a network that cannot be made).
    TaskFailedToStart,
    /// An essential container exited.
    EssentialContainerExited,
    /// StopTask was called.
    UserInitiated,
    /// A service's scheduler stopped it.
    ServiceSchedulerInitiated,
    /// The node went away.
    TerminationNotice,
}

impl StopCode {
    /// The text shown by the API.
    pub fn as_str(self) -> &'static str {
        match self {
            StopCode::TaskFailedToStart => "TaskFailedToStart",
            StopCode::EssentialContainerExited => "EssentialContainerExited",
            StopCode::UserInitiated => "UserInitiated",
            StopCode::ServiceSchedulerInitiated => "ServiceSchedulerInitiated",
            StopCode::TerminationNotice => "TerminationNotice",
        }
    }
}

/// Where a group is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// Nowhere yet.
    Unplaced {
        /// Since when.
        since_ms: TimeMs,
        /// Why, for people.
        why: String,
    },
    /// On a node.
    Placed {
        /// The node's id.
        node: String,
        /// Its own network interface (`awsvpc`).
        attachment: Option<Box<Attachment>>,
    },
}

/// A group's elastic network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// A UUID: the attachment's id.
    pub id: String,
    /// `eni-…`.
    pub eni_id: String,
    /// `subnet-…`.
    pub subnet_id: String,
    /// The availability zone's name.
    pub availability_zone: String,
    /// The IPv4 address from the subnet.
    pub private_ip: std::net::Ipv4Addr,
    /// The hardware address.
    pub mac: String,
}

/// Whether a group's targets and names are where they must be before it counts as RUNNING, and gone before SIGTERM.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// Targets and instances were registered (or there are none): the task may be RUNNING.
    #[serde(skip_serializing_if = "is_default")]
    pub activated_at_ms: Option<TimeMs>,
    /// Targets were deregistered and drained (or there are none): the containers may be stopped.
    #[serde(skip_serializing_if = "is_default")]
    pub deactivated_at_ms: Option<TimeMs>,
}

/// How far the agent is with a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Phase {
    /// The agent has not seen it.
    #[default]
    Unseen,
    /// Network and volumes are made (ECS PROVISIONING).
    Provisioning,
    /// Images are pulled, containers are created (ECS PENDING).
    Pending,
    /// Every container that is to run has started (ECS ACTIVATING or RUNNING).
    Running,
    /// Containers are being stopped (ECS STOPPING).
    Stopping,
    /// Containers are over, network and volumes are being removed (ECS DEPROVISIONING).
    Deprovisioning,
    /// Nothing is left on the node (ECS STOPPED).
    Gone,
}

/// What the agent saw of a group. Written whole, by the agent only.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Observed {
    /// How far it is.
    #[serde(skip_serializing_if = "is_default")]
    pub phase: Phase,
    /// Why the agent itself ended the group, if it did (essential container exited, failed to start).
    #[serde(skip_serializing_if = "is_default")]
    pub stop: Option<StopCause>,
    /// One entry per container of the spec, in its order.
    #[serde(skip_serializing_if = "is_default")]
    pub containers: Vec<ContainerObserved>,
    /// When the network interface was attached.
    #[serde(skip_serializing_if = "is_default")]
    pub connectivity_at_ms: Option<TimeMs>,
    /// When the first pull began.
    #[serde(skip_serializing_if = "is_default")]
    pub pull_started_at_ms: Option<TimeMs>,
    /// When the last pull ended.
    #[serde(skip_serializing_if = "is_default")]
    pub pull_stopped_at_ms: Option<TimeMs>,
    /// When every container had started.
    #[serde(skip_serializing_if = "is_default")]
    pub started_at_ms: Option<TimeMs>,
    /// When stopping began.
    #[serde(skip_serializing_if = "is_default")]
    pub stopping_at_ms: Option<TimeMs>,
    /// When the last container had exited.
    #[serde(skip_serializing_if = "is_default")]
    pub execution_stopped_at_ms: Option<TimeMs>,
    /// When nothing was left.
    #[serde(skip_serializing_if = "is_default")]
    pub stopped_at_ms: Option<TimeMs>,
}

/// What the agent saw of one container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerObserved {
    /// The container's name in the spec.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// The API's container id (a UUID): last part of `containerArn`.
    #[serde(skip_serializing_if = "is_default")]
    pub id: String,
    /// The runtime's id.
    #[serde(skip_serializing_if = "is_default")]
    pub runtime_id: Option<String>,
    /// The digest that the image reference named when pulled.
    #[serde(skip_serializing_if = "is_default")]
    pub image_digest: Option<String>,
    /// Its state.
    #[serde(skip_serializing_if = "is_default")]
    pub state: ContainerState,
    /// Its health.
    #[serde(skip_serializing_if = "is_default")]
    pub health: Health,
    /// Host ports it is reached by (`bridge`, `host`).
    #[serde(skip_serializing_if = "is_default")]
    pub bindings: Vec<NetworkBinding>,
    /// How often its restart policy started it again.
    #[serde(skip_serializing_if = "is_default")]
    pub restart_count: u32,
}

/// The state of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ContainerState {
    /// Not started.
    #[default]
    Waiting,
    /// Running.
    Running {
        /// Since when.
        since_ms: TimeMs,
    },
    /// Over, or never to be started.
    Exited {
        /// The exit code, 128+n after signal n; `None` if it never ran.
        code: Option<i32>,
        /// Why, in ECS's words (`OutOfMemoryError: …`, `CannotPullContainerError: …`).
        reason: Option<String>,
        /// When.
        at_ms: TimeMs,
    },
}

/// ECS `healthStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Health {
    /// No check, or none has ended yet.
    #[default]
    Unknown,
    /// The last check passed.
    Healthy,
    /// `retries` checks in a row failed.
    Unhealthy,
}

impl Health {
    /// The text shown by the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "UNKNOWN",
            Health::Healthy => "HEALTHY",
            Health::Unhealthy => "UNHEALTHY",
        }
    }
}

/// A host port that leads to a container's port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkBinding {
    /// The address bound, `0.0.0.0`.
    pub bind_ip: String,
    /// The container's port.
    pub container_port: u16,
    /// The host's port.
    pub host_port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
}
